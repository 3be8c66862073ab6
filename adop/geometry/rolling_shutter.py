"""Rolling shutter: the rows of a photo are read out one after the other while the camera moves.

A photo's `motion` [6] is the twist (camera frame, translation first, scene units and radians) that the camera makes
from the first row to the last; the photo's pose is that of the middle row. Consider a point at p in camera space that
a camera at rest would see at row v of a full photo of height H. It is seen as if it were at
`p + s (translation + rotation x p)` at time `s = v / H - 1/2`, clamped to the time of the read-out, -1/2 to 1/2.
The model is of first order in the motion.
"""

import torch
from torch import Tensor


def row_time(row: Tensor, photo_height: Tensor) -> Tensor:
    """Return when rows of full photos are read out, from -1/2 (first row) to 1/2 (last row). **Gradients** none."""
    return (row.detach() / photo_height - 0.5).clamp(-0.5, 0.5)


def apply_motion(points: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    """Return where camera-space points [..., 3] are at times [...] of a motion [..., 6].

    **Gradients** exact to points and motion, none to the time. Written out so that all backends round alike.
    """
    x, y, z = points.unbind(-1)
    tx, ty, tz, rx, ry, rz = motion.unbind(-1)
    parts = (
        x + time * (tx + (ry * z - rz * y)),
        y + time * (ty + (rz * x - rx * z)),
        z + time * (tz + (rx * y - ry * x)),
    )
    return torch.stack(parts, -1)


def undo_motion(points: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    """Return the points [..., 3] that `apply_motion` takes to `points`: the exact inverse at a given time."""
    translation, rotation = motion[..., :3], motion[..., 3:]
    w = (time[..., None] * rotation).expand_as(points)
    q = points - time[..., None] * translation
    along = (w * q).sum(-1, keepdim=True)
    return (q - torch.linalg.cross(w, q) + w * along) / (1 + (w * w).sum(-1, keepdim=True))
