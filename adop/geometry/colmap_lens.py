"""COLMAP's camera models and poses as ours: https://colmap.github.io/cameras.html."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import rigid, rotation_from_quaternion

# The models that have an exact counterpart: its name, and COLMAP's parameters in order. Those not named are zero.
EXACT_MODELS = {
    "SIMPLE_PINHOLE": ("opencv", "f cx cy"),
    "PINHOLE": ("opencv", "fx fy cx cy"),
    "SIMPLE_RADIAL": ("opencv", "f cx cy k1"),
    "RADIAL": ("opencv", "f cx cy k1 k2"),
    "OPENCV": ("opencv", "fx fy cx cy k1 k2 p1 p2"),
    "FULL_OPENCV": ("opencv", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    "SIMPLE_FISHEYE": ("fisheye", "f cx cy"),
    "FISHEYE": ("fisheye", "fx fy cx cy"),
    "SIMPLE_RADIAL_FISHEYE": ("fisheye", "f cx cy k1"),
    "RADIAL_FISHEYE": ("fisheye", "f cx cy k1 k2"),
    "OPENCV_FISHEYE": ("fisheye", "fx fy cx cy k1 k2 k3 k4"),
}
_DISTORTION_ORDER = {"opencv": "k1 k2 p1 p2 k3 k4 k5 k6", "fisheye": "k1 k2 k3 k4"}


def colmap_lens(model: str, width: int, height: int, params: Sequence[float], where: str) -> Lens:
    """Return the lens of a COLMAP camera, which it reproduces exactly.

    Args: model, width, height, params: as in `cameras.txt`; where: what the error begins with.
    Raises: UserError for a model without an exact counterpart, and for impossible numbers.
    """
    if model not in EXACT_MODELS:
        raise UserError(
            f"{where}: camera model {model} has no exact counterpart in adop; undistort the photos "
            f"(colmap image_undistorter) or use one of {', '.join(EXACT_MODELS)}."
        )
    kind, names = EXACT_MODELS[model]
    if len(params) != len(names.split()):
        raise UserError(f"{where}: {model} has {len(names.split())} parameters, got {len(params)}.")
    values = dict(zip(names.split(), params, strict=True))
    focal = values.get("f", 0.0)
    intrinsics = [values.get("fx", focal), values.get("fy", focal), values["cx"], values["cy"]]
    distortion = [values.get(name, 0.0) for name in _DISTORTION_ORDER[kind].split()]
    try:
        return Lens(kind, width, height, np.array(intrinsics), np.array(distortion))
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from error


def colmap_pose(rotation: Sequence[float], translation: Sequence[float], where: str) -> np.ndarray:
    """Return world_to_camera [4, 4] of a quaternion QW QX QY QZ and a translation TX TY TZ as in `images.txt`.

    Raises: UserError beginning with `where` for a quaternion whose length is not 1.
    """
    return rigid(rotation_from_quaternion(rotation, where), np.asarray(translation, np.float64))
