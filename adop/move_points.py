"""Points moved to where the photos show their colours: cubes of neighbours first, coarse to fine, singly last."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from adop.align import see_points
from adop.config import MovePointsConfig
from adop.observe import Observed, observe
from adop.photos import PhotoCache
from adop.pipeline import Pipeline

DAMPING = 1e-2
SWEEPS = 20  # over neighbouring cubes, until their motions agree
FEWEST = 3.0  # observations of a cube before it moves at all
ASKED = 8  # photos that the size of a pixel is taken from
ALIKE = 30.0  # observations of a cube that err together, as neighbouring pixels do


@dataclass(frozen=True)
class Cubes:
    """The cube of each point, and the cubes beside each cube."""

    of_point: Tensor  # [N] index of the cube
    beside: Tensor  # [K, 6] index of the cube next along each axis, -1 where there is none

    def __len__(self) -> int:
        return len(self.beside)


@dataclass(frozen=True)
class Evidence:
    """Normal equations of each cube's shift, sums over what the photos show of its points."""

    matrix: Tensor  # [K, 3, 3]
    gradient: Tensor  # [K, 3]
    cost: Tensor  # [K]
    count: Tensor  # [K]


def extent(xyz: Tensor) -> float:
    """Return the longest side, scene units, of the box that holds all but the outermost points along each axis."""
    some = xyz[:: max(1, len(xyz) // 100_000)].float()
    low, high = torch.quantile(some, 0.02, dim=0), torch.quantile(some, 0.98, dim=0)
    return float((high - low).max().clamp_min(1e-12))


def photo_distance(pipeline: Pipeline, photo: int) -> float:
    """Return the median depth of what a photo sees, scene units."""
    depth = see_points(pipeline, pipeline.camera(torch.tensor([photo])), torch.tensor([photo])).depth
    known = depth[torch.isfinite(depth)]
    return float(known.median()) if len(known) else pipeline.extent


@torch.no_grad()
def pixel_size(pipeline: Pipeline, photos: list[int]) -> float:
    """Return the width in scene units of a pixel of the photos, where they look; the median of a few."""
    sizes = []
    for photo in photos[:: max(1, len(photos) // ASKED)]:
        focal = float(pipeline.intrinsics[int(pipeline.photo_lens[photo])][0])
        sizes.append(photo_distance(pipeline, photo) / focal)
    return sorted(sizes)[len(sizes) // 2]


def make_cubes(xyz: Tensor, size: float) -> Cubes:
    """Sort points into cubes of a size (scene units)."""
    cell = ((xyz - xyz.amin(0)) / size).floor().long()
    span = cell.amax(0) + 3  # room for a cube beside the first and the last
    strides = torch.stack((span[1] * span[2], span[2], torch.ones_like(span[2])))
    keys, of_point = torch.unique(((cell + 1) * strides).sum(1), return_inverse=True)
    beside = []
    for step in (*strides, *(-strides)):
        place = torch.searchsorted(keys, keys + step).clamp_max(len(keys) - 1)
        beside.append(torch.where(keys[place] == keys + step, place, -1))
    return Cubes(of_point, torch.stack(beside, dim=1))


def mean_colours(pipeline: Pipeline, size: float) -> Tensor:
    """Return [N, 3] the radiance of each point, mean over its cube of a size: as a picture's pixel would hold it."""
    cubes = make_cubes(pipeline.xyz, size)
    return mean_of_cubes(pipeline.features[:, :3].detach().exp(), cubes)[cubes.of_point]


@torch.no_grad()
def gather_evidence(
    pipeline: Pipeline, cache: PhotoCache, photos: list[int], scale: int, cubes: Cubes, radiance: Tensor
) -> Evidence:
    """Ask every photo, 1/scale as large, where each cube's points should be; see `observe`."""
    sums = torch.zeros(len(cubes), 14, device=pipeline.xyz.device)
    for photo in photos:
        add_observed(sums, cubes, observe(pipeline, cache, photo, scale, radiance))
    return evidence_of(sums)


def add_observed(sums: Tensor, cubes: Cubes, seen: Observed) -> None:
    """Add what a photo shows to the sums [K, 14] of each cube."""
    weighted = seen.by_point * seen.weight[..., None]
    parts = (
        torch.einsum("mck,mcl->mkl", weighted, seen.by_point).flatten(1),
        torch.einsum("mck,mc->mk", weighted, seen.error),
        seen.error.square().log1p().mean(1, keepdim=True),
        torch.ones_like(seen.error[:, :1]),
    )
    sums.index_add_(0, cubes.of_point[seen.points], torch.cat(parts, dim=1))


def evidence_of(sums: Tensor) -> Evidence:
    """Return the normal equations that `add_observed` summed."""
    return Evidence(sums[:, :9].reshape(-1, 3, 3), sums[:, 9:12], sums[:, 12], sums[:, 13])


def mean_of_cubes(values: Tensor, cubes: Cubes) -> Tensor:
    """Return [K, C] the mean of points' values [N, C] in each cube."""
    total = torch.zeros(len(cubes), values.shape[1] + 1, device=values.device)
    total.index_add_(0, cubes.of_point, torch.cat((values, torch.ones_like(values[:, :1])), dim=1))
    return total[:, :-1] / total[:, -1:]


def with_prior(evidence: Evidence, cubes: Cubes, moved: Tensor, trust: float) -> Evidence:
    """Return evidence that also knows that points [N, 3], `moved` from their start, were right to within `trust`."""
    weight = ALIKE / trust**2
    pull = weight * mean_of_cubes(moved, cubes)
    eye = torch.eye(3, device=moved.device)
    return replace(evidence, matrix=evidence.matrix + weight * eye, gradient=evidence.gradient + pull)


def solve_shifts(evidence: Evidence, cubes: Cubes, damping: Tensor, coupling: float) -> Tensor:
    """Return the shift [K, 3] of each cube, scene units; neighbours pull at one another with weight `coupling`."""
    trace = evidence.matrix.diagonal(dim1=1, dim2=2).sum(1)
    enough = evidence.count >= FEWEST
    if not bool(enough.any()):
        return torch.zeros_like(evidence.gradient)
    typical = trace[enough].median().clamp_min(1e-12) / 3
    pull = coupling * typical
    there = (cubes.beside >= 0).float()
    eye = torch.eye(3, device=trace.device)
    stiff = evidence.matrix + eye * (damping * typical + pull * there.sum(1))[:, None, None]
    stiff = stiff + eye * (damping * trace / 3)[:, None, None]
    shift = torch.zeros_like(evidence.gradient)
    for _ in range(SWEEPS):
        around = (shift[cubes.beside.clamp_min(0)] * there[..., None]).sum(1)
        shift = torch.linalg.solve(stiff, (pull * around - evidence.gradient)[..., None])[..., 0]
    return torch.where(enough[:, None], shift, 0.0)


@torch.no_grad()
def move_points(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    config: MovePointsConfig,
) -> float:
    """Move the points to where the photos show their colours; return the median shift, scene units.

    Cubes of points share a shift, large cubes and reduced photos first. A cube that a step makes worse goes back.

    Source: Gauss-Newton on the picture as for cameras, design.md section 4; the pull between neighbours is that of
        elastic registration.
    """
    start, size, pixel = pipeline.xyz.clone(), extent(pipeline.xyz), pixel_size(pipeline, photos)
    plan = block_plan(pipeline, config)
    if config.single:
        plan.append((0.0, finest_scale(pipeline)))
    with tqdm(total=len(plan) * (config.rounds + 1), desc="moving points", leave=False, disable=None) as bar:
        for block, scale in plan:
            cubes = make_cubes(start, block * size) if block > 0 else make_single(len(start), start.device)
            radiance = mean_colours(pipeline, scale * pixel) if block > 0 else pipeline.features[:, :3].exp()
            ask = functools.partial(gather_evidence, pipeline, cache, photos, scale, cubes, radiance)
            _descend(pipeline, config, cubes, ask, start, config.trust * size, bar)
    return float((pipeline.xyz - start).norm(dim=1).median())


def finest_scale(pipeline: Pipeline) -> int:
    """Return the factor by which the largest photos are reduced to about 1,000 pixels."""
    return max(1, round(max(max(size) for size in pipeline.lens_size) / 1000))


def block_plan(pipeline: Pipeline, config: MovePointsConfig) -> list[tuple[float, int]]:
    """Return the sizes of cubes, relative to the scene's extent, with the factor by which photos are reduced for them."""
    finest = finest_scale(pipeline)
    return [(block, finest * scale) for block, scale in zip(config.blocks, config.scales, strict=True)]


def make_single(count: int, device: torch.device) -> Cubes:
    """Return cubes of one point each."""
    return Cubes(torch.arange(count, device=device), torch.full((count, 6), -1, device=device))


def _descend(
    pipeline: Pipeline,
    config: MovePointsConfig,
    cubes: Cubes,
    ask: Callable[[], Evidence],
    start: Tensor,
    trust: float,
    bar: tqdm,
) -> None:
    """Take `rounds` steps with cubes of one size; a cube that a step makes worse goes back."""

    best = ask()
    bar.update()
    damping = torch.full((len(cubes),), DAMPING, device=pipeline.xyz.device)
    for _ in range(config.rounds):
        known = with_prior(best, cubes, pipeline.xyz - start, trust)
        shift = solve_shifts(known, cubes, damping, config.smooth)
        pipeline.xyz += shift[cubes.of_point]
        tried = ask()
        bar.update()
        worse = looks_worse(best, tried)
        back = torch.where(worse[:, None], shift, 0.0)
        pipeline.xyz -= back[cubes.of_point]
        damping = torch.where(worse, damping * 10, (damping / 4).clamp_min(1e-4))
        best = Evidence(
            *(
                torch.where(worse.reshape(-1, *[1] * (old.dim() - 1)), old, new)
                for old, new in (
                    (best.matrix, tried.matrix),
                    (best.gradient, tried.gradient),
                    (best.cost, tried.cost),
                    (best.count, tried.count),
                )
            )
        )


def looks_worse(before: Evidence, after: Evidence) -> Tensor:
    """Return [K] bool, the cubes that left the pictures, or look worse there."""
    return (after.cost * before.count > before.cost * after.count) | (after.count < 0.5 * before.count)


def common_motion(start: Tensor, moved: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return scale, rotation [3, 3] and translation [3], float64, that bring `moved` [N, 3], in the mean square, back to
    `start`.

    Source: Umeyama 1991.
    """
    a, b = moved.double(), start.double()
    mean_a, mean_b = a.mean(0), b.mean(0)
    a, b = a - mean_a, b - mean_b
    u, s, vt = torch.linalg.svd(b.T @ a)
    flip = torch.ones(3, dtype=torch.float64, device=a.device)
    flip[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = u @ torch.diag(flip) @ vt
    scale = (s * flip).sum() / a.square().sum().clamp_min(1e-30)
    return scale, rotation, mean_b - scale * rotation @ mean_a
