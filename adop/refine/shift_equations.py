"""Shifts of groups of points by Gauss-Newton: normal equations from the photos, a prior, and their solution."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adop.config import MovePointsConfig
from adop.model.pipeline import Pipeline
from adop.progress import Bar
from adop.refine.observations import PointResiduals, point_residuals
from adop.refine.photo_set import PhotoSet
from adop.refine.point_groups import PointGroups, group_means

START_DAMPING, MIN_DAMPING = 1e-2, 1e-4  # Levenberg-Marquardt's
JACOBI_SWEEPS = 20
MIN_OBSERVATIONS = 3.0  # of a group, below which it does not move
# Number of observations that count as one independent one: errors of neighbouring pixels are correlated.
CORRELATED_OBSERVATIONS = 30.0
SUMS = 14  # columns that `add_residuals` sums: matrix 9, gradient 3, cost, count


@dataclass(frozen=True)
class PositionPrior:
    """Where points were at the start, and how far off that may be."""

    start: Tensor  # [N, 3] world
    sigma: float  # standard deviation, scene units


@dataclass(frozen=True)
class ShiftEquations:
    """Normal equations `matrix @ shift = -gradient` of each group's shift, summed over its observations in photos."""

    matrix: Tensor  # [K, 3, 3]
    gradient: Tensor  # [K, 3]
    cost: Tensor  # [K] sum of log(1 + residual^2), mean over the colours
    count: Tensor  # [K] observations

    def replaced_by(self, other: ShiftEquations, mask: Tensor) -> ShiftEquations:
        """Return equations with those of `other` for the groups of `mask` [K] bool."""
        return ShiftEquations(
            torch.where(mask[:, None, None], other.matrix, self.matrix),
            torch.where(mask[:, None], other.gradient, self.gradient),
            torch.where(mask, other.cost, self.cost),
            torch.where(mask, other.count, self.count),
        )


@torch.no_grad()
def gather_shift_equations(
    photos: PhotoSet, scale: int, groups: PointGroups, radiance: Tensor
) -> ShiftEquations:
    """Sum each group's normal equations over all photos, reduced by `scale`; see `point_residuals`.

    Args: radiance: [N, 3] linear light of each point.
    """
    sums = torch.zeros(len(groups), SUMS, device=photos.pipeline.device)
    for photo in photos.indices:
        add_residuals(sums, groups, point_residuals(photos, photo, scale, radiance))
    return equations_from_sums(sums)


def add_residuals(sums: Tensor, groups: PointGroups, residuals: PointResiduals) -> None:
    """Add the residuals of one photo to the sums [K, SUMS] of each group."""
    weighted = residuals.by_point * residuals.weight[..., None]
    parts = (
        torch.einsum("mck,mcl->mkl", weighted, residuals.by_point).flatten(1),
        torch.einsum("mck,mc->mk", weighted, residuals.residual),
        residuals.residual.square().log1p().mean(1, keepdim=True),
        torch.ones_like(residuals.residual[:, :1]),
    )
    sums.index_add_(0, groups.of_point[residuals.points], torch.cat(parts, dim=1))


def equations_from_sums(sums: Tensor) -> ShiftEquations:
    """Return the normal equations that `add_residuals` summed."""
    return ShiftEquations(sums[:, :9].reshape(-1, 3, 3), sums[:, 9:12], sums[:, 12], sums[:, 13])


def add_prior(
    equations: ShiftEquations, groups: PointGroups, displacement: Tensor, sigma: float
) -> ShiftEquations:
    """Return the equations with a prior that holds points at their start.

    Args:
        displacement: [N, 3] of the points from their start, scene units.
        sigma: standard deviation of the prior, scene units.
    """
    weight = CORRELATED_OBSERVATIONS / sigma**2
    gradient = weight * group_means(displacement, groups)
    eye = torch.eye(3, device=displacement.device)
    return replace(equations, matrix=equations.matrix + weight * eye, gradient=equations.gradient + gradient)


def photo_share(equations: ShiftEquations, sigma: float) -> Tensor:
    """Return [K] float64 in [0, 1], how far photos rather than the prior determine each group's position.

    It is that of the direction in which the photos determine least.
    """
    least = torch.linalg.eigvalsh(equations.matrix.double())[:, 0].clamp_min(0)
    return least / (least + CORRELATED_OBSERVATIONS / sigma**2)


def solve_shifts(
    equations: ShiftEquations, groups: PointGroups, damping: Tensor, smoothness: float
) -> Tensor:
    """Return the shift [K, 3] of each group in scene units, by Jacobi iterations.

    Args:
        damping: [K] Levenberg-Marquardt's, relative to the matrices.
        smoothness: weight of the differences between neighbouring groups' shifts, relative to the median matrix.
    """
    trace = equations.matrix.diagonal(dim1=1, dim2=2).sum(1)
    observed = equations.count >= MIN_OBSERVATIONS
    if not bool(observed.any()):
        return torch.zeros_like(equations.gradient)
    typical = trace[observed].median().clamp_min(1e-12) / 3
    weight = smoothness * typical
    exists = (groups.neighbours >= 0).float()
    eye = torch.eye(3, device=trace.device)
    damped = equations.matrix + eye * (damping * typical + weight * exists.sum(1))[:, None, None]
    damped = damped + eye * (damping * trace / 3)[:, None, None]
    shift = torch.zeros_like(equations.gradient)
    for _ in range(JACOBI_SWEEPS):
        neighbours = (shift[groups.neighbours.clamp_min(0)] * exists[..., None]).sum(1)
        right = weight * neighbours - equations.gradient
        shift = torch.linalg.solve(damped, right[..., None])[..., 0]
    return torch.where(observed[:, None], shift, 0.0)


def minimise_shifts(
    pipeline: Pipeline,
    groups: PointGroups,
    linearise: Callable[[], ShiftEquations],
    prior: PositionPrior,
    config: MovePointsConfig,
    bar: Bar,
) -> None:
    """Move groups of points by `config.iterations` steps of Levenberg-Marquardt; groups that a step makes worse go back.

    Args: linearise: returns the equations at the points' present positions, without the prior.

    Source: Gauss-Newton on images (Baker & Matthews 2004), with a damping for each group; the smoothness between
        neighbours is ours.
    """
    best = linearise()
    bar.update()
    damping = torch.full((len(groups),), START_DAMPING, device=pipeline.device)
    for _ in range(config.iterations):
        equations = add_prior(best, groups, pipeline.points.xyz - prior.start, prior.sigma)
        shift = solve_shifts(equations, groups, damping, config.smoothness)
        pipeline.points.move(shift[groups.of_point])
        tried = linearise()
        bar.update()
        worse = is_worse(best, tried)
        pipeline.points.move(-torch.where(worse[:, None], shift, 0.0)[groups.of_point])
        damping = next_damping(damping, worse)
        best = best.replaced_by(tried, ~worse)


def next_damping(damping: Tensor, worse: Tensor) -> Tensor:
    """Return the damping [K] of each group after a step: more where it was worse [K] bool, else less."""
    return torch.where(worse, damping * 10, (damping / 4).clamp_min(MIN_DAMPING))


def is_worse(before: ShiftEquations, after: ShiftEquations) -> Tensor:
    """Return [K] bool, the groups whose mean cost has risen, or that lost more than half of their observations."""
    return (after.cost * before.count > before.cost * after.count) | (after.count < 0.5 * before.count)
