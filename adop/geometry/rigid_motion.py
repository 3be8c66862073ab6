"""Rotations and rigid motions: exponential and logarithm of tensors, and poses as numpy matrices.

Exponentials and logarithms are accurate near the angles 0 and pi, and differentiable everywhere but at pi.
"""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from adop.errors import UserError

Vector = Sequence[float] | np.ndarray | Tensor  # three numbers


def pose_centres(world_to_camera: Tensor) -> Tensor:
    """Return the camera centres [B, 3] in the world of poses [B, 4, 4]."""
    rotation, translation = world_to_camera[:, :3, :3], world_to_camera[:, :3, 3:]
    return -(rotation.transpose(1, 2) @ translation).squeeze(-1)


def skew(vector: Tensor) -> Tensor:
    """Return the cross-product matrices [..., 3, 3] of vectors [..., 3]."""
    x, y, z = vector.unbind(-1)
    zero = torch.zeros_like(x)
    rows = (zero, -z, y, z, zero, -x, -y, x, zero)
    return torch.stack(rows, -1).reshape(*vector.shape[:-1], 3, 3)


def _coefficients(rotation: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return sin(t)/t, (1-cos t)/t^2 and (t-sin t)/t^3 of rotation vectors, each [..., 1, 1]."""
    square = (rotation * rotation).sum(-1)[..., None, None]
    small = square < 0.05
    safe = torch.where(small, torch.ones_like(square), square)
    angle = safe.sqrt()
    s = torch.where(small, square, torch.zeros_like(square))  # keeps the series where it converges
    first = 1 - s / 6 * (1 - s / 20 * (1 - s / 42 * (1 - s / 72)))
    second = (1 - s / 12 * (1 - s / 30 * (1 - s / 56 * (1 - s / 90)))) / 2
    third = (1 - s / 20 * (1 - s / 42 * (1 - s / 72 * (1 - s / 110)))) / 6
    half = torch.sin(angle / 2)
    return (
        torch.where(small, first, torch.sin(angle) / angle),
        torch.where(small, second, 2 * half * half / safe),
        torch.where(small, third, (angle - torch.sin(angle)) / (safe * angle)),
    )


def so3_exp(rotation: Tensor) -> Tensor:
    """Return the rotation matrices [..., 3, 3] of rotation vectors [..., 3] in radians."""
    a, b, _ = _coefficients(rotation)
    k = skew(rotation)
    return torch.eye(3, dtype=rotation.dtype, device=rotation.device) + a * k + b * (k @ k)


def quaternion_from_matrix(matrix: Tensor) -> Tensor:
    """Return unit quaternions [..., 4], order w x y z with w >= 0, of rotation matrices [..., 3, 3]."""
    m = matrix
    trace = m[..., 0, 0] + m[..., 1, 1] + m[..., 2, 2]
    w = torch.stack(
        (1 + trace, m[..., 2, 1] - m[..., 1, 2], m[..., 0, 2] - m[..., 2, 0], m[..., 1, 0] - m[..., 0, 1]), -1
    )
    rows = [w]
    for i in range(3):
        j, k = (i + 1) % 3, (i + 2) % 3
        row = [m[..., k, j] - m[..., j, k], w[..., 0], w[..., 0], w[..., 0]]
        row[1 + i] = 1 + m[..., i, i] - m[..., j, j] - m[..., k, k]
        row[1 + j] = m[..., i, j] + m[..., j, i]
        row[1 + k] = m[..., i, k] + m[..., k, i]
        rows.append(torch.stack(row, -1))
    # All four rows are multiples of the same quaternion; the one with the largest diagonal is best conditioned.
    table = torch.stack(rows, -2)
    best = torch.diagonal(table, dim1=-2, dim2=-1).argmax(-1)
    row_best = torch.take_along_dim(table, best[..., None, None], -2).squeeze(-2)
    unit = row_best / row_best.norm(dim=-1, keepdim=True)
    return torch.where(unit[..., :1] < 0, -unit, unit)


def matrix_from_quaternion(quaternion: Tensor) -> Tensor:
    """Return the rotation matrices [..., 3, 3] of quaternions [..., 4], order w x y z, any length but 0."""
    w, x, y, z = (quaternion / quaternion.norm(dim=-1, keepdim=True)).unbind(-1)
    rows = (
        *(1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)),
        *(2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)),
        *(2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)),
    )
    return torch.stack(rows, -1).reshape(*quaternion.shape[:-1], 3, 3)


def so3_log(matrix: Tensor) -> Tensor:
    """Return the rotation vectors [..., 3], angles in [0, pi], of rotation matrices [..., 3, 3]."""
    quaternion = quaternion_from_matrix(matrix)
    w, v = quaternion[..., :1], quaternion[..., 1:]
    square = (v * v).sum(-1, keepdim=True)
    small = square < 1e-8
    length = torch.where(small, torch.ones_like(square), square).sqrt()
    factor = torch.where(small, 2 / w - 2 * square / (3 * w**3), 2 * torch.atan2(length, w) / length)
    return factor * v


def se3_exp(twist: Tensor) -> Tensor:
    """Return the rigid motions [..., 4, 4] of twists [..., 6], translation first."""
    translation, rotation = twist[..., :3], twist[..., 3:]
    a, b, c = _coefficients(rotation)
    k = skew(rotation)
    square = k @ k
    eye = torch.eye(3, dtype=twist.dtype, device=twist.device)
    top = torch.cat((eye + a * k + b * square, (eye + b * k + c * square) @ translation[..., None]), -1)
    bottom = torch.zeros_like(top[..., :1, :])
    bottom[..., 3] = 1
    return torch.cat((top, bottom), -2)


def se3_log(motion: Tensor) -> Tensor:
    """Return the twists [..., 6], translation first, of rigid motions [..., 4, 4]."""
    rotation = so3_log(motion[..., :3, :3])
    _, b, c = _coefficients(rotation)
    k = skew(rotation)
    left = torch.eye(3, dtype=motion.dtype, device=motion.device) + b * k + c * (k @ k)
    translation = torch.linalg.solve(left, motion[..., :3, 3:]).squeeze(-1)
    return torch.cat((translation, rotation), -1)


def rigid(rotation: np.ndarray, translation: np.ndarray) -> np.ndarray:
    """Return the rigid motion [4, 4] float64 of a rotation [3, 3] and a translation [3]."""
    matrix = np.eye(4)
    matrix[:3, :3], matrix[:3, 3] = rotation, translation
    return matrix


def invert_rigid(matrix: np.ndarray) -> np.ndarray:
    """Return the inverse of a rigid motion [4, 4]."""
    return rigid(matrix[:3, :3].T, -matrix[:3, :3].T @ matrix[:3, 3])


def rotation_from_quaternion(quaternion: Sequence[float] | np.ndarray, where: str) -> np.ndarray:
    """Return the rotation [3, 3] of a quaternion w x y z read from a file, its length corrected to 1.

    Args: where: what the error begins with, such as the file and the line.
    Raises: UserError where the quaternion is not finite or its length differs from 1 by more than 1 %.
    """
    from scipy.spatial.transform import Rotation

    values = np.asarray(quaternion, np.float64)
    length = float(np.linalg.norm(values))
    if not abs(length - 1.0) < 0.01:
        raise UserError(f"{where}: the rotation quaternion has length {length:.4g} instead of 1.")
    return Rotation.from_quat(np.roll(values, -1)).as_matrix()  # scipy's order is x y z w


def nearest_rotation(matrix: np.ndarray, where: str) -> np.ndarray:
    """Return the exact rotation [3, 3] next to one read from a file.

    Raises: UserError beginning with `where` for a matrix that differs from a rotation by more than 1 %.
    """
    with np.errstate(all="ignore"):
        error = np.abs(matrix.T @ matrix - np.eye(3)).max()
        if not error < 0.01 or np.linalg.det(matrix) < 0:
            raise UserError(f"{where}: its rotation matrix is not a rotation.")
    left, _, right = np.linalg.svd(matrix)
    return left @ right


def look_at_pose(eye: Vector, target: Vector, up: Vector) -> np.ndarray:
    """Return `world_to_camera` [4, 4] float64 of a camera at `eye` [3] that looks at `target` [3], `up` [3] on top.

    Raises: ValueError where one of them is not three finite numbers, eye and target coincide, or `up` is parallel to
        the viewing direction.
    """
    position, aim, upwards = (
        _point(values, name) for values, name in ((eye, "eye"), (target, "target"), (up, "up"))
    )
    forward = aim - position
    right = np.cross(forward, upwards)
    if not (np.linalg.norm(forward) > 1e-12 and np.linalg.norm(right) > 1e-9 * np.linalg.norm(forward)):
        raise ValueError("look_at: eye and target must differ, and up must not point along the view")
    forward, right = forward / np.linalg.norm(forward), right / np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return rigid(rotation, -rotation @ position)


def _point(values: Vector, name: str) -> np.ndarray:
    """Return three numbers as [3] float64. Raises: ValueError beginning with `name` where they are not that."""
    point = np.asarray(values.detach().cpu() if isinstance(values, Tensor) else values, np.float64)
    if point.shape != (3,) or not np.isfinite(point).all():
        raise ValueError(f"look_at: {name}: expected three finite numbers, got {values}")
    return point
