"""Read nerfstudio's (and instant-ngp's, and Blender's) transforms.json."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.scene.photo_cache import photo_size
from adop.scene.scene import Photo, invert_rigid, photo_file, rigid

_PINHOLE_MODELS = {"OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL"}
_FISHEYE_MODELS = {"OPENCV_FISHEYE", "FISHEYE"}
_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG")
_MAX_JSON_BYTES = 1 << 30


def read_transforms(path: Path, images: Path | None) -> tuple[list[Lens], list[Photo], Path | None]:
    """Read lenses and photos, sorted by name, and the PLY file that the JSON names, if any.

    Camera axes are turned from OpenGL's (y up, z back) to OpenCV's; the world stays as it is.

    Args: path: transforms.json or its folder; images: folder that file_path is relative to, else the JSON's.
    Raises: UserError naming the file and frame and what is wrong.
    """
    path = path / "transforms.json" if path.is_dir() else path
    data = _load(path)
    images = path.parent if images is None else images
    frames = data["frames"]
    lenses: dict[tuple, int] = {}
    kept: list[Lens] = []
    photos = []
    for number, frame in enumerate(frames):
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise UserError(f"{path}: frame {number} has no file_path.")
        where = f"{path}: frame {number} ({frame['file_path'][:200]})"
        file = _find(images, frame["file_path"], where)
        lens = _lens({**data, **frame}, file, where)
        key = (lens.model, lens.width, lens.height, *lens.intrinsics, *lens.distortion)
        if key not in lenses:
            lenses[key] = len(kept)
            kept.append(lens)
        mask = frame.get("mask_path")
        mask = _find(images, mask, where) if isinstance(mask, str) else None
        name = file.relative_to(images).as_posix()
        photos.append(Photo(file, lenses[key], _pose(frame, where), mask=mask, name=name))
    names = [photo.name for photo in photos]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: photo {twice!r} is listed twice.")
    cloud = data.get("ply_file_path")
    ply = photo_file(path.parent, cloud, str(path)) if isinstance(cloud, str) else None
    return kept, sorted(photos, key=lambda photo: photo.name), ply


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise UserError(f"{path}: is too large to be a transforms.json.")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error}).") from error
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list) or not data["frames"]:
        raise UserError(f"{path}: has no list of frames; is it a nerfstudio transforms.json?")
    return data


def _find(images: Path, name: str, where: str) -> Path:
    """A photo's file; Blender's files leave out the ending."""
    base = photo_file(images, name, where)
    for ending in _ENDINGS:
        file = base.with_name(base.name + ending)
        if file.is_file():
            return file
    raise UserError(f"{where}: {base} not found; paths are relative to {images}, --images changes that.")


def _pose(frame: dict[str, Any], where: str) -> np.ndarray:
    try:
        matrix = np.array(frame.get("transform_matrix"), dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: transform_matrix is not a 4x4 matrix of numbers.") from error
    if matrix.shape not in ((4, 4), (3, 4)) or not np.isfinite(matrix).all():
        raise UserError(f"{where}: transform_matrix is not a 4x4 matrix of finite numbers.")
    rotation = matrix[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 0.01 or np.linalg.det(rotation) < 0:
        raise UserError(f"{where}: transform_matrix is not a rotation and a translation.")
    left, _, right = np.linalg.svd(rotation)
    return invert_rigid(rigid((left @ right) * (1.0, -1.0, -1.0), matrix[:3, 3]))


def _lens(values: dict[str, Any], file: Path, where: str) -> Lens:
    def number(key: str, default: float | None = None) -> float:
        value = values.get(key, default)
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
            raise UserError(f"{where}: {key} is missing or no number.")
        return float(value)

    name = values.get("camera_model", "OPENCV_FISHEYE" if values.get("is_fisheye") else "OPENCV")
    if not isinstance(name, str) or name not in _PINHOLE_MODELS | _FISHEYE_MODELS:
        known = ", ".join(sorted(_PINHOLE_MODELS | _FISHEYE_MODELS))
        raise UserError(
            f"{where}: camera model {name} has no exact counterpart here; undistort, or use {known}."
        )
    if "w" in values and "h" in values:
        width, height = number("w"), number("h")
    else:
        width, height = photo_size(file)
    if "fl_x" in values:
        fx = number("fl_x")
        fy = number("fl_y", fx)
    else:
        fx = 0.5 * width / math.tan(0.5 * number("camera_angle_x"))
        fy = 0.5 * height / math.tan(0.5 * number("camera_angle_y")) if "camera_angle_y" in values else fx
    k1, k2, k3, k4, p1, p2 = (number(key, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2"))
    if name in _FISHEYE_MODELS:
        model, distortion = "fisheye", [k1, k2, k3, k4]
    elif k4 != 0:
        raise UserError(
            f"{where}: k4 multiplies r^8 there, which has no exact counterpart here; undistort first."
        )
    else:
        model, distortion = "opencv", [k1, k2, p1, p2, k3, 0.0, 0.0, 0.0]
    intrinsics = np.array([fx, fy, number("cx", width / 2), number("cy", height / 2)])
    try:
        return Lens(model, int(width), int(height), intrinsics, np.array(distortion))
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from error
