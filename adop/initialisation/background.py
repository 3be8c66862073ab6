"""The far background, such as the sky: directions in which photos see past the points, and the same light."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.initialisation.reduced_photos import ReducedPhoto, offset_log
from adop.model.environment import map_texels

ROWS = 128  # of the map of directions
PIXEL_STEP = 2  # one of so many rows and columns of a photo is measured
OPEN_SHARE = 0.3  # of the rays in a direction that must pass all points for the direction to count as open


@dataclass(frozen=True)
class Background:
    """Directions in which photos see past the points, on a latitude-longitude map."""

    log_radiance: Tensor  # [R * 2R, 3] mean of the rays that pass all points, `offset_log`
    spread: Tensor  # [R * 2R] its standard deviation in the worst channel; inf where too few rays pass

    def shows(self, directions: Tensor, log_radiance: Tensor, tolerance: float) -> Tensor:
        """Return [M] bool, whether light [M, 3] from directions [M, 3] could as well come from behind all points."""
        texel = _texel(directions)
        difference = (offset_log(log_radiance) - self.log_radiance[texel]).abs().amax(1)
        return (self.spread[texel] < tolerance) & (difference < tolerance)


def measure_background(photos: Iterable[ReducedPhoto], fill_levels: int, device: torch.device) -> Background:
    """Return the background of photos: what they show in holes too wide to be filled from `fill_levels` levels.

    A background that is near shows different light to different photos, so its spread is large.
    """
    sums, squares, passing, rays = (torch.zeros(c, 2 * ROWS * ROWS, device=device) for c in (3, 3, 1, 1))
    for photo in photos:
        texel = _texel(photo.rays()).reshape(photo.size())[::PIXEL_STEP, ::PIXEL_STEP].flatten()
        inside, past, light = (
            part[0, :, ::PIXEL_STEP, ::PIXEL_STEP].flatten(1).float()
            for part in (photo.inside_mask(), photo.holes(fill_levels), offset_log(photo.log_radiance))
        )
        for total, value in (
            (rays, inside),
            (passing, past),
            (sums, light * past),
            (squares, light**2 * past),
        ):
            total.index_add_(1, texel, value)
    count = passing.clamp_min(1)
    mean = sums / count
    spread = (squares / count - mean**2).clamp_min(0).sqrt().amax(0)
    return Background(mean.T, spread.masked_fill((passing <= OPEN_SHARE * rays)[0], torch.inf))


def _texel(directions: Tensor) -> Tensor:
    return map_texels(F.normalize(directions, dim=1), (ROWS, 2 * ROWS))
