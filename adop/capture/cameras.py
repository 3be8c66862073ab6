"""Which photos share a lens, and a first guess of it, written to COLMAP's database."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.panoramas import view_rotations
from adop.capture.sources.photo_files import CapturedPhotos
from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.images.exif import read_tags

if TYPE_CHECKING:
    import pycolmap

_MAKE, _MODEL = 0x010F, 0x0110
_BODY_SERIAL, _LENS_MODEL, _LENS_SERIAL, _FOCAL_LENGTH_35 = 0xA431, 0xA434, 0xA435, 0xA405
_DIAGONAL_35_MM = math.hypot(36, 24)
_SAME_FOCAL_LENGTH = 0.02  # focal lengths within about this share count as one
_FOCAL_LENGTH_FACTOR = 1.2  # times the longer side, where EXIF tells nothing
_PHOTOS_FOR_OPENCV, _PHOTOS_FOR_RADIAL = 10, 3  # fewer photos cannot determine as many parameters


@dataclass(frozen=True)
class CameraGroup:
    """Photos that were taken with one lens."""

    photos: tuple[int, ...]  # indices into CapturedPhotos.names
    width: int
    height: int
    focal_length_px: float  # the first guess
    known: bool  # the guess comes from EXIF tags or from the user
    given: tuple[str, tuple[float, ...]] | None = None  # model and parameters of a known lens

    @property
    def model(self) -> str:
        """COLMAP's name of the lens model."""
        if self.given is not None:
            return self.given[0]
        if len(self.photos) >= _PHOTOS_FOR_OPENCV:
            return "OPENCV"
        return "RADIAL" if len(self.photos) >= _PHOTOS_FOR_RADIAL else "SIMPLE_RADIAL"


def group_cameras(photos: CapturedPhotos, config: CaptureConfig) -> list[CameraGroup]:
    """Return the groups of photos that share a lens, as the option `camera` asks.

    Raises: UserError where photos that are to share a lens differ in size.
    """
    if photos.views > 1:
        return _view_groups(photos)
    groups: dict[tuple, list[int]] = {}
    guesses = []
    for index, (file, name, size) in enumerate(zip(photos.files, photos.names, photos.sizes, strict=True)):
        focal = _exif_focal_length(file, size) if config.focal_length_px is None else config.focal_length_px
        guesses.append(focal)
        key: tuple = (name,)
        if config.camera == "shared":
            key = ()
        elif config.camera == "folder":
            key = (name.rpartition("/")[0],)
        elif config.camera == "auto":
            steps = None if focal is None else round(math.log(focal) / _SAME_FOCAL_LENGTH)
            key = (*_body(file), steps, size)
        groups.setdefault(key, []).append(index)
    return [_group(members, photos, guesses) for members in groups.values()]


def given_camera(lens: Lens, photos: Sequence[int]) -> CameraGroup:
    """Return the group of the photos that a known lens took; its parameters are those of the lens, not a guess.

    Raises: UserError for a lens that COLMAP has no model of.
    """
    if lens.model == "ocam":
        raise UserError(
            "COLMAP has no counterpart of an ocam lens, so that no points can be found in its photos; name a point cloud "
            "with --points."
        )
    model, params = "OPENCV_FISHEYE", [*lens.intrinsics, *lens.distortion]
    if lens.model == "opencv" and not lens.distortion.any():
        model, params = "PINHOLE", params[:4]
    elif lens.model == "opencv":
        model = "FULL_OPENCV" if lens.distortion[4:].any() else "OPENCV"
        params = params if model == "FULL_OPENCV" else params[:8]
    focal = float(lens.intrinsics[:2].mean())
    numbers = tuple(float(value) for value in params)
    return CameraGroup(tuple(photos), lens.width, lens.height, focal, True, (model, numbers))


def write_cameras(groups: list[CameraGroup], photos: CapturedPhotos, database: pycolmap.Database) -> None:
    """Write cameras and photos into an empty database; photo i has the id i + 1, camera i as well.

    The views of panoramas form a rig: they are taken from one place in known directions.
    """
    import pycolmap

    camera_of: dict[int, pycolmap.Camera] = {}
    for number, group in enumerate(groups, 1):
        size = group.width, group.height
        camera = pycolmap.Camera.create_from_model_name(number, group.model, group.focal_length_px, *size)
        if group.given is not None:
            camera.params = group.given[1]
        camera.has_prior_focal_length = group.known
        database.write_camera(camera, use_camera_id=True)
        camera_of |= dict.fromkeys(group.photos, camera)
    cameras = [camera_of[group.photos[0]] for group in groups]
    for rig in [_view_rig(cameras)] if photos.views > 1 else [_own_rig(camera) for camera in cameras]:
        database.write_rig(rig, use_rig_id=True)
    for first in range(0, len(photos.names), photos.views):
        frame = pycolmap.Frame(frame_id=photos.place(first) + 1, rig_id=camera_of[first].camera_id)
        for index in range(first, first + photos.views):
            camera_id = camera_of[index].camera_id
            image = pycolmap.Image(name=photos.names[index], camera_id=camera_id, image_id=index + 1)
            database.write_image(image, use_image_id=True)
            frame.add_data_id(image.data_id)
        database.write_frame(frame, use_frame_id=True)


def _own_rig(camera: pycolmap.Camera) -> pycolmap.Rig:
    import pycolmap

    rig = pycolmap.Rig(rig_id=camera.camera_id)
    rig.add_ref_sensor(camera.sensor_id)
    return rig


def _view_rig(cameras: list[pycolmap.Camera]) -> pycolmap.Rig:
    import pycolmap

    rig = _own_rig(cameras[0])
    for camera, rotation in list(zip(cameras, view_rotations(), strict=True))[1:]:
        rig.add_sensor(camera.sensor_id, pycolmap.Rigid3d(np.column_stack([rotation, np.zeros(3)])))
    return rig


def _view_groups(photos: CapturedPhotos) -> list[CameraGroup]:
    """Return the views of panoramas by their direction: a rig must not have the same camera twice."""
    side = photos.sizes[0][0]
    lens = Lens("opencv", side, side, np.full(4, 0.5 * side), np.zeros(8))
    return [given_camera(lens, range(view, len(photos.names), photos.views)) for view in range(photos.views)]


def _group(members: list[int], photos: CapturedPhotos, guesses: list[float | None]) -> CameraGroup:
    width, height = photos.sizes[members[0]]
    for index in members:
        if photos.sizes[index] != (width, height):
            other = photos.sizes[index]
            raise UserError(
                f"{photos.files[index]}: is {other[0]}x{other[1]} pixels, but {photos.names[members[0]]}, which is to "
                f"share its lens, is {width}x{height}; use --camera auto."
            )
    known = sorted(focal for index in members if (focal := guesses[index]) is not None)
    focal = known[len(known) // 2] if known else _FOCAL_LENGTH_FACTOR * max(width, height)
    return CameraGroup(tuple(members), width, height, focal, bool(known))


def _body(file: Path) -> tuple[str, ...]:
    """Return what EXIF tells about camera body and lens."""
    tags, more = read_tags(file)
    own = [str(tags.get(tag, "")).strip("\0 ") for tag in (_MAKE, _MODEL)]
    return (*own, *(str(more.get(tag, "")).strip("\0 ") for tag in (_BODY_SERIAL, _LENS_MODEL, _LENS_SERIAL)))


def _exif_focal_length(file: Path, size: tuple[int, int]) -> float | None:
    """Return the focal length in pixels from the 35 mm equivalent, else as COLMAP finds it by its list of sensors."""
    import pycolmap

    try:
        equivalent = float(read_tags(file)[1].get(_FOCAL_LENGTH_35) or 0)
    except (TypeError, ValueError, ZeroDivisionError):
        equivalent = 0.0
    if math.isfinite(equivalent) and 1 < equivalent < 5000:
        return equivalent / _DIAGONAL_35_MM * math.hypot(*size)
    camera = pycolmap.infer_camera_from_image(file)
    return float(camera.focal_length) if camera.has_prior_focal_length else None
