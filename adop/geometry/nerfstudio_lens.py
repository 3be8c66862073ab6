"""The cameras and poses of nerfstudio's `transforms.json` as ours; instant-ngp and Blender write the same format.

https://docs.nerf.studio/quickstart/data_conventions.html
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np

from adop.errors import UserError, quoted
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import invert_rigid, rigid

_PINHOLE_MODELS = {"OPENCV", "PINHOLE", "SIMPLE_PINHOLE", "PERSPECTIVE", "SIMPLE_RADIAL", "RADIAL"}
_FISHEYE_MODELS = {"OPENCV_FISHEYE", "FISHEYE"}


def nerfstudio_lens(values: Mapping[str, Any], size: tuple[int, int], where: str) -> Lens:
    """Return the lens that the keys of a frame (or of the whole file) describe.

    Args:
        values: fl_x fl_y cx cy (pixels), k1 k2 k3 k4 p1 p2, camera_model or is_fisheye, or camera_angle_x and
            camera_angle_y (radians) instead of the focal lengths; other keys are ignored.
        size: width and height of the photo in pixels.
        where: what the error begins with.

    Raises: UserError for keys that are missing or not numbers, and for models without an exact counterpart.
    """
    name = values.get("camera_model", "OPENCV_FISHEYE" if values.get("is_fisheye") else "OPENCV")
    if not isinstance(name, str) or name not in _PINHOLE_MODELS | _FISHEYE_MODELS:
        known = ", ".join(sorted(_PINHOLE_MODELS | _FISHEYE_MODELS))
        raise UserError(
            f"{where}: camera model {quoted(name)} has no exact counterpart in adop; "
            f"undistort the photos or use one of {known}."
        )
    k1, k2, k3, k4, p1, p2 = (
        _number(values, key, where, 0.0) for key in ("k1", "k2", "k3", "k4", "p1", "p2")
    )
    if name in _FISHEYE_MODELS:
        model, distortion = "fisheye", [k1, k2, k3, k4]
    elif k4 != 0:
        raise UserError(
            f"{where}: nerfstudio's k4 multiplies r^8, which has no exact counterpart in adop; undistort the photos."
        )
    else:
        model, distortion = "opencv", [k1, k2, p1, p2, k3, 0.0, 0.0, 0.0]
    width, height = size
    centre = _number(values, "cx", where, width / 2), _number(values, "cy", where, height / 2)
    intrinsics = np.array([*_focal_lengths(values, size, where), *centre])
    try:
        return Lens(model, width, height, intrinsics, np.array(distortion))
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from error


def nerfstudio_size(values: Mapping[str, Any], where: str) -> tuple[int, int] | None:
    """Return width and height in pixels as the keys w and h say, or None where one of them is missing."""
    if "w" not in values or "h" not in values:
        return None
    return int(_number(values, "w", where)), int(_number(values, "h", where))


def nerfstudio_pose(transform_matrix: Any, where: str) -> np.ndarray:
    """Return world_to_camera [4, 4] of a `transform_matrix` [4, 4] or [3, 4].

    The file holds camera to world, camera axes x right, y up, z back (OpenGL's). The world stays as it is.

    Raises: UserError beginning with `where` unless it is a rotation and a translation.
    """
    try:
        matrix = np.array(transform_matrix, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise UserError(f"{where}: transform_matrix is not a 4x4 matrix of numbers.") from error
    if matrix.shape not in ((4, 4), (3, 4)) or not (np.abs(matrix) < 1e18).all():
        raise UserError(
            f"{where}: transform_matrix is not a 4x4 matrix of finite numbers, none of them huge."
        )
    rotation = matrix[:3, :3]
    if np.abs(rotation.T @ rotation - np.eye(3)).max() > 0.01 or np.linalg.det(rotation) < 0:
        raise UserError(f"{where}: transform_matrix is not a rotation and a translation.")
    left, _, right = np.linalg.svd(rotation)  # left @ right is the nearest exact rotation
    return invert_rigid(rigid((left @ right) * (1.0, -1.0, -1.0), matrix[:3, 3]))


def _focal_lengths(values: Mapping[str, Any], size: tuple[int, int], where: str) -> tuple[float, float]:
    """Return fx and fy in pixels; where fy is missing it is fx."""
    width, height = size
    if "fl_x" in values:
        fx = _number(values, "fl_x", where)
        return fx, _number(values, "fl_y", where, fx)
    fx = 0.5 * width / _half_tangent(values, "camera_angle_x", where)
    if "camera_angle_y" not in values:
        return fx, fx
    return fx, 0.5 * height / _half_tangent(values, "camera_angle_y", where)


def _half_tangent(values: Mapping[str, Any], key: str, where: str) -> float:
    """Return the tangent of half an angle of view."""
    angle = _number(values, key, where)
    if not 1e-6 < angle < math.pi:
        raise UserError(f"{where}: {key} must be an angle between 0 and pi, not {angle:g}.")
    return math.tan(0.5 * angle)


def _number(values: Mapping[str, Any], key: str, where: str, default: float | None = None) -> float:
    value = values.get(key, default)
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise UserError(f"{where}: {key} is missing or not a number.")
    return float(value)
