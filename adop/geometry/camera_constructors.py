"""Cameras from what one has: a focal length, a place to look at, COLMAP's numbers, nerfstudio's numbers.

The same functions are class methods of `adop.Camera`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adop.geometry.camera import Camera


def from_intrinsics(
    width: int,
    height: int,
    focal: float | tuple[float, float],
    world_to_camera: Tensor | np.ndarray | None = None,
    centre: tuple[float, float] | None = None,
    distortion: Sequence[float] = (),
) -> Camera:
    """Make cameras of one lens.

    Args:
        width, height: pixels.
        focal: pixels; one for both directions, or (fx, fy).
        world_to_camera: [4, 4] or [B, 4, 4], x right, y down, z forward; left out: at the origin, along +z.
        centre: cx, cy in pixels, where the first pixel's centre is (0.5, 0.5); left out: the middle.
        distortion: up to 8 of OpenCV's k1 k2 p1 p2 k3 k4 k5 k6.

    Returns: B cameras. Raises: ValueError for a pose that is not rigid, or a focal length that is not positive.
    """
    fx, fy = focal if isinstance(focal, tuple) else (focal, focal)
    if not (0 < fx < math.inf and 0 < fy < math.inf):
        raise ValueError(f"focal: expected positive pixels, got {focal}")
    if len(distortion) > 8:
        raise ValueError(f"distortion: expected at most 8 numbers, got {len(distortion)}")
    pose = torch.as_tensor(np.eye(4) if world_to_camera is None else world_to_camera, dtype=torch.float64)
    pose = pose.reshape(-1, 4, 4) if pose.dim() == 2 else pose
    _check_rigid(pose)
    cx, cy = centre or (width / 2, height / 2)
    views = len(pose)
    lens = torch.zeros(views, 8)
    lens[:, : len(distortion)] = torch.tensor(list(distortion))
    intrinsics = torch.tensor([[fx, fy, cx, cy]], dtype=torch.float32).repeat(views, 1)
    return Camera("opencv", width, height, intrinsics, lens, pose.float())


def look_at(
    eye: Sequence[float],
    target: Sequence[float],
    up: Sequence[float] = (0.0, 0.0, 1.0),
    width: int = 960,
    height: int = 540,
    fov: float = 50.0,
) -> Camera:
    """Make a camera at `eye` that sees `target` in the middle of its picture.

    Args:
        eye, target: world coordinates, scene units.
        up: world direction that is up in the picture; `run.scene.up_vector` for a scene's own.
        fov: vertical field of view, degrees.

    Raises: ValueError where eye and target are one, or `up` points along the view.
    """
    return from_intrinsics(
        width, height, height / 2 / math.tan(math.radians(fov) / 2), look_at_pose(eye, target, up)
    )


def look_at_pose(eye: Sequence[float], target: Sequence[float], up: Sequence[float]) -> np.ndarray:
    """Return `world_to_camera` [4, 4] float64 of a camera at `eye` that looks at `target`."""
    position = np.asarray(eye, np.float64)
    forward = np.asarray(target, np.float64) - position
    right = np.cross(forward, np.asarray(up, np.float64))
    if not (np.linalg.norm(forward) > 1e-12 and np.linalg.norm(right) > 1e-9 * np.linalg.norm(forward)):
        raise ValueError("look_at: eye and target must differ, and up must not point along the view")
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    pose = np.eye(4)
    pose[:3, :3] = np.stack([right, np.cross(forward, right), forward])
    pose[:3, 3] = -pose[:3, :3] @ position
    return pose


def from_colmap(
    model: str,
    width: int,
    height: int,
    params: Sequence[float],
    rotation: Sequence[float] = (1.0, 0.0, 0.0, 0.0),
    translation: Sequence[float] = (0.0, 0.0, 0.0),
) -> Camera:
    """Make a camera of a row of COLMAP's `cameras.txt` and one of its `images.txt`.

    Args:
        model, width, height, params: as in `cameras.txt`, e.g. "OPENCV", 800, 600, [fx, fy, cx, cy, k1, k2, p1, p2].
        rotation: quaternion QW QX QY QZ; translation: TX TY TZ: world to camera.

    Raises: UserError for a model that has no exact counterpart here.
    """
    from adop.errors import UserError
    from adop.importers.colmap import SIZES, ColmapCamera, lens_of
    from adop.scene.scene import rigid, rotation_of

    if len(params) != SIZES.get(model, len(params)):
        raise UserError(f"from_colmap: {model} has {SIZES[model]} parameters, got {len(params)}")

    lens = lens_of(ColmapCamera(model, width, height, tuple(params)), "from_colmap")
    w, x, y, z = rotation
    pose = rigid(rotation_of(np.array([x, y, z, w]), "from_colmap"), np.asarray(translation, np.float64))
    return _of_lens(lens, pose)


def from_nerfstudio(
    transform_matrix: Sequence[Sequence[float]] | np.ndarray, width: int, height: int, **values: Any
) -> Camera:
    """Make a camera of a frame of nerfstudio's `transforms.json`.

    Args:
        transform_matrix: [4, 4] camera to world, x right, y up, z back, as in the file.
        values: the file's own names: fl_x fl_y cx cy (pixels), k1 k2 k3 p1 p2, camera_model, or camera_angle_x
            (radians) in place of fl_x.

    Raises: UserError for what is missing or has no exact counterpart here.
    """
    from pathlib import Path

    from adop.importers.nerfstudio import _lens, _pose

    pose = _pose({"transform_matrix": transform_matrix}, "from_nerfstudio")
    return _of_lens(_lens({**values, "w": width, "h": height}, Path(), "from_nerfstudio"), pose)


def _of_lens(lens: Any, pose: np.ndarray) -> Camera:
    def row(values: np.ndarray) -> Tensor:
        return torch.as_tensor(np.asarray(values), dtype=torch.float32)[None]

    return Camera(lens.model, lens.width, lens.height, row(lens.intrinsics), row(lens.distortion), row(pose))


def _check_rigid(pose: Tensor) -> None:
    rotation = pose[:, :3, :3]
    error = (rotation @ rotation.transpose(1, 2) - torch.eye(3, dtype=pose.dtype)).abs().amax()
    if pose.shape[1:] != (4, 4) or not float(error) < 1e-3 or bool((torch.linalg.det(rotation) < 0).any()):
        raise ValueError("world_to_camera: expected a rotation and a translation, [4, 4] or [B, 4, 4]")
