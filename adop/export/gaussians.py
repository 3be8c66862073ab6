"""The points of a run as small flat Gaussians, in the PLY layout of 3D Gaussian splatting.

Source: Kerbl, Kopanas, Leimkühler and Drettakis 2023, and the files that their program writes.
"""

from __future__ import annotations

import numpy as np

from adop.export.points import ExportedPoints
from adop.geometry.nearest_points import nearest_points
from adop.scene.ply import SH_C0

SH_C1 = 0.4886025119029199  # spherical harmonics of the first order, sqrt(3 / (4 pi))
HIGHER = 15  # coefficients of a channel of the orders 1 to 3, which some viewers insist on
OPACITY = 0.95
FLATNESS = 0.1  # thickness of a Gaussian relative to its width
NEIGHBOURS = 4
MAX_RATIO = 3.0  # of a point's spacing to that of its neighbours


def gaussian_columns(points: ExportedPoints, size: float) -> list[tuple[str, np.ndarray]]:
    """Return the columns [N] f32 of the Gaussians in a PLY file.

    A Gaussian lies flat on the surface, or is round where there are no normals. Its colour depends on the direction as
    the point's does, to first order.

    Args: size: standard deviation along the surface, in distances to the point's 4th neighbour.
    """
    count = len(points.xyz)
    width = np.log(size * point_spacing(points.xyz))
    if points.normals is None:
        normals, thickness = np.broadcast_to(0.0, (count, 3)), width
    else:
        normals, thickness = points.normals, width + np.log(FLATNESS)
    constant, first_order = harmonic_coefficients(points)
    zero = np.broadcast_to(np.float32(0), count)
    rest = [first_order[:, c, k] if k < 3 else zero for c in range(3) for k in range(HIGHER)]
    logit = np.float32(np.log(OPACITY / (1 - OPACITY)))
    return [
        *_named("x y z", points.xyz),
        *_named("nx ny nz", normals),
        *_named("f_dc_0 f_dc_1 f_dc_2", constant),
        *((f"f_rest_{index}", values) for index, values in enumerate(rest)),
        ("opacity", np.broadcast_to(logit, count)),
        *_named("scale_0 scale_1 scale_2", np.stack((width, width, thickness), axis=1)),
        *_named("rot_0 rot_1 rot_2 rot_3", normal_rotations(normals)),
    ]


def _named(names: str, values: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the columns of values [N,C] in single precision, each with its name."""
    return [(name, values[:, index].astype(np.float32)) for index, name in enumerate(names.split())]


def point_spacing(xyz: np.ndarray) -> np.ndarray:
    """Return how far apart the points are around each of [N,3], scene units, above 0: the distance to its 4th neighbour.

    That of a point alone beside a dense surface is limited by those of its neighbours: its disc would hide them.
    """
    from scipy.spatial import cKDTree

    neighbours = min(NEIGHBOURS, len(xyz) - 1)
    if neighbours < 1:
        return np.ones(len(xyz))
    distance, index = nearest_points(cKDTree(xyz), xyz, 1 + neighbours)
    own = distance[:, -1]
    limited = np.minimum(own, MAX_RATIO * np.median(own[index[:, 1:]], axis=1))
    return np.maximum(limited, max(1e-6 * float(np.median(own)), 1e-12))


def harmonic_coefficients(points: ExportedPoints) -> tuple[np.ndarray, np.ndarray]:
    """Return the spherical harmonics of the colours: the constant ones [N,3], those of the first order [N,3,3] f32.

    With (x, y, z) the direction from the camera, a channel is 0.5 + C0 f_dc + C1 (-y f_0 + z f_1 - x f_2).
    """
    colours = points.colours
    if points.slopes is None or points.directions is None:
        return (colours - 0.5) / SH_C0, np.broadcast_to(np.float32(0), (len(colours), 3, 3))
    constant = colours - np.einsum("nca,na->nc", points.slopes, points.directions)
    signs = np.array([-1, 1, -1], np.float32) / np.float32(SH_C1)
    return (constant - 0.5) / SH_C0, points.slopes[:, :, [1, 2, 0]] * signs


def normal_rotations(normals: np.ndarray) -> np.ndarray:
    """Return unit quaternions [N,4], order w x y z, that turn the z axis into normals [N,3] or their opposites."""
    upward = np.where(normals[:, 2:] < 0, -1.0, 1.0) * normals
    zero = np.zeros(len(upward))
    quaternion = np.stack((1 + upward[:, 2], -upward[:, 1], upward[:, 0], zero), axis=1)
    return quaternion / np.linalg.norm(quaternion, axis=1, keepdims=True)
