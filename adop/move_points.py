"""Points moved to where the photos show their colours: cubes of neighbours try places around, pieces follow."""

from __future__ import annotations

import functools

import torch
from torch import Tensor
from tqdm import tqdm

from adop.config import MovePointsConfig
from adop.cubes import (
    Cubes,
    extent,
    finest_scale,
    make_cubes,
    make_single,
    mean_colours,
    mean_of_cubes,
    pixel_size,
)
from adop.evidence import ALIKE, descend, gather_evidence
from adop.observe import show
from adop.photos import PhotoCache
from adop.pipeline import Pipeline

# Of each search: by how much the photos are reduced, and how far cubes look, relative to `trust`.
SEARCHES = ((2, 1.0), (1, 1.0), (1, 0.4), (1, 0.15))
STEPS = 3  # from the middle of the ball of places to its rim
SPREADS = 2  # times that pieces of cubes may take the motion beside them
CLEAR = 2.0  # nats by which another place must be likelier than to stay
ENOUGH = 10  # observations before a cube is moved
SEARCHED, SPREAD = 100_000, 1_000_000  # points that are looked at, most


@torch.no_grad()
def move_points(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    config: MovePointsConfig,
    start: Tensor | None = None,
) -> float:
    """Move the points to where the photos show their colours; return the median shift, scene units.

    A cube of points looks around in a ball, for a step is soon longer than what a gradient sees of a fine texture;
    then pieces of the cubes may move as a cube beside theirs did, for what moved as one is no cube.

    Args:
        start: [N, 3] where points were right to within `config.trust`; without it, where they are.

    Source: the search and the spreading of what was found are those of PatchMatch (Barnes et al. 2009).
    """
    start = pipeline.xyz.clone() if start is None else start
    size, pixel, finest = extent(start), pixel_size(pipeline, photos), finest_scale(pipeline)
    trust = config.trust * size
    total = config.cubes * (len(SEARCHES) + SPREADS) + config.single * (config.rounds + 1)
    with tqdm(total=total, desc="moving points", leave=False, disable=None) as bar:
        if config.cubes:
            cubes = make_cubes(start, config.block * size)
            for scale, reach in SEARCHES:
                places = ball(reach * trust).to(start)[None]
                _take_best(
                    pipeline, cache, photos, finest * scale, pixel, cubes, places, start, trust, SEARCHED
                )
                bar.update()
            pieces = make_cubes(start, config.piece * size)
            for _ in range(SPREADS):
                places = motions_beside(pipeline.xyz - start, pieces)
                _take_best(pipeline, cache, photos, finest, pixel, pieces, places, start, trust, SPREAD)
                bar.update()
        if config.single:
            cubes, radiance = make_single(len(start), start.device), pipeline.features[:, :3].exp()
            ask = functools.partial(gather_evidence, pipeline, cache, photos, finest, cubes, radiance)
            descend(pipeline, config, cubes, ask, start, trust, bar)
    return float((pipeline.xyz - start).norm(dim=1).median())


def ball(reach: float) -> Tensor:
    """Return [S, 3] shifts, a grid in a ball of a radius; the first is none."""
    along = torch.arange(-STEPS, STEPS + 1).float()
    grid = torch.cartesian_prod(along, along, along)
    grid = grid[grid.norm(dim=1) <= STEPS + 1e-3]
    return grid[grid.norm(dim=1).argsort(stable=True)] * (reach / STEPS)


def motions_beside(moved: Tensor, pieces: Cubes) -> Tensor:
    """Return [K, 7, 3] shifts that would let each piece have moved as one beside it, of points' motion [N, 3]; the
    first is none."""
    motion = mean_of_cubes(moved, pieces)
    other = torch.where((pieces.beside >= 0)[..., None], motion[pieces.beside.clamp_min(0)], motion[:, None])
    return torch.cat((torch.zeros_like(motion)[:, None], other - motion[:, None]), dim=1)


def _take_best(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    scale: int,
    pixel: float,
    cubes: Cubes,
    places: Tensor,
    start: Tensor,
    trust: float,
    most: int,
) -> None:
    """Move each cube by the likeliest of its shifts [K or 1, S, 3], of which the first is none.

    The photos' word counts once for every ALIKE observations; beside it stands that points were right to within
    `trust` at the start.
    """
    radiance = mean_colours(pipeline, scale * pixel)
    cost, count = costs_of_shifts(pipeline, cache, photos, scale, cubes, radiance, places, most)
    away = mean_of_cubes(pipeline.xyz - start, cubes)[:, None] + places
    unlikely = cost / ALIKE + 0.5 * away.square().sum(2) / trust**2
    unlikely[:, 1:] += CLEAR
    best = torch.where(count < ENOUGH, 0, unlikely.argmin(1))
    every = torch.arange(len(cubes), device=best.device)
    shift = places.expand(len(cubes), -1, -1)[every, best]
    pipeline.xyz += shift[cubes.of_point]


def costs_of_shifts(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    scale: int,
    cubes: Cubes,
    radiance: Tensor,
    shifts: Tensor,
    most: int,
) -> tuple[Tensor, Tensor]:
    """Return how unlike [K, S] the photos, 1/scale as large, are to each cube's points moved by each of its shifts
    [K or 1, S, 3], and the observations [K] behind it.

    Cauchy's cost summed over the observations and colours. Of all points `most` or fewer are looked at, evenly, each
    for those it stands for.
    """
    device, tried = pipeline.xyz.device, shifts.shape[1]
    shifts = shifts.expand(len(cubes), -1, -1)
    every = max(1, len(pipeline.xyz) // most)
    cost, count = torch.zeros(tried, len(cubes), device=device), torch.zeros(len(cubes), device=device)
    for photo in photos:
        shown = show(pipeline, cache, photo, scale, radiance, every=every)
        cube = cubes.of_point[shown.points]
        count += torch.bincount(cube, minlength=len(cubes))
        for number in range(tried):
            there = shown.moved(shifts[cube, number])
            cost[number].index_add_(0, cube, shown.error(there).square().log1p().sum(1) / 2)
    return every * cost.T, every * count
