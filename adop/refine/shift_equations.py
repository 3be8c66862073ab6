"""What photos say of the shifts of groups of points: normal equations, and their solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor
from tqdm import tqdm

from adop.config import MovePointsConfig
from adop.model.pipeline import Pipeline
from adop.refine.observations import Observed, observe
from adop.refine.point_groups import PointGroups, group_means
from adop.scene.photo_cache import PhotoCache

DAMPING = 1e-2
SWEEPS = 20  # over neighbouring groups, until their motions agree
FEWEST = 3.0  # observations of a group before it moves at all
ALIKE = 30.0  # observations of a group that err together, as neighbouring pixels do


@dataclass(frozen=True)
class ShiftEquations:
    """Normal equations of each group's shift, sums over what the photos show of its points."""

    matrix: Tensor  # [K, 3, 3]
    gradient: Tensor  # [K, 3]
    cost: Tensor  # [K]
    count: Tensor  # [K]


@torch.no_grad()
def gather_shift_equations(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    scale: int,
    groups: PointGroups,
    radiance: Tensor,
) -> ShiftEquations:
    """Ask every photo, 1/scale as large, where each group's points should be; see `observe`."""
    sums = torch.zeros(len(groups), 14, device=pipeline.device)
    for photo in photos:
        add_observed(sums, groups, observe(pipeline, cache, photo, scale, radiance))
    return equations_from_sums(sums)


def add_observed(sums: Tensor, groups: PointGroups, seen: Observed) -> None:
    """Add what a photo shows to the sums [K, 14] of each group."""
    weighted = seen.by_point * seen.weight[..., None]
    parts = (
        torch.einsum("mck,mcl->mkl", weighted, seen.by_point).flatten(1),
        torch.einsum("mck,mc->mk", weighted, seen.error),
        seen.error.square().log1p().mean(1, keepdim=True),
        torch.ones_like(seen.error[:, :1]),
    )
    sums.index_add_(0, groups.of_point[seen.points], torch.cat(parts, dim=1))


def equations_from_sums(sums: Tensor) -> ShiftEquations:
    """Return the normal equations that `add_observed` summed."""
    return ShiftEquations(sums[:, :9].reshape(-1, 3, 3), sums[:, 9:12], sums[:, 12], sums[:, 13])


def with_prior(equations: ShiftEquations, groups: PointGroups, moved: Tensor, trust: float) -> ShiftEquations:
    """Return equations that also knows that points [N, 3], `moved` from their start, were right to within `trust`."""
    weight = ALIKE / trust**2
    pull = weight * group_means(moved, groups)
    eye = torch.eye(3, device=moved.device)
    return replace(equations, matrix=equations.matrix + weight * eye, gradient=equations.gradient + pull)


def placed_by_photos(equations: ShiftEquations, trust: float) -> Tensor:
    """Return [K] float64, the share that photos have in each group's place, beside its start, right to within `trust`:
    in the direction of which they say least."""
    least = torch.linalg.eigvalsh(equations.matrix.double())[:, 0].clamp_min(0)
    return least / (least + ALIKE / trust**2)


def solve_shifts(equations: ShiftEquations, groups: PointGroups, damping: Tensor, coupling: float) -> Tensor:
    """Return the shift [K, 3] of each group, scene units; neighbours pull at one another with weight `coupling`."""
    trace = equations.matrix.diagonal(dim1=1, dim2=2).sum(1)
    enough = equations.count >= FEWEST
    if not bool(enough.any()):
        return torch.zeros_like(equations.gradient)
    typical = trace[enough].median().clamp_min(1e-12) / 3
    pull = coupling * typical
    there = (groups.beside >= 0).float()
    eye = torch.eye(3, device=trace.device)
    stiff = equations.matrix + eye * (damping * typical + pull * there.sum(1))[:, None, None]
    stiff = stiff + eye * (damping * trace / 3)[:, None, None]
    shift = torch.zeros_like(equations.gradient)
    for _ in range(SWEEPS):
        around = (shift[groups.beside.clamp_min(0)] * there[..., None]).sum(1)
        shift = torch.linalg.solve(stiff, (pull * around - equations.gradient)[..., None])[..., 0]
    return torch.where(enough[:, None], shift, 0.0)


def descend(
    pipeline: Pipeline,
    config: MovePointsConfig,
    groups: PointGroups,
    ask: Callable[[], ShiftEquations],
    start: Tensor,
    trust: float,
    bar: tqdm,
) -> None:
    """Take `config.iterations` steps of Gauss-Newton; a group that a step makes worse goes back.

    Source: Gauss-Newton on the picture as for cameras, design.md section 4; the pull between neighbours is that of
        elastic registration.
    """
    best = ask()
    bar.update()
    damping = torch.full((len(groups),), DAMPING, device=pipeline.device)
    for _ in range(config.iterations):
        known = with_prior(best, groups, pipeline.points.xyz - start, trust)
        shift = solve_shifts(known, groups, damping, config.smoothness)
        pipeline.points.move(shift[groups.of_point])
        tried = ask()
        bar.update()
        worse = looks_worse(best, tried)
        back = torch.where(worse[:, None], shift, 0.0)
        pipeline.points.move(-back[groups.of_point])
        damping = torch.where(worse, damping * 10, (damping / 4).clamp_min(1e-4))
        kept = {}
        for part in fields(ShiftEquations):
            old, new = getattr(best, part.name), getattr(tried, part.name)
            kept[part.name] = torch.where(worse.reshape(-1, *[1] * (old.dim() - 1)), old, new)
        best = ShiftEquations(**kept)


def looks_worse(before: ShiftEquations, after: ShiftEquations) -> Tensor:
    """Return [K] bool, the groups that left the pictures, or look worse there."""
    return (after.cost * before.count > before.cost * after.count) | (after.count < 0.5 * before.count)
