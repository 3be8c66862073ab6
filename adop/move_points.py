"""Points moved to where the photos show their colours: cubes of neighbours first, coarse to fine, singly last."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from adop.align import Seen, see_points
from adop.camera import Camera
from adop.config import MovePointsConfig
from adop.motion import ROBUST, fit_gain, motion_of_points, slopes, smooth
from adop.ops import project
from adop.photos import PhotoCache
from adop.pipeline import Pipeline

SIGMA = 0.7  # of the blur, pixels of the scale
DAMPING = 1e-2
SWEEPS = 20  # over neighbouring cubes, until their motions agree
FEWEST = 30.0  # observations of a cube before it moves at all
BEHIND = 0.02  # relative depth behind the picture's surface from which a point is hidden

View = Callable[[Pipeline, Camera, Tensor], Seen]


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


@torch.no_grad()
def gather_evidence(
    pipeline: Pipeline, cache: PhotoCache, photos: list[int], scale: int, cubes: Cubes, view: View
) -> Evidence:
    """Ask every photo, 1/scale as large, where each cube's points should be."""
    device, count = pipeline.xyz.device, len(cubes)
    sums = torch.zeros(count, 14, device=device)
    for photo in photos:
        index = torch.tensor([photo])
        camera = pipeline.camera(index).reduced(scale)
        seen = view(pipeline, camera, index)
        target, mask = cache.reduced(photo, scale, device)
        known = torch.isfinite(seen.depth).float() * mask
        known[:, :, :2], known[:, :, -2:], known[:, :, :, :2], known[:, :, :, -2:] = 0, 0, 0, 0
        picture, target = smooth(seen.picture, known, SIGMA), smooth(target, known, SIGMA)
        picture = picture * fit_gain(picture, target, known)
        slope = 0.5 * (slopes(picture) + slopes(target))
        found = project(camera, pipeline.points(), pipeline.raster.near)
        chosen = torch.nonzero(found.visible[0])[:, 0]
        column, row = (found.uv[0, chosen, i].long() for i in range(2))
        shown = found.z[0, chosen] <= (1 + BEHIND) * seen.depth[0, 0, row, column]
        shown &= known[0, 0, row, column] > 0
        chosen, column, row = chosen[shown], column[shown], row[shown]
        error = (picture - target)[0, :, row, column].T / ROBUST
        _, by_point = motion_of_points(camera, pipeline.xyz[chosen], [])
        jacobian = -torch.einsum("dcm,mdk->mck", slope[:, :, row, column], by_point) / ROBUST
        weighted = jacobian / (1 + error.square())[..., None]
        parts = (
            torch.einsum("mck,mcl->mkl", weighted, jacobian).flatten(1),
            torch.einsum("mck,mc->mk", weighted, error),
            error.square().log1p().mean(1, keepdim=True),
            torch.ones_like(error[:, :1]),
        )
        sums.index_add_(0, cubes.of_point[chosen], torch.cat(parts, dim=1))
    return Evidence(sums[:, :9].reshape(-1, 3, 3), sums[:, 9:12], sums[:, 12], sums[:, 13])


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
    view: View = see_points,
    hold_common: bool = False,
) -> float:
    """Move the points to where the photos show their colours; return the median shift, scene units.

    Cubes of points share a shift, large cubes and reduced photos first. A cube that a step makes worse goes back.

    Args:
        hold_common: take out the rigid motion and scale that all points have in common (where cameras move too).

    Source: Gauss-Newton on the picture as for cameras, design.md section 4; the pull between neighbours is that of
        elastic registration.
    """
    start, size = pipeline.xyz.clone(), extent(pipeline.xyz)
    largest = max(max(s) for s in pipeline.lens_size)
    finest = max(1, round(largest / 1000))
    plan = [(block, finest * scale) for block, scale in zip(config.blocks, config.scales, strict=True)]
    if config.single:
        plan.append((0.0, finest))
    with tqdm(total=len(plan) * (config.rounds + 1), desc="moving points", leave=False, disable=None) as bar:
        for block, scale in plan:
            single = block == 0
            cubes = make_single(len(start), start.device) if single else make_cubes(start, block * size)
            _descend(pipeline, cache, photos, config, view, scale, cubes, bar)
    if hold_common:
        pipeline.xyz.copy_(without_common_motion(start, pipeline.xyz))
    return float((pipeline.xyz - start).norm(dim=1).median())


def make_single(count: int, device: torch.device) -> Cubes:
    """Return cubes of one point each."""
    return Cubes(torch.arange(count, device=device), torch.full((count, 6), -1, device=device))


def _descend(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    config: MovePointsConfig,
    view: View,
    scale: int,
    cubes: Cubes,
    bar: tqdm,
) -> None:
    best = gather_evidence(pipeline, cache, photos, scale, cubes, view)
    bar.update()
    damping = torch.full((len(cubes),), DAMPING, device=pipeline.xyz.device)
    for _ in range(config.rounds):
        shift = solve_shifts(best, cubes, damping, config.smooth)
        pipeline.xyz += shift[cubes.of_point]
        tried = gather_evidence(pipeline, cache, photos, scale, cubes, view)
        # A cube that left the picture, or looks worse there, goes back.
        worse = tried.cost * best.count > best.cost * tried.count
        worse |= tried.count < 0.5 * best.count
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
        bar.update()


def without_common_motion(start: Tensor, moved: Tensor) -> Tensor:
    """Return `moved` [N, 3] after the similarity that brings it, in the mean square, back to `start`.

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
    return (scale * a @ rotation.T + mean_b).to(moved.dtype)
