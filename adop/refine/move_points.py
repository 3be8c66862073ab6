"""Points moved to where the photos show their colours: pieces of surface look around, and agree with their neighbours."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from adop.config import MovePointsConfig
from adop.model.pipeline import Pipeline
from adop.refine.belief_propagation import min_sum_labels, nearby_labels
from adop.refine.observations import show
from adop.refine.point_groups import (
    PointGroups,
    extent,
    finest_scale,
    group_by_voxel,
    group_means,
    mean_colours,
    pixel_size,
    single_point_groups,
    split_groups,
)
from adop.refine.shift_equations import ALIKE, descend, gather_shift_equations
from adop.scene.photo_cache import PhotoCache

# How far what moves as one looks around, one search after the other, relative to `trust`.
REACHES = (1.0, 0.4, 0.15)
STEPS = 3  # from the middle of the ball of places to its rim
CLEAR = 2.0  # nats by which another place must be likelier than to stay
ENOUGH = 10  # observations before a part is moved
REDUCED = 2  # times smaller are the photos of the first search
TOGETHER = 2.0  # nats between neighbouring pieces that take different places in the first search
# Later: nats between neighbours that move differently, and hops to the motions around that may be taken.
PIECES, GRAINS = (0.8, 4), (0.1, 8)
MOTIONS = 12  # of those, most
SEARCHED, TAKEN = 100_000, 1_000_000  # points that are looked at, most: for places around, for motions beside
COUNTED = 150_000  # points that count as observations, most: more of them show the same pixels again


@torch.no_grad()
def move_points(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    config: MovePointsConfig,
    start: Tensor | None = None,
) -> float:
    """Move the points to where the photos show their colours; return the median shift, scene units.

    What moved as one is not known beforehand. Small pieces of surface look around in a ball in small photos, and take
    a place that is likely and that their neighbours take too. Those in one group that moved alike then look around
    together, ever finer, for a step is soon longer than what a gradient sees of a fine texture; in between, pieces may
    change to a motion found around them, and grains of them in the end.

    Args:
        start: [N, 3] where points were right to within `config.position_prior`; without it, where they are.

    Source: labels with few borders between them, as in Boykov et al. 2001, by belief propagation; candidates from
        around, as in PatchMatch (Barnes et al. 2009).
    """
    start = pipeline.points.xyz.clone() if start is None else start
    finest, trust = finest_scale(pipeline), config.position_prior * extent(start)
    total = config.grouped * (2 * len(REACHES) + 1) + config.individual * (config.iterations + 1)
    with tqdm(total=total, desc="moving points", leave=False, disable=None) as bar:
        if config.grouped:
            pixel = pixel_size(pipeline, photos)
            _move_parts(_Search(pipeline, cache, photos, start, trust, finest, pixel), config, bar)
        if config.individual:
            groups, radiance = (
                single_point_groups(len(start), start.device),
                pipeline.points.features[:, :3].exp(),
            )
            ask = functools.partial(gather_shift_equations, pipeline, cache, photos, finest, groups, radiance)
            descend(pipeline, config, groups, ask, start, trust, bar)
    return float((pipeline.points.xyz - start).norm(dim=1).median())


@dataclass(frozen=True)
class _Search:
    """What every step of the search needs to know."""

    pipeline: Pipeline
    cache: PhotoCache
    photos: list[int]
    start: Tensor  # [N, 3]
    trust: float  # scene units
    finest: int  # by which photos are reduced, least
    pixel: float  # scene units

    def moved(self, groups: PointGroups) -> Tensor:
        """Return [K, 3] how far each group is from its start."""
        return group_means(self.pipeline.points.xyz - self.start, groups)

    def costs(self, scale: int, groups: PointGroups, shifts: Tensor, most: int) -> tuple[Tensor, Tensor]:
        """Return nats [K, S] by which shifts [K or 1, S, 3] of each group are unlikely by the photos, and observations
        [K]."""
        radiance = mean_colours(self.pipeline, scale * self.pixel)
        cost, count = costs_of_shifts(
            self.pipeline, self.cache, self.photos, self.finest * scale, groups, radiance, shifts, most
        )
        return cost / ALIKE, count

    def unwilling(self, groups: PointGroups, places: Tensor) -> Tensor:
        """Return nats [K, S] by which groups prefer to stay near their start over moving by places [1, S, 3]."""
        away = self.moved(groups)[:, None] + places
        nats = 0.5 * away.square().sum(2) / self.trust**2
        nats[:, 1:] += CLEAR
        return nats

    def move(self, groups: PointGroups, shifts: Tensor, best: Tensor) -> None:
        """Move each group by the best [K] of its shifts [K or 1, S, 3]."""
        every = torch.arange(len(groups), device=best.device)
        self.pipeline.points.move(shifts.expand(len(groups), -1, -1)[every, best][groups.of_point])


def _move_parts(search: _Search, config: MovePointsConfig, bar: tqdm) -> None:
    start, size = search.start, extent(search.start)
    groups, pieces, grains = (group_by_voxel(start, size * part) for part in config.sizes)
    parts = split_groups(
        groups, _look_around_together(search, pieces, (config.sizes[1] / config.sizes[0]) ** 2)
    )
    bar.update()
    for reach in REACHES:
        _look_around(search, parts, reach)
        bar.update()
        last = reach == REACHES[-1]
        finer, quarrel, hops = (grains, *GRAINS) if last else (pieces, *PIECES)
        parts = split_groups(groups, _take_motions_around(search, finer, parts, quarrel, hops))
        bar.update()


def _look_around_together(search: _Search, pieces: PointGroups, share: float) -> Tensor:
    """Move each piece to a likely place in a ball around it that its neighbours take too; return [N] the number of its
    place. A group's wish to stay counts for a piece by its `share` of the group's surface."""
    places = ball(search.trust).to(search.start)[None]
    unlikely, _ = search.costs(REDUCED, pieces, places, SEARCHED)
    unlikely += share * search.unwilling(pieces, places)
    best = min_sum_labels(unlikely, pieces.beside, TOGETHER)
    search.move(pieces, places, best)
    return best[pieces.of_point]


def _look_around(search: _Search, parts: PointGroups, reach: float) -> None:
    """Move each part to the likeliest place in a ball around it, or leave it where that is hardly likelier.

    The photos' word counts once for every ALIKE observations; beside it stands that points were right to within
    `trust` at the start.
    """
    places = ball(reach * search.trust).to(search.start)[None]
    unlikely, count = search.costs(1, parts, places, SEARCHED)
    unlikely += search.unwilling(parts, places)
    search.move(parts, places, torch.where(count < ENOUGH, 0, unlikely.argmin(1)))


def _take_motions_around(
    search: _Search, pieces: PointGroups, parts: PointGroups, quarrel: float, hops: int
) -> Tensor:
    """Move each piece as one of the parts within some hops did, or not; return [N] the number of that part."""
    own = pieces.of_point.new_zeros(len(pieces))
    own.scatter_reduce_(0, pieces.of_point, parts.of_point, "amax", include_self=False)
    labels = nearby_labels(own, pieces.beside, MOTIONS, hops)
    motions = search.moved(parts)[labels.clamp_min(0)]
    shifts = motions - search.moved(pieces)[:, None]
    shifts[:, 0] = 0
    unlikely, _ = search.costs(1, pieces, shifts, TAKEN)
    unlikely = torch.where(labels >= 0, unlikely, torch.inf)
    best = min_sum_labels(unlikely, pieces.beside, quarrel, motions, search.trust / STEPS)
    search.move(pieces, shifts, best)
    return labels.gather(1, best[:, None])[pieces.of_point, 0]


def ball(reach: float) -> Tensor:
    """Return [S, 3] shifts, a grid in a ball of a radius; the first is none."""
    along = torch.arange(-STEPS, STEPS + 1).float()
    grid = torch.cartesian_prod(along, along, along)
    grid = grid[grid.norm(dim=1) <= STEPS + 1e-3]
    return grid[grid.norm(dim=1).argsort(stable=True)] * (reach / STEPS)


def costs_of_shifts(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    scale: int,
    groups: PointGroups,
    radiance: Tensor,
    shifts: Tensor,
    most: int,
) -> tuple[Tensor, Tensor]:
    """Return how unlike [K, S] the photos, 1/scale as large, are to each group's points moved by each of its shifts
    [K or 1, S, 3], and the observations [K] behind it.

    Cauchy's cost summed over the observations and colours. Of all points `most` or fewer are looked at, evenly, each
    for those it stands for, of COUNTED at most: a denser cloud shows the same pixels again.
    """
    device, tried, points = pipeline.device, shifts.shape[1], len(pipeline.points.xyz)
    shifts = shifts.expand(len(groups), -1, -1)
    every = max(1, points // most)
    weight = every * min(1.0, COUNTED / points)
    cost, count = torch.zeros(tried, len(groups), device=device), torch.zeros(len(groups), device=device)
    for photo in photos:
        shown = show(pipeline, cache, photo, scale, radiance, every=every)
        group = groups.of_point[shown.points]
        count += torch.bincount(group, minlength=len(groups))
        for number in range(tried):
            there = shown.moved(shifts[group, number])
            cost[number].index_add_(0, group, shown.error(there).square().log1p().sum(1) / 2)
    return weight * cost.T, weight * count
