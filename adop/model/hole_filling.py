"""Holes of the finest level filled from coarser levels: the points in their own colours, and their depth."""

from __future__ import annotations

import torch
from torch import Tensor

from adop.ops import Backend, Levels
from adop.ops import hole_filling as ops
from adop.ops.hole_filling import FilledPyramid, HoleFillingSettings, upsample

OCCLUSION_LEVELS = 3  # finest levels, in which points may be seen through gaps in nearer surfaces


def fill_holes(
    levels: Levels,
    background: list[Tensor] | None,
    fill_levels: int,
    tolerance: float,
    backend: Backend = "auto",
) -> FilledPyramid:
    """Return the hole-filled points.

    From the coarsest level to the finest, a level shows its own points where it has any that are not seen through a
    gap in a nearer surface; elsewhere it shows the next coarser level, enlarged.

    Args:
        background: [B, 3, H_l, W_l] per level, linear light, shown where no level has a point; None: what the levels'
            own empty pixels show.
        fill_levels: number of levels that fill holes.
        tolerance: share of its depth by which a point may lie behind the surface around it and still be shown.

    Gradients: exact to the features and the background; the choice of what fills a hole has none.
    """
    settings = HoleFillingSettings(fill_levels, OCCLUSION_LEVELS, tolerance)
    return ops.fill_holes(levels, background, settings, backend)


def filled_depth(levels: Levels, filled: FilledPyramid, fill_levels: int) -> Tensor:
    """Return [B, 1, H, W] depth in scene units, holes filled as `fill_holes` fills colours; +inf where nothing is near.

    A pixel whose own point is seen through a gap in a nearer surface takes that surface's depth.
    """
    count = min(fill_levels, len(levels.depth))
    depth = torch.full_like(levels.depth[count - 1], torch.inf)
    for level in reversed(range(count)):
        if level < count - 1:
            depth = upsample(depth, levels.depth[level], "nearest")
        own = (filled.valid[level] > 0) & (levels.weight[level] > 0)
        depth = torch.where(own, levels.depth[level], depth)
    return depth
