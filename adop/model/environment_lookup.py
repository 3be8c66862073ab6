"""How a batch of views looks up the environment: decided on the CPU, before anything runs on the device."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.geometry.camera import Camera
from adop.ops.environment import RayGrid


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
