"""What lies behind the points: a latitude-longitude map of features, or one colour."""

from __future__ import annotations

import math
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adop.config.config import EnvironmentConfig
from adop.errors import UserError
from adop.ops import Backend, Levels
from adop.ops.environment import RayGrid, composite_environment

START_ROWS = 64  # until the photos or a checkpoint decide
ERROR_ROWS = 16  # of the map of how well photos foretell one another


class Environment(nn.Module):
    """Features seen along a ray that meets no point.

    The map is indexed by the ray's direction in the world, wraps at its seam and is averaged over a pixel of
    the level asked for. Source: ADOP section 1.6, with the seam, the blur and the size mended.
    """

    error: Tensor

    def __init__(self, config: EnvironmentConfig, features: int) -> None:
        super().__init__()
        self.enabled = config.enabled
        self.fixed = not config.enabled or config.height is not None  # else the photos decide how fine it is
        if config.height is not None and (type(config.height) is not int or config.height < 1):
            raise UserError(f"environment.height must be a whole number of at least 1, not {config.height!r}")
        rows = (config.height or START_ROWS) if config.enabled else 1
        self.map = _empty_map(features, rows, 2 * rows if config.enabled else 1)
        # [1, 1, R, 2R] root mean square error, of sRGB, with which photos foretell one another; unknown is 1.
        self.register_buffer("error", torch.ones(1, 1, ERROR_ROWS, 2 * ERROR_ROWS))

    def resize(self, rows: int) -> None:
        """Make an empty map of so many rows."""
        self.map = _empty_map(self.map.shape[1], rows, 2 * rows, self.map.device)

    def coordinates(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return (column, row) [B, H, W] on the map, in its pixels, of world directions [B, 3, H, W]."""
        height, width = self.map.shape[2:]
        x, y, z = directions.unbind(1)
        column = (torch.atan2(x, z) / (2 * math.pi) + 0.5) * width
        row = (torch.asin(y.clamp(-1, 1)) / math.pi + 0.5) * height
        return column, row

    def forward(self, directions: list[Tensor], pixel_angle: float | None = None) -> list[Tensor]:
        """Return [B, C, H_l, W_l] features per level, of world directions [B, 3, H_l, W_l] per level.

        Args:
            pixel_angle: between neighbouring pixels of level 0, radians; None measures it.

        Gradients: exact to the map, none to the directions.
        """
        if not self.enabled:
            return [self.map.expand(d.shape[0], -1, d.shape[2], d.shape[3]) for d in directions]
        angle = _pixel_angle(directions[0]) if pixel_angle is None else pixel_angle
        images, maps = [], [self.map]
        for blur, rays in zip(self.blurs(angle, len(directions)), directions, strict=True):
            while len(maps) <= blur:
                maps.append(F.avg_pool2d(maps[-1], 2))  # type: ignore[arg-type]
            images.append(self._lookup(maps[blur], rays))
        return images

    def blurs(self, pixel_angle: float, levels: int) -> list[int]:
        """Return how often the map is halved for each level, so that its texels are not much smaller than pixels."""
        spacing, rows = pixel_angle * self.map.shape[2] / math.pi, self.map.shape[2]
        result = [0] * levels
        for level in range(levels):
            blur = result[level - 1] if level else 0
            while spacing * 2**level > 1.5 * rows / (rows >> blur) and rows >> blur > 4:
                blur += 1
            result[level] = blur
        return result

    def show_behind(
        self, levels: Levels, grid: RayGrid, blurs: list[int], backend: Backend = "auto"
    ) -> Levels:
        """Return the levels with the map's features where no point is drawn: `forward` by a kernel, there alone.

        Args:
            blurs: of each level, see `blurs`.

        Gradients: exact to the features and the map.
        """
        texels = self.map.squeeze(0).permute(1, 2, 0)
        images = composite_environment(levels.features, levels.weight, texels, blurs, grid, backend)
        return replace(levels, features=images)

    def _lookup(self, maps: Tensor, directions: Tensor) -> Tensor:
        scale = maps.shape[2] / self.map.shape[2]
        column, row = (c * scale for c in self.coordinates(directions))
        wrapped = torch.cat((maps[..., -1:], maps, maps[..., :1]), dim=3)
        grid = torch.stack((2 * (column + 1) / wrapped.shape[3] - 1, 2 * row / wrapped.shape[2] - 1), dim=-1)
        wrapped = wrapped.expand(grid.shape[0], -1, -1, -1)
        return F.grid_sample(wrapped, grid, mode="bilinear", padding_mode="border", align_corners=False)

    def error_along(self, directions: Tensor) -> Tensor:
        """Return [B, 1, H, W] with which error photos foretell one another along world directions [B, 3, H, W]."""
        return self._lookup(self.error, directions)

    @torch.no_grad()
    def set_error(self, error: Tensor, weight: Tensor) -> None:
        """Take over sums [1, 1, H, W] of squared errors and of their weights in the texels of any map."""
        if self.enabled:
            size = ERROR_ROWS, 2 * ERROR_ROWS
            total, count = (F.adaptive_avg_pool2d(part, size) for part in (error, weight))
            self.error.copy_(push_pull(total, count, torch.ones(1)).sqrt())

    @torch.no_grad()
    def fill(self, total: Tensor, count: Tensor, otherwise: Tensor) -> None:
        """Set the first three features from sums of log colours and fill what no ray saw from its surroundings.

        Args:
            total: [3, H, W] weighted sums of log radiance over the rays of each texel.
            count: [1, H, W] sums of the weights.
            otherwise: [3] log colour where nothing is known at all.
        """
        if not self.enabled:
            seen = count.sum() > 0
            colour = total.sum((1, 2)) / count.sum().clamp_min(1) if seen else otherwise
            self.map[0, :3] = colour[:, None, None]
            return
        self.map[0, :3] = push_pull(total[None], count[None], otherwise)[0]


def _empty_map(features: int, rows: int, columns: int, device: torch.device | None = None) -> nn.Parameter:
    empty = torch.zeros(1, features, rows, columns, device=device)
    # A texel's features lie side by side in memory, where the kernel looks them up.
    return nn.Parameter(empty.to(memory_format=torch.channels_last))


def push_pull(total: Tensor, count: Tensor, otherwise: Tensor) -> Tensor:
    """Return means `total / count` [1, C, H, W] where `count` > 0, elsewhere filled from coarser and coarser means."""
    if total.shape[2] < 4 or total.shape[2] % 2 or total.shape[3] % 2:
        whole = count.sum()
        mean = total.sum((2, 3), keepdim=True) / whole if whole > 0 else otherwise[None, :, None, None]
        return torch.where(count > 0, total / count.clamp_min(1e-9), mean)
    # A coarse texel counts once what its texels have, so that one much-seen texel does not rule its surroundings.
    seen = (count > 0).float()
    mean = total / count.clamp_min(1e-9) * seen
    coarse = push_pull(F.avg_pool2d(mean, 2), F.avg_pool2d(seen, 2), otherwise)
    fine = F.interpolate(coarse, scale_factor=2.0, mode="bilinear", align_corners=False)
    return torch.where(seen > 0, mean, fine)


def _pixel_angle(directions: Tensor) -> float:
    """Return the median angle between neighbouring pixels, radians."""
    if directions.shape[3] < 2:
        return 1e-3
    step = (directions[..., 1:] - directions[..., :-1]).square().sum(1).sqrt()
    return float(step.flatten()[:: max(1, step.numel() // 1000)].median())
