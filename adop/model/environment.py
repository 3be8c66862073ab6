"""The environment, seen where no point is drawn: a latitude-longitude map of features, or one colour."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adop.config import EnvironmentConfig
from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.ops import Backend, Levels
from adop.ops.environment import RayGrid, composite_environment

START_ROWS = 64  # of the map until the photos or a checkpoint decide
ERROR_ROWS = 16  # of the map of cross-validation errors
MAX_TEXELS_PER_PIXEL = 1.5  # the map is halved while a pixel is wider than this many texels
MIN_ROWS = 4  # of a halved map


def map_coordinates(directions: Tensor, size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return the (column, row) at which world directions [B, 3, ...] of length 1 meet a map of (rows, columns)."""
    x, y, z = directions.unbind(1)
    column = (torch.atan2(x, z) / (2 * math.pi) + 0.5) * size[1]
    row = (torch.asin(y.clamp(-1, 1)) / math.pi + 0.5) * size[0]
    return column, row


def map_texels(directions: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the flat index of the texel at which world directions [B, 3, ...] meet a map of (rows, columns)."""
    column, row = map_coordinates(directions, size)
    return row.long().clamp(0, size[0] - 1) * size[1] + column.long() % size[1]


class Environment(nn.Module):
    """Features seen along a ray that meets no point.

    The map is indexed by the ray's world direction and wraps around horizontally. Coarse pyramid levels read a halved
    map, so that one texel is not much smaller than one pixel.

    Args:
        config: whether there is a map, and its height.
        features: C, channels of a feature.

    Source: the environment map of ADOP (Rückert et al. 2022); wrapping, halving and the choice of its size are ours.
    """

    error: Tensor

    def __init__(self, config: EnvironmentConfig, features: int) -> None:
        super().__init__()
        self.enabled = config.enabled
        self.fixed = not config.enabled or config.height is not None  # False: the photos decide its size
        if config.height is not None and (type(config.height) is not int or config.height < 1):
            raise UserError(f"environment.height must be a whole number of at least 1, not {config.height!r}")
        rows = (config.height or START_ROWS) if config.enabled else 1
        self.map = _empty_map(features, rows, 2 * rows if config.enabled else 1)
        # [1, 1, R, 2R] RMS error in sRGB of predicting one group of photos from the others; 1 where unknown.
        self.register_buffer("error", torch.ones(1, 1, ERROR_ROWS, 2 * ERROR_ROWS))

    def resize(self, rows: int) -> None:
        """Replace the map by an empty one with `rows` rows and twice as many columns."""
        self.map = _empty_map(self.map.shape[1], rows, 2 * rows, self.map.device)

    def coordinates(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the (column, row) [B, H, W], in texels, at which world directions [B, 3, H, W] meet the map."""
        return map_coordinates(directions, (self.map.shape[2], self.map.shape[3]))

    def forward(self, directions: list[Tensor], pixel_angle: float | None = None) -> list[Tensor]:
        """Return the features [B, C, H_l, W_l] per level seen along world directions [B, 3, H_l, W_l] per level.

        Args:
            pixel_angle: radians between neighbouring pixels of level 0; None: it is measured from the directions.

        Gradients: exact to the map, none to the directions.
        """
        if not self.enabled:
            return [self.map.expand(d.shape[0], -1, d.shape[2], d.shape[3]) for d in directions]
        angle = _pixel_angle(directions[0]) if pixel_angle is None else pixel_angle
        images, maps = [], [self.map]
        for halvings, rays in zip(self.mip_levels(angle, len(directions)), directions, strict=True):
            while len(maps) <= halvings:
                maps.append(F.avg_pool2d(maps[-1], 2))  # type: ignore[arg-type]
            images.append(self._lookup(maps[halvings], rays))
        return images

    def mip_levels(self, pixel_angle: float, levels: int) -> list[int]:
        """Return, for each pyramid level, how often the map is halved so that its texels are about as wide as pixels.

        Args:
            pixel_angle: radians between neighbouring pixels of level 0.
            levels: number of pyramid levels.
        """
        spacing, rows = pixel_angle * self.map.shape[2] / math.pi, self.map.shape[2]
        result, halvings = [], 0
        for level in range(levels):
            while (
                spacing * 2**level > MAX_TEXELS_PER_PIXEL * rows / (rows >> halvings)
                and rows >> halvings > MIN_ROWS
            ):
                halvings += 1
            result.append(halvings)
        return result

    def composite(
        self, levels: Levels, grid: RayGrid, mip_levels: list[int], backend: Backend = "auto"
    ) -> Levels:
        """Return the levels with the map's features in the pixels that no point covers; one kernel looks up only those.

        Args:
            grid: the rays of the pixels, interpolated between the grid's points.
            mip_levels: how often the map is halved for each pyramid level, see `mip_levels`.

        Gradients: exact to the features and the map.
        """
        texels = self.map.squeeze(0).permute(1, 2, 0)
        images = composite_environment(levels.features, levels.weight, texels, mip_levels, grid, backend)
        return replace(levels, features=images)

    def _lookup(self, maps: Tensor, directions: Tensor) -> Tensor:
        scale = maps.shape[2] / self.map.shape[2]
        column, row = (c * scale for c in self.coordinates(directions))
        wrapped = torch.cat((maps[..., -1:], maps, maps[..., :1]), dim=3)
        grid = torch.stack((2 * (column + 1) / wrapped.shape[3] - 1, 2 * row / wrapped.shape[2] - 1), dim=-1)
        wrapped = wrapped.expand(grid.shape[0], -1, -1, -1)
        return F.grid_sample(wrapped, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def error_along(self, directions: Tensor) -> Tensor:
        """Return the cross-validation error [B, 1, H, W] along world directions [B, 3, H, W], see `set_error`."""
        return self._lookup(self.error, directions)

    @torch.no_grad()
    def set_error(self, error: Tensor, weight: Tensor) -> None:
        """Set how badly photos predict one another, from sums [1, 1, H, W] of squared errors and of their weights.

        The sums may come on a map of any size.
        """
        if self.enabled:
            size = ERROR_ROWS, 2 * ERROR_ROWS
            total, count = (F.adaptive_avg_pool2d(part, size) for part in (error, weight))
            self.error.copy_(push_pull(total, count, torch.ones(1)).sqrt())

    @torch.no_grad()
    def fill(self, total: Tensor, count: Tensor, fallback: Tensor) -> None:
        """Set the first three features to mean log colours; texels that no ray met are interpolated from others.

        Args:
            total: [3, H, W] weighted sums of log radiance over the rays that meet each texel.
            count: [1, H, W] sums of the weights.
            fallback: [3] log colour to use where no texel has a value.
        """
        if not self.enabled:
            seen = count.sum() > 0
            colour = total.sum((1, 2)) / count.sum().clamp_min(1) if seen else fallback
            self.map[0, :3] = colour[:, None, None]
            return
        self.map[0, :3] = push_pull(total[None], count[None], fallback)[0]


@dataclass(frozen=True)
class SparseLookup:
    """The environment is looked up only in pixels that no point covers, along rays interpolated on a grid."""

    rays: RayGrid
    mip_levels: list[int]  # of each pyramid level, how often the map is halved


@dataclass(frozen=True)
class DenseLookup:
    """The environment is looked up in every pixel: a level that fills no holes shows it behind occluded points too,
    and the position gradient needs the background everywhere."""

    pixel_angle: float  # radians between neighbouring pixels


EnvironmentLookup = SparseLookup | DenseLookup


def pixel_angle(camera: Camera) -> float:
    """Return the angle between neighbouring pixels in radians, mean over the views; waits for the device."""
    return 1 / float((camera.crop[:, 0] * camera.intrinsics[:, 0]).detach().mean())


@torch.no_grad()
def level_directions(camera: Camera, levels: int) -> list[Tensor]:
    """Return the world directions [B, 3, H_l, W_l] of the pixels, per level; coarser ones average finer ones."""
    rays = camera.rays(0)
    directions = [rays]
    for _ in range(levels - 1):
        rays = F.avg_pool2d(rays, 2, ceil_mode=True, count_include_pad=False)
        directions.append(F.normalize(rays, dim=1))
    return directions


def _empty_map(features: int, rows: int, columns: int, device: torch.device | None = None) -> nn.Parameter:
    empty = torch.zeros(1, features, rows, columns, device=device)
    # The kernel reads a texel's features side by side in memory.
    return nn.Parameter(empty.to(memory_format=torch.channels_last))


def push_pull(total: Tensor, count: Tensor, fallback: Tensor) -> Tensor:
    """Return the means `total / count` [1, C, H, W] where `count` > 0; holes are filled from ever coarser means.

    Args:
        total: [1, C, H, W] sums of values.
        count: [1, 1, H, W] sums of weights.
        fallback: [C] value to use where nothing has weight.

    Source: the pull-push algorithm (Gortler et al. 1996, The Lumigraph).
    """
    if total.shape[2] < 4 or total.shape[2] % 2 or total.shape[3] % 2:
        whole = count.sum()
        otherwise = fallback.to(total.device)[None, :, None, None]
        mean = torch.where(whole > 0, total.sum((2, 3), keepdim=True) / whole, otherwise)
        return torch.where(count > 0, total / count.clamp_min(1e-9), mean)
    # Each filled texel counts once, so that one with much weight does not dominate its neighbours.
    seen = (count > 0).float()
    mean = total / count.clamp_min(1e-9) * seen
    coarse = push_pull(F.avg_pool2d(mean, 2), F.avg_pool2d(seen, 2), fallback)
    fine = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.where(seen > 0, mean, fine)


def _pixel_angle(directions: Tensor) -> float:
    """Return the median angle in radians between the directions [B, 3, H, W] of neighbouring pixels."""
    if directions.shape[3] < 2:
        return 1e-3
    step = (directions[..., 1:] - directions[..., :-1]).square().sum(1).sqrt()
    return float(step.flatten()[:: max(1, step.numel() // 1000)].median())
