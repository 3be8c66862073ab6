"""Which photos share a lens, and a first guess of it, written to COLMAP's database."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from PIL import Image

from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.photo_files import CapturedPhotos
from adop.errors import UserError

if TYPE_CHECKING:
    import pycolmap

_EXIF_IFD, _MAKE, _MODEL = 0x8769, 0x010F, 0x0110
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

    @property
    def model(self) -> str:
        """COLMAP's name of the lens model."""
        if len(self.photos) >= _PHOTOS_FOR_OPENCV:
            return "OPENCV"
        return "RADIAL" if len(self.photos) >= _PHOTOS_FOR_RADIAL else "SIMPLE_RADIAL"


def group_cameras(photos: CapturedPhotos, config: CaptureConfig) -> list[CameraGroup]:
    """Return the groups of photos that share a lens, as the option `camera` asks.

    Raises: UserError where photos that are to share a lens differ in size.
    """
    if config.focal_length_px is not None and not config.focal_length_px > 0:
        raise UserError(f"--focal-length-px {config.focal_length_px}: expected a positive number.")
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


def write_cameras(groups: list[CameraGroup], photos: CapturedPhotos, database: pycolmap.Database) -> None:
    """Write cameras and photos into an empty database; photo i has the id i + 1, camera i as well."""
    import pycolmap

    camera_of: dict[int, pycolmap.Camera] = {}
    for number, group in enumerate(groups, 1):
        size = group.width, group.height
        camera = pycolmap.Camera.create_from_model_name(number, group.model, group.focal_length_px, *size)
        camera.has_prior_focal_length = group.known
        database.write_camera(camera, use_camera_id=True)
        rig = pycolmap.Rig(rig_id=number)
        rig.add_ref_sensor(camera.sensor_id)
        database.write_rig(rig, use_rig_id=True)
        camera_of |= dict.fromkeys(group.photos, camera)
    for number, name in enumerate(photos.names, 1):
        camera = camera_of[number - 1]
        image = pycolmap.Image(name=name, camera_id=camera.camera_id, image_id=number)
        database.write_image(image, use_image_id=True)
        frame = pycolmap.Frame(frame_id=number, rig_id=camera.camera_id)
        frame.add_data_id(image.data_id)
        database.write_frame(frame, use_frame_id=True)


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
    tags, more = _tags(file)
    own = [str(tags.get(tag, "")).strip("\0 ") for tag in (_MAKE, _MODEL)]
    return (*own, *(str(more.get(tag, "")).strip("\0 ") for tag in (_BODY_SERIAL, _LENS_MODEL, _LENS_SERIAL)))


def _exif_focal_length(file: Path, size: tuple[int, int]) -> float | None:
    """Return the focal length in pixels from the 35 mm equivalent, else as COLMAP finds it by its list of sensors."""
    import pycolmap

    try:
        equivalent = float(_tags(file)[1].get(_FOCAL_LENGTH_35) or 0)
    except (TypeError, ValueError, ZeroDivisionError):
        equivalent = 0.0
    if math.isfinite(equivalent) and 1 < equivalent < 5000:
        return equivalent / _DIAGONAL_35_MM * math.hypot(*size)
    camera = pycolmap.infer_camera_from_image(file)
    return float(camera.focal_length) if camera.has_prior_focal_length else None


def _tags(file: Path) -> tuple[dict, dict]:
    import warnings

    try:
        with warnings.catch_warnings(), Image.open(file) as image:
            warnings.simplefilter("ignore")  # damaged tags count as missing
            tags = image.getexif()
            return dict(tags), dict(tags.get_ifd(_EXIF_IFD))
    except (OSError, SyntaxError, ValueError):
        return {}, {}
