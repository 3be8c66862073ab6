"""Holes of the finest level filled from coarser levels: the points in their own colours, and their depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.ops import Backend, Levels
from adop.ops import hole_filling as ops

OCCLUSION_LEVELS = 3  # finest levels, in which points may be seen through gaps in nearer surfaces


@dataclass(frozen=True)
class FilledPyramid:
    """The hole-filled points at every level, finest first; each list has one tensor per level."""

    colours: list[Tensor]  # [B, 3, H_l, W_l] linear light, holes filled
    valid: list[Tensor]  # [B, 1, H_l, W_l] 1 where the level's own points are shown
    # [B, 1, H_l, W_l] in [0, 1], by what share of its depth the level's own point lies behind a nearer surface
    occlusion: list[Tensor]


def upsample(image: Tensor, like: Tensor, mode: str = "bilinear") -> Tensor:
    """Return `image` [B, C, h, w] at twice its size, cut to the height and width of `like`."""
    if mode == "nearest":
        large = image.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    else:
        large = F.interpolate(image, scale_factor=2.0, mode=mode, align_corners=False)
    return large[:, :, : like.shape[2], : like.shape[3]]


def _surface_around(depth: Tensor, reach: int = 2) -> Tensor:
    """Return, per pixel, the depth [B, 1, H, W] of a surface that surrounds it; +inf where none does.

    On each of the four lines through a pixel, a surface is as far as the farther of the two sides' nearest depths within
    `reach` pixels. Three of the four lines must have one. Along the outline of an object only one line has the object
    on both sides, so outlines do not grow.
    """
    padded = F.pad(depth, (reach, reach, reach, reach), value=float("inf"))
    height, width = depth.shape[2:]

    def side(dy: int, dx: int) -> Tensor:
        steps = (
            padded[:, :, reach + k * dy : reach + k * dy + height, reach + k * dx : reach + k * dx + width]
            for k in range(1, reach + 1)
        )
        nearest = next(steps)
        for step in steps:
            nearest = torch.minimum(nearest, step)
        return nearest

    lines = [torch.maximum(side(dy, dx), side(-dy, -dx)) for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1))]
    return torch.stack(lines).sort(0).values[2]


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
    if backend == "reference":
        return _fill_holes_reference(levels, background, fill_levels, tolerance)
    parts = (levels.features, levels.weight, levels.depth, background)
    return FilledPyramid(*ops.fill_holes(*parts, fill_levels, OCCLUSION_LEVELS, tolerance))


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


def _fill_holes_reference(
    levels: Levels, background: list[Tensor] | None, fill_levels: int, tolerance: float
) -> FilledPyramid:
    """Fill holes as the kernels do, in plain torch: their oracle."""
    count = len(levels.features)
    colours: list[Tensor] = [torch.empty(0)] * count
    valid, occlusion, surfaces = list(colours), list(colours), list(colours)
    for level in reversed(range(count)):
        own = levels.features[level][:, :3].exp()
        depth = levels.depth[level]
        with torch.no_grad():
            shown = levels.weight[level] > 0
            depth = torch.where(shown, depth, float("inf"))
            surface = torch.full_like(depth, float("inf"))
            if level < OCCLUSION_LEVELS:
                surface = _surface_around(depth)
                if level + 1 < count:
                    surface = torch.minimum(surface, upsample(surfaces[level + 1], depth, "nearest"))
            far = torch.where(shown & torch.isfinite(surface), (1 - surface / depth).clamp(0, 1), 0.0)
            shown = shown & (far <= tolerance)
            valid[level], occlusion[level], surfaces[level] = shown.float(), far, surface
        fills = level + 1 < min(count, fill_levels)
        rest = own if background is None else background[level]
        if fills:
            rest = upsample(colours[level + 1], own)
        colours[level] = torch.where(valid[level] > 0, own, rest)
    return FilledPyramid(colours, valid, occlusion)
