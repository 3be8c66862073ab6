"""PatchMatch in plain torch, without any call of compiled code: what the kernels are tested by."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adop.stereo.problem import MAX_COST, StereoProblem, StereoView, Sweep, transfer

OFFSETS = (-5, -3, -1, 1, 3, 5)  # pixels, of the samples of a window from its centre along u and along v
MAX_TURN = 0.2  # change of a slope by a perturbation of 1, relative to the largest slope
MASK = 0xFFFFFFFF  # of 32 bits


def reference_costs(problem: StereoProblem, planes: Tensor) -> Tensor:
    """Return the costs [H, W] of planes [3, H, W], see `plane_costs`."""
    values, weights = _windows(problem)
    per_source = []
    for source in problem.sources:
        cost = _correlation_cost(problem, source, planes, values, weights)
        if source.planes is not None:
            cost = cost + problem.shift_weight * _round_trip(problem, source, planes[0])
        per_source.append(cost)
    return torch.stack(per_source).sort(0).values[: problem.sources_kept].mean(0)


def reference_sweep(
    problem: StereoProblem, planes: Tensor, costs: Tensor, sweep: Sweep
) -> tuple[Tensor, Tensor]:
    """Return the improved planes and their costs, see `sweep_planes`."""
    v, u = _pixels(problem.reference.image)
    for colour in (0, 1):
        changes = (u.long() + v.long()) % 2 == colour
        changes &= torch.isfinite(problem.reference.image)
        best, least = planes.clone(), costs.clone()
        for near in (True, False):
            for direction in range(4):
                plane, exists = _neighbour_planes(planes, costs, direction, near)
                _attempt(problem, plane, changes & exists, best, least)
        random = _random_numbers(problem, 2 * sweep.number + colour)
        for kind in range(3):
            _attempt(
                problem, _perturbed(problem, best, kind, sweep.perturbation, random), changes, best, least
            )
        planes, costs = best, least
    return planes, costs


def _attempt(problem: StereoProblem, plane: Tensor, allowed: Tensor, best: Tensor, least: Tensor) -> None:
    """Replace the best planes, in place, where others are possible and cost less."""
    steepest = problem.max_slope * plane[0]
    possible = (plane[0] >= problem.min_inverse) & (plane[0] <= problem.max_inverse)
    possible &= (plane[1].abs() <= steepest) & (plane[2].abs() <= steepest)
    cost = reference_costs(problem, plane)
    better = allowed & possible & (cost < least)
    least.copy_(torch.where(better, cost, least))
    best.copy_(torch.where(better, plane, best))


def _neighbour_planes(planes: Tensor, costs: Tensor, direction: int, near: bool) -> tuple[Tensor, Tensor]:
    """Return the plane of the cheapest pixel in a direction, extended to each pixel, and whether there is one."""
    du, dv = ((1, 0), (-1, 0), (0, 1), (0, -1))[direction]
    steps = [(1, 0), (2, 1), (2, -1), (3, 2), (3, -2)] if near else [(3, 0), (5, 0), (7, 0), (9, 0), (11, 0)]
    found = torch.full_like(planes, torch.nan)
    least = torch.full_like(costs, torch.inf)
    for along, across in steps:
        shift = (du * along + dv * across, dv * along + du * across)
        cost, plane = _shifted(costs[None], shift, torch.inf)[0], _shifted(planes, shift, torch.nan)
        inverse = plane[0] - shift[0] * plane[1] - shift[1] * plane[2]
        cheaper = cost < least
        least = torch.where(cheaper, cost, least)
        found = torch.where(cheaper, torch.stack((inverse, plane[1], plane[2])), found)
    return found, torch.isfinite(least)


def _shifted(image: Tensor, shift: tuple[int, int], outside: float) -> Tensor:
    """Return the image [C, H, W] whose pixel (u, v) is that at (u, v) + shift."""
    _, height, width = image.shape
    rows, columns = (torch.arange(size) + step for size, step in ((height, shift[1]), (width, shift[0])))
    inside = ((rows >= 0) & (rows < height))[:, None] & ((columns >= 0) & (columns < width))
    picked = image[:, rows.clamp(0, height - 1)][:, :, columns.clamp(0, width - 1)]
    return torch.where(inside, picked, outside)


def _perturbed(
    problem: StereoProblem, planes: Tensor, kind: int, scale: float, random: Callable[[int], Tensor]
) -> Tensor:
    """Return planes with another inverse depth (kind 0), another tilt (1), or both (2)."""
    factor = 1 if kind == 1 else 1 + scale * (2 * random(3 * kind) - 1)
    inverse, slopes = planes[0] * factor, planes[1:] * factor
    if kind > 0:
        turn = scale * MAX_TURN * problem.max_slope * inverse
        numbers = torch.stack([random(3 * kind + 1), random(3 * kind + 2)])
        slopes = slopes + turn * (2 * numbers - 1)
    return torch.cat((inverse[None], slopes))


def _random_numbers(problem: StereoProblem, sweep: int) -> Callable[[int], Tensor]:
    image = problem.reference.image
    pixel = torch.arange(image.numel(), device=image.device).reshape(image.shape)

    def numbers(purpose: int) -> Tensor:
        key = _scramble((_scramble(pixel) + sweep * 16 + purpose) & MASK)
        return (key >> 8).to(image) / 2**24

    return numbers


def _scramble(value: Tensor) -> Tensor:
    """Scramble 32 bits (Jarzynski and Olano 2020, "pcg")."""
    state = (value * 747796405 + 2891336453) & MASK
    word = (((state >> ((state >> 28) + 4)) ^ state) * 277803737) & MASK
    return (word >> 22) ^ word


def _pixels(image: Tensor) -> tuple[Tensor, Tensor]:
    """Return row and column of each pixel, [H, W]."""
    height, width = image.shape
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return rows.to(image), columns.to(image)


def _windows(problem: StereoProblem) -> tuple[Tensor, Tensor]:
    """Return the samples [36, H, W] of the window around each pixel, and their weights."""
    image = problem.reference.image
    values, weights = [], []
    for dv in OFFSETS:
        for du in OFFSETS:
            value = _shifted(image[None], (du, dv), torch.nan)[0]
            near = 1 + (du * du + dv * dv) / 144
            alike = 1 + ((value - image) / problem.value_spread).square()
            counts = torch.isfinite(value)
            values.append(torch.where(counts, value, 0))
            weights.append(torch.where(counts, 1 / (near * alike.square()).square(), 0))
    return torch.stack(values), torch.stack(weights)


def _correlation_cost(
    problem: StereoProblem, source: StereoView, planes: Tensor, values: Tensor, weights: Tensor
) -> Tensor:
    """Return 1 - the weighted correlation [H, W] of each window with its image in the source under the plane."""
    rows, columns = _pixels(planes[0])
    height, width = source.image.shape
    others, shown = [], []
    for dv in OFFSETS:
        for du in OFFSETS:
            u, v = columns + 0.5 + du, rows + 0.5 + dv
            x, y, z = _transferred(
                problem.reference, source, u, v, planes[0] + du * planes[1] + dv * planes[2]
            )
            su, sv = x / z, y / z
            inside = (z > 0) & (su >= 0) & (sv >= 0) & (su < width) & (sv < height)
            value = _bilinear(source.image, torch.where(inside, su, 0), torch.where(inside, sv, 0))
            counts = inside & torch.isfinite(value)
            others.append(torch.where(counts, value, 0))
            shown.append(counts)
    other, weight = torch.stack(others), weights * torch.stack(shown)
    total = weight.sum(0)
    mean, other_mean = (weight * values).sum(0) / total, (weight * other).sum(0) / total
    variance = (weight * (values - mean).square()).sum(0) / total
    other_variance = (weight * (other - other_mean).square()).sum(0) / total
    covariance = (weight * (values - mean) * (other - other_mean)).sum(0) / total
    cost = (1 - covariance / (variance * other_variance).sqrt()).clamp(0, MAX_COST)
    x, y, z = _transferred(problem.reference, source, columns + 0.5, rows + 0.5, planes[0])
    valid = (z > 0) & (x >= 0) & (y >= 0) & (x < width * z) & (y < height * z)
    valid &= total > problem.min_seen * weights.sum(0)
    valid &= (variance > problem.min_variance) & (other_variance > problem.min_variance)
    return torch.where(valid, cost, MAX_COST)


def _transferred(
    first: StereoView, second: StereoView, u: Tensor, v: Tensor, inverse: Tensor
) -> list[Tensor]:
    """Return the homogeneous position of pixels at inverse depths in the second photo."""
    rows = transfer(first, second).to(inverse)
    return [row[0] * u + row[1] * v + row[2] + row[3] * inverse for row in rows]


def _bilinear(image: Tensor, u: Tensor, v: Tensor) -> Tensor:
    """Return the image at positions in pixels; NaN beside a pixel that is NaN."""
    height, width = image.shape
    x, y = (u - 0.5).clamp(0, width - 1 - 0.001), (v - 0.5).clamp(0, height - 1 - 0.001)
    column, row = x.long(), y.long()
    s, t = x - column, y - row
    upper = image[row, column] * (1 - s) + image[row, column + 1] * s
    lower = image[row + 1, column] * (1 - s) + image[row + 1, column + 1] * s
    return upper * (1 - t) + lower * t


def _round_trip(problem: StereoProblem, source: StereoView, inverse: Tensor) -> Tensor:
    """Return the pixels [H, W] by which the source's own planes lead back beside each pixel, at most `max_shift`."""
    assert source.planes is not None
    rows, columns = _pixels(inverse)
    u, v = columns + 0.5, rows + 0.5
    height, width = source.image.shape
    x, y, z = _transferred(problem.reference, source, u, v, inverse)
    su, sv = x / z, y / z
    inside = (z > 0) & (su >= 0) & (sv >= 0) & (su < width) & (sv < height)
    su, sv = torch.where(inside, su, 0), torch.where(inside, sv, 0)
    column, row = su.long(), sv.long()
    own, along_u, along_v = source.planes[:, row, column]
    own = own + (su - column - 0.5) * along_u + (sv - row - 0.5) * along_v
    x, y, z = _transferred(source, problem.reference, su, sv, own)
    shift = torch.hypot(x / z - u, y / z - v)
    valid = inside & (z > 0) & (shift < problem.max_shift)
    return torch.where(valid, shift, problem.max_shift)
