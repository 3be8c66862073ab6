"""Points moved to where the photos show their colours: groups try many shifts, and agree with their neighbours."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor

from adop.config import MovePointsConfig
from adop.progress import Bar
from adop.refine.belief_propagation import min_sum_labels, nearby_labels
from adop.refine.observations import PointSelection, visible_points
from adop.refine.photo_set import PhotoSet, finest_scale, pixel_size
from adop.refine.point_groups import (
    PointGroups,
    bounding_side,
    group_by_voxel,
    group_means,
    mean_radiance,
    single_point_groups,
    split_groups,
)
from adop.refine.shift_equations import (
    CORRELATED_OBSERVATIONS,
    PositionPrior,
    gather_shift_equations,
    minimise_shifts,
)

SEARCH_RADII = (1.0, 0.4, 0.15)  # of the independent searches, in standard deviations of the prior
GRID_STEPS = 3  # from the centre of the ball of candidate shifts to its surface
MOVE_COST = 2.0  # nats by which a shift must be likelier than none
MIN_OBSERVATIONS = 10  # of a part of a group, below which it does not move
COARSE_SCALE = 2  # by which the photos of the joint search are reduced beyond the finest scale
# Smoothness: nats between neighbours that move differently; how many neighbours away motions are taken from.
JOINT_SMOOTHNESS = 2.0
MEDIUM_SMOOTHNESS, MEDIUM_RADIUS = 0.8, 4
FINE_SMOOTHNESS, FINE_RADIUS = 0.1, 8
MAX_MOTIONS = 12  # motions of nearby groups that a group may adopt


@dataclass(frozen=True)
class PointSampling:
    """How many of the points are looked up, and how much they count."""

    max_points: int  # looked up, evenly spread; each stands for those left out
    # Upper limit of the points' total weight: extra points of a dense cloud only repeat the same pixels.
    max_observations: int = 150_000

    def stride(self, points: int) -> int:
        """Return n, where every n-th of a number of points is looked up."""
        return max(1, points // self.max_points)

    def weight(self, points: int) -> float:
        """Return the number of observations that each looked-up point stands for."""
        return self.stride(points) * min(1.0, self.max_observations / points)


GRID_SAMPLING = PointSampling(100_000)  # where hundreds of shifts are tried
MOTION_SAMPLING = PointSampling(1_000_000)  # where a few are


@torch.no_grad()
def move_points(
    photos: PhotoSet,
    config: MovePointsConfig,
    start: Tensor | None = None,
    grid_sampling: PointSampling = GRID_SAMPLING,
) -> float:
    """Move the points to where the photos show their colours; return the median shift in scene units.

    Which points are misplaced alike is not known in advance. First, medium groups try a ball of shifts in small
    photos, and agree with their neighbours on likely ones. The points of a coarse group that moved alike then form
    one part, and parts search on their own, in ever smaller balls: a texture soon becomes too fine for gradients to
    reach across such shifts. After each search, medium (at last fine) groups may take over the motion of a part near
    them, which gives the parts of the next search.

    Args:
        photos: that the points are compared with.
        start: [N, 3] where points were right to within `config.position_prior`; None: where they are.
        grid_sampling: of the points in the searches.

    Source: labels with smoothness costs (Boykov et al. 2001) by belief propagation (Felzenszwalb & Huttenlocher
        2006); motions propagated from neighbours as in PatchMatch (Barnes et al. 2009).
    """
    pipeline = photos.pipeline
    start = pipeline.points.xyz.clone() if start is None else start
    prior = PositionPrior(start, config.position_prior * bounding_side(start))
    finest = finest_scale(pipeline)
    total = config.grouped * (2 * len(SEARCH_RADII) + 1) + config.individual * (config.iterations + 1)
    with Bar(total=total, desc="moving points") as bar:
        if config.grouped:
            pixel = pixel_size(pipeline, photos.indices)
            _move_groups(_Search(photos, prior, finest, pixel, grid_sampling), config, bar)
        if config.individual:
            groups = single_point_groups(len(start), start.device)
            radiance = pipeline.points.features[:, :3].exp()
            linearise = functools.partial(gather_shift_equations, photos, finest, groups, radiance)
            minimise_shifts(pipeline, groups, linearise, prior, config, bar)
    return float((pipeline.points.xyz - start).norm(dim=1).median())


@dataclass(frozen=True)
class _Search:
    """What every step of the search needs."""

    photos: PhotoSet
    prior: PositionPrior
    finest: int  # least factor by which photos are reduced
    pixel: float  # width of a photo's pixel, scene units
    grid_sampling: PointSampling

    def displacements(self, groups: PointGroups) -> Tensor:
        """Return the mean displacement [K, 3] of each group from its start."""
        return group_means(self.photos.pipeline.points.xyz - self.prior.start, groups)

    def data_cost(
        self, scale: int, groups: PointGroups, shifts: Tensor, sampling: PointSampling
    ) -> tuple[Tensor, Tensor]:
        """Return the costs [K, S] in nats of each group's shifts [K or 1, S, 3] by the photos, and observations [K].

        Args: scale: by which the photos are reduced beyond the finest scale.
        """
        radiance = mean_radiance(self.photos.pipeline, scale * self.pixel)
        cost, count = shift_costs(self.photos, self.finest * scale, groups, radiance, shifts, sampling)
        return cost / CORRELATED_OBSERVATIONS, count

    def prior_cost(self, groups: PointGroups, shifts: Tensor) -> Tensor:
        """Return the costs [K, S] in nats of shifts [1, S, 3] by the prior; the first shift is none."""
        displacement = self.displacements(groups)[:, None] + shifts
        cost = 0.5 * displacement.square().sum(2) / self.prior.sigma**2
        cost[:, 1:] += MOVE_COST
        return cost

    def move(self, groups: PointGroups, shifts: Tensor, chosen: Tensor) -> None:
        """Move each group by its chosen one [K] of the shifts [K or 1, S, 3]."""
        every = torch.arange(len(groups), device=chosen.device)
        shift = shifts.expand(len(groups), -1, -1)[every, chosen]
        self.photos.pipeline.points.move(shift[groups.of_point])


def _move_groups(search: _Search, config: MovePointsConfig, bar: Bar) -> None:
    """Move groups of points by a joint search, then by independent searches of their parts."""
    start = search.prior.start
    size = bounding_side(start)
    coarse, medium, fine = (group_by_voxel(start, size * relative) for relative in config.sizes)
    # A coarse group's prior counts for a medium one by its share of the surface.
    share = (config.sizes[1] / config.sizes[0]) ** 2
    parts = split_groups(coarse, _search_jointly(search, medium, share))
    bar.update()
    for radius in SEARCH_RADII:
        _search_independently(search, parts, radius)
        bar.update()
        if radius == SEARCH_RADII[-1]:
            labels = _propagate_motions(search, fine, parts, FINE_SMOOTHNESS, FINE_RADIUS)
        else:
            labels = _propagate_motions(search, medium, parts, MEDIUM_SMOOTHNESS, MEDIUM_RADIUS)
        parts = split_groups(coarse, labels)
        bar.update()


def _search_jointly(search: _Search, groups: PointGroups, prior_weight: float) -> Tensor:
    """Move each group by a likely shift that its neighbours share; return the number [N] of each point's shift."""
    shifts = candidate_shifts(search.prior.sigma).to(search.prior.start)[None]
    cost, _ = search.data_cost(COARSE_SCALE, groups, shifts, search.grid_sampling)
    cost += prior_weight * search.prior_cost(groups, shifts)
    chosen = min_sum_labels(cost, groups.neighbours, JOINT_SMOOTHNESS)
    search.move(groups, shifts, chosen)
    return chosen[groups.of_point]


def _search_independently(search: _Search, parts: PointGroups, radius: float) -> None:
    """Move each part by the likeliest shift from a ball, if it is clearly likelier than none and is well observed.

    Args: radius: of the ball, in standard deviations of the prior.
    """
    shifts = candidate_shifts(radius * search.prior.sigma).to(search.prior.start)[None]
    cost, count = search.data_cost(1, parts, shifts, search.grid_sampling)
    cost += search.prior_cost(parts, shifts)
    search.move(parts, shifts, torch.where(count < MIN_OBSERVATIONS, 0, cost.argmin(1)))


def _propagate_motions(
    search: _Search, groups: PointGroups, parts: PointGroups, smoothness: float, radius: int
) -> Tensor:
    """Let each group take over the motion of a part near it, or keep its own; return the part [N] of each point.

    Args:
        parts: whose motions may be taken.
        smoothness: nats between neighbours that move differently.
        radius: how many neighbours away a part may be.
    """
    part_of_group = groups.of_point.new_zeros(len(groups))
    part_of_group.scatter_reduce_(0, groups.of_point, parts.of_point, "amax", include_self=False)
    labels = nearby_labels(part_of_group, groups.neighbours, MAX_MOTIONS, radius)
    motions = search.displacements(parts)[labels.clamp_min(0)]
    shifts = motions - search.displacements(groups)[:, None]
    shifts[:, 0] = 0
    cost, _ = search.data_cost(1, groups, shifts, MOTION_SAMPLING)
    cost = torch.where(labels >= 0, cost, torch.inf)
    truncation = search.prior.sigma / GRID_STEPS
    chosen = min_sum_labels(cost, groups.neighbours, smoothness, motions, truncation)
    search.move(groups, shifts, chosen)
    return labels.gather(1, chosen[:, None])[groups.of_point, 0]


def candidate_shifts(radius: float) -> Tensor:
    """Return shifts [S, 3] on a grid in a ball, shortest first: the first is none."""
    axis = torch.arange(-GRID_STEPS, GRID_STEPS + 1).float()
    grid = torch.cartesian_prod(axis, axis, axis)
    grid = grid[grid.norm(dim=1) <= GRID_STEPS + 1e-3]
    return grid[grid.norm(dim=1).argsort(stable=True)] * (radius / GRID_STEPS)


def shift_costs(
    photos: PhotoSet,
    scale: int,
    groups: PointGroups,
    radiance: Tensor,
    shifts: Tensor,
    sampling: PointSampling,
) -> tuple[Tensor, Tensor]:
    """Return the cost of each shift of each group by the photos, and each group's number of observations.

    Args:
        scale: by which the photos are reduced.
        radiance: [N, 3] linear light of each point.
        shifts: [K or 1, S, 3] scene units.

    Returns: [K, S] Cauchy's cost, summed over observations and colours; [K] observations, weighted like it.
    """
    points = photos.pipeline.points.xyz
    device, tried = points.device, shifts.shape[1]
    shifts = shifts.expand(len(groups), -1, -1)
    selection, weight = PointSelection(stride=sampling.stride(len(points))), sampling.weight(len(points))
    cost, count = torch.zeros(tried, len(groups), device=device), torch.zeros(len(groups), device=device)
    for photo in photos.indices:
        visible = visible_points(photos, photo, scale, radiance, selection)
        group = groups.of_point[visible.points]
        count += torch.bincount(group, minlength=len(groups))
        for number in range(tried):
            residuals = visible.residuals(visible.shifted_uv(shifts[group, number]))
            cost[number].index_add_(0, group, residuals.square().log1p().sum(1) / 2)
    return weight * cost.T, weight * count
