"""The base picture: the points in their own colours, holes filled from coarser levels."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adop.ops import Backend, Levels
from adop.ops import hole_filling as ops
from adop.ops.hole_filling import HoleFillingSettings, upsample

__all__ = ["OCCLUSION_LEVELS", "FilledPyramid", "fill_holes", "upsample"]

OCCLUSION_LEVELS = 3


@dataclass(frozen=True)
class FilledPyramid:
    """The base picture at every level, finest first; each list has one tensor per level."""

    colours: list[Tensor]  # [B, 3, H_l, W_l] linear light, holes filled
    valid: list[Tensor]  # [B, 1, H_l, W_l] 1 where the level's own points are shown
    behind: list[
        Tensor
    ]  # [B, 1, H_l, W_l] how far the own point lies behind the coarser surface, relative, 0..1


def fill_holes(
    levels: Levels,
    background: list[Tensor] | None,
    fill_levels: int,
    tolerance: float,
    backend: Backend = "auto",
) -> FilledPyramid:
    """Return the hole-filled points.

    From the coarsest level down, a level shows its own points where it has any that are not seen through a
    gap in a nearer surface, else the coarser level's picture. Levels beyond `fill_levels` fill nothing: where
    no point is that near, the picture shows `background` ([B, 3, H_l, W_l] per level, linear light; None is what
    the levels themselves show).

    Gradients: exact to the features and the background; the choice of what fills what has none.
    """
    settings = HoleFillingSettings(fill_levels, OCCLUSION_LEVELS, tolerance)
    return FilledPyramid(*ops.fill_holes(levels, background, settings, backend))
