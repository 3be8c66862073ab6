"""Groups of neighbouring points, whose positions err alike and which therefore move as one."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adop.model.pipeline import Pipeline

QUANTILES = 0.02, 0.98  # of the coordinates, between which the bounding box lies
QUANTILE_POINTS = 100_000  # points, about, from which they are taken


@dataclass(frozen=True)
class PointGroups:
    """The group of each point, and the neighbours of each group."""

    of_point: Tensor  # [N] index of the point's group
    neighbours: Tensor  # [K, 6] index of the next group along +x +y +z -x -y -z; -1 where there is none

    def __len__(self) -> int:
        """Return the number K of groups."""
        return len(self.neighbours)


def group_by_voxel(xyz: Tensor, size: float) -> PointGroups:
    """Group points [N, 3] by the voxels, `size` scene units wide, that they lie in."""
    voxel = ((xyz - xyz.amin(0)) / size).floor().long()
    span = voxel.amax(0) + 3  # with an empty voxel on either side, so that rows do not wrap around
    strides = torch.stack((span[1] * span[2], span[2], torch.ones_like(span[2])))
    keys, of_point = torch.unique(((voxel + 1) * strides).sum(1), return_inverse=True)
    neighbours = []
    for step in (*strides, *(-strides)):
        index = torch.searchsorted(keys, keys + step).clamp_max(len(keys) - 1)
        neighbours.append(torch.where(keys[index] == keys + step, index, -1))
    return PointGroups(of_point, torch.stack(neighbours, dim=1))


def split_groups(groups: PointGroups, label: Tensor) -> PointGroups:
    """Split each group by the labels [N] of its points. The parts have no neighbours."""
    pairs = torch.stack((groups.of_point, label), dim=1)
    kinds, of_point = torch.unique(pairs, dim=0, return_inverse=True)
    return PointGroups(of_point, of_point.new_full((len(kinds), 6), -1))


def single_point_groups(count: int, device: torch.device) -> PointGroups:
    """Return groups of one point each, without neighbours."""
    return PointGroups(torch.arange(count, device=device), torch.full((count, 6), -1, device=device))


def group_means(values: Tensor, groups: PointGroups) -> Tensor:
    """Return the mean [K, C] of the points' values [N, C] in each group."""
    total = torch.zeros(len(groups), values.shape[1] + 1, device=values.device)
    total.index_add_(0, groups.of_point, torch.cat((values, torch.ones_like(values[:, :1])), dim=1))
    return total[:, :-1] / total[:, -1:]


def mean_radiance(pipeline: Pipeline, size: float) -> Tensor:
    """Return the radiance [N, 3] of each point, averaged over voxels of `size` scene units, as pixels average it."""
    groups = group_by_voxel(pipeline.points.xyz, size)
    return group_means(pipeline.points.features[:, :3].detach().exp(), groups)[groups.of_point]


def bounding_side(xyz: Tensor) -> float:
    """Return the longest side, in scene units, of the box that holds all points [N, 3] but each axis's outermost 4 %."""
    subset = xyz[:: max(1, len(xyz) // QUANTILE_POINTS)].float()
    low, high = (torch.quantile(subset, q, dim=0) for q in QUANTILES)
    return float((high - low).max().clamp_min(1e-12))
