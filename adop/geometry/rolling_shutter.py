"""Rolling shutter: a photo whose rows are taken one after the other while its camera moves.

A photo's `motion` [6] is the twist (camera frame, translation first, scene units and radians) that its camera makes
from its first to its last row; its pose is that of the middle row. A point at p in camera space, that the still camera
sees at row v of a whole photo of height H, is seen as if it were at `p + s (translation + rotation x p)`, with the
time `s = v / H - 1/2`, held to what is read out: -1/2 to 1/2. First order in the motion: that is the model.
"""

import torch
from torch import Tensor


def row_time(row: Tensor, photo_height: Tensor) -> Tensor:
    """Return when rows of whole photos are read out, from -1/2 (the first) to 1/2 (the last); no gradients."""
    return (row.detach() / photo_height - 0.5).clamp(-0.5, 0.5)


def moved(points: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    """Return where camera-space points [..., 3] are at times [...] of a motion [..., 6].

    **Gradients** exact to points and motion, none to the time. Written out so that every backend rounds alike.
    """
    x, y, z = points.unbind(-1)
    tx, ty, tz, rx, ry, rz = motion.unbind(-1)
    parts = (
        x + time * (tx + (ry * z - rz * y)),
        y + time * (ty + (rz * x - rx * z)),
        z + time * (tz + (rx * y - ry * x)),
    )
    return torch.stack(parts, -1)


def unmoved(points: Tensor, motion: Tensor, time: Tensor) -> Tensor:
    """Return the points [..., 3] that `moved` takes to `points`: its inverse, exact at a given time."""
    translation, rotation = motion[..., :3], motion[..., 3:]
    w = (time[..., None] * rotation).expand_as(points)
    q = points - time[..., None] * translation
    along = (w * q).sum(-1, keepdim=True)
    return (q - torch.linalg.cross(w, q) + w * along) / (1 + (w * w).sum(-1, keepdim=True))
