"""PointGroups of neighbouring points, which err alike and move as one; and how large a scene and its pixels are."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adop.model.pipeline import Pipeline
from adop.refine.align import render_points

ASKED = 8  # photos that the size of a pixel is taken from


@dataclass(frozen=True)
class PointGroups:
    """The group of each point, and the groups beside each group."""

    of_point: Tensor  # [N] index of the group
    beside: Tensor  # [K, 6] index of the group next along each axis, -1 where there is none

    def __len__(self) -> int:
        return len(self.beside)


def group_by_voxel(xyz: Tensor, size: float) -> PointGroups:
    """Sort points into groups of a size (scene units)."""
    cell = ((xyz - xyz.amin(0)) / size).floor().long()
    span = cell.amax(0) + 3  # room for a group beside the first and the last
    strides = torch.stack((span[1] * span[2], span[2], torch.ones_like(span[2])))
    keys, of_point = torch.unique(((cell + 1) * strides).sum(1), return_inverse=True)
    beside = []
    for step in (*strides, *(-strides)):
        place = torch.searchsorted(keys, keys + step).clamp_max(len(keys) - 1)
        beside.append(torch.where(keys[place] == keys + step, place, -1))
    return PointGroups(of_point, torch.stack(beside, dim=1))


def split_groups(groups: PointGroups, group: Tensor) -> PointGroups:
    """Return the parts of groups whose points are of one group [N]; nothing is beside them."""
    both = torch.stack((groups.of_point, group), dim=1)
    kinds, of_point = torch.unique(both, dim=0, return_inverse=True)
    return PointGroups(of_point, of_point.new_full((len(kinds), 6), -1))


def single_point_groups(count: int, device: torch.device) -> PointGroups:
    """Return groups of one point each."""
    return PointGroups(torch.arange(count, device=device), torch.full((count, 6), -1, device=device))


def group_means(values: Tensor, groups: PointGroups) -> Tensor:
    """Return [K, C] the mean of points' values [N, C] in each group."""
    total = torch.zeros(len(groups), values.shape[1] + 1, device=values.device)
    total.index_add_(0, groups.of_point, torch.cat((values, torch.ones_like(values[:, :1])), dim=1))
    return total[:, :-1] / total[:, -1:]


def mean_colours(pipeline: Pipeline, size: float) -> Tensor:
    """Return [N, 3] the radiance of each point, mean over its group of a size: as a picture's pixel would hold it."""
    groups = group_by_voxel(pipeline.points.xyz, size)
    return group_means(pipeline.points.features[:, :3].detach().exp(), groups)[groups.of_point]


def extent(xyz: Tensor) -> float:
    """Return the longest side, scene units, of the box that holds all but the outermost points along each axis."""
    some = xyz[:: max(1, len(xyz) // 100_000)].float()
    low, high = torch.quantile(some, 0.02, dim=0), torch.quantile(some, 0.98, dim=0)
    return float((high - low).max().clamp_min(1e-12))


def photo_distance(pipeline: Pipeline, photo: int) -> float:
    """Return the median depth of what a photo sees, scene units."""
    depth = render_points(pipeline, pipeline.camera(torch.tensor([photo])), torch.tensor([photo])).depth
    known = depth[torch.isfinite(depth)]
    return float(known.median()) if len(known) else pipeline.points.extent


@torch.no_grad()
def pixel_size(pipeline: Pipeline, photos: list[int]) -> float:
    """Return the width in scene units of a pixel of the photos, where they look; the median of a few."""
    sizes = []
    for photo in photos[:: max(1, len(photos) // ASKED)]:
        focal = pipeline.cameras.focal_length(pipeline.cameras.lens_of[photo])
        sizes.append(photo_distance(pipeline, photo) / focal)
    return sorted(sizes)[len(sizes) // 2]


def finest_scale(pipeline: Pipeline) -> int:
    """Return the factor by which the largest photos are reduced to about 1,000 pixels."""
    return max(1, round(max(max(size) for size in pipeline.cameras.lens_size) / 1000))
