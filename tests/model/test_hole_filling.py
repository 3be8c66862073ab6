"""Hole filling: which points show, which pixels are holes, and what fills them."""

import math

import torch

from adop.model.hole_filling import fill_holes
from adop.ops import Levels


def levels_of(depth: torch.Tensor, colour: torch.Tensor, count: int) -> Levels:
    """Return a pyramid whose coarser levels keep the nearest point of each cell."""
    features, weights, depths = [], [], []
    for level in range(count):
        size, step = depth.shape[0] // 2**level, 2**level
        cells = depth.reshape(size, step, size, step).permute(0, 2, 1, 3).reshape(size, size, -1)
        colours = colour.reshape(size, step, size, step).permute(0, 2, 1, 3).reshape(size, size, -1)
        nearest, index = cells.min(-1)
        shown = colours.gather(-1, index[..., None])[..., 0]
        features.append(shown.log().expand(1, 3, size, size))
        weights.append(torch.isfinite(nearest).float()[None, None])
        depths.append(nearest[None, None])
    return Levels(features, weights, depths)


def background(count: int, size: int, value: float) -> list[torch.Tensor]:
    return [torch.full((1, 3, size >> level, size >> level), value) for level in range(count)]


def test_an_empty_pixel_takes_the_coarser_levels_colour():
    depth, colour = torch.full((16, 16), 2.0), torch.full((16, 16), 0.5)
    depth[5, 5] = float("inf")
    base = fill_holes(levels_of(depth, colour, 3), background(3, 16, 9.0), 3, 0.05)
    assert float(base.valid[0][0, 0, 5, 5]) == 0
    assert math.isclose(float(base.colours[0][0, 0, 5, 5]), 0.5, abs_tol=1e-5)


def test_a_far_point_seen_through_a_gap_is_a_hole():
    depth, colour = torch.full((16, 16), 2.0), torch.full((16, 16), 0.5)
    depth[8, 8], colour[8, 8] = 5.0, 0.1
    base = fill_holes(levels_of(depth, colour, 3), background(3, 16, 9.0), 3, 0.05)
    assert float(base.valid[0][0, 0, 8, 8]) == 0
    assert math.isclose(float(base.occlusion[0][0, 0, 8, 8]), 0.6, abs_tol=1e-5)
    assert math.isclose(float(base.colours[0][0, 0, 8, 8]), 0.5, abs_tol=1e-5)


def test_an_outline_does_not_grow():
    depth, colour = torch.full((16, 16), 9.0), torch.full((16, 16), 0.1)
    depth[:, :7], colour[:, :7] = 2.0, 0.5
    base = fill_holes(levels_of(depth, colour, 3), background(3, 16, 9.0), 3, 0.05)
    assert bool((base.valid[0] == 1).all())
    assert torch.allclose(base.colours[0][0, 0], colour, atol=1e-5)


def test_wide_holes_show_the_background():
    depth, colour = torch.full((32, 32), float("inf")), torch.full((32, 32), 0.5)
    depth[:, :8] = 2.0
    base = fill_holes(levels_of(depth, colour, 5), background(5, 32, 9.0), 2, 0.05)
    assert math.isclose(float(base.colours[0][0, 0, 16, 30]), 9.0)
