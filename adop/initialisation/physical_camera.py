"""Photometric bundle adjustment: exposures, white balance, vignette and response from points that many photos see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from adop.config import LearnConfig, learned
from adop.initialisation.photometry import PointSamples
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE

POINTS = 10_000
OBSERVATIONS = 100_000
STEPS = 250
RATE = 0.03
ROBUST = 0.05  # of the photo's range: an error beyond it counts less and less


@dataclass(frozen=True)
class Observations:
    """Points of one lens as the photos show them."""

    point: Tensor  # [M] index into the chosen points
    photo: Tensor  # [M]
    value: Tensor  # [M, 3] photo in [0, 1]
    position: Tensor  # [M, 2] on the photo, half diagonals from its centre
    weight: Tensor  # [M]
    lens: int


def calibrate(
    pipeline: Pipeline, point_samples: dict[int, PointSamples], learn: LearnConfig, seed: int = 0
) -> float:
    """Fit the physical camera to the photos' values at common points; return the median error left, of the range.

    The points' radiance is solved along with it and thrown away. Robust to what differs between photos; priors
    that only decide what the photos cannot (see `Tonemapper.prior`).

    Source: radiometric self-calibration as in Debevec and Malik 1997 and Goldman 2010, by gradient descent.
    """
    chosen = _choose_points(len(pipeline.points.xyz), point_samples, seed)
    if len(chosen) < 100:
        return float("nan")
    observed = _observe(pipeline, point_samples, chosen, seed)
    tonemapper = pipeline.tonemapper
    log_radiance = _start(pipeline, observed, len(chosen)).requires_grad_()
    parameters = [log_radiance]
    if learned(learn.exposure, 0):
        parameters.append(tonemapper.exposure_delta)
    if learned(learn.white_balance, 0):
        parameters.append(tonemapper.white_balance_log)
    if learned(learn.vignette, 0):
        parameters += [tonemapper.vignette_coefficients, tonemapper.vignette_centre]
    if learned(learn.response, 0):
        parameters.append(tonemapper.response_logits)
    before = [p.requires_grad for p in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    optimiser = torch.optim.Adam(parameters, lr=RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS, RATE / 50)
    errors = torch.zeros(1)
    for _ in range(STEPS):
        optimiser.zero_grad(set_to_none=True)
        cost, weight, parts = log_radiance.new_zeros(()), log_radiance.new_zeros(()), []
        for group in observed:
            error = _predict(pipeline, group, log_radiance) - group.value
            cost = cost + (group.weight[:, None] * (error / ROBUST).square().log1p()).sum()
            weight = weight + 3 * group.weight.sum()
            parts.append(error.detach().abs().flatten())
        (cost / weight + tonemapper.prior()).backward()
        optimiser.step()
        schedule.step()
        errors = torch.cat(parts)
    for parameter, learns in zip(parameters, before, strict=True):
        parameter.requires_grad_(learns)
        parameter.grad = None
    return float(errors.median())


def _choose_points(count: int, point_samples: dict[int, PointSamples], seed: int) -> Tensor:
    """Return up to `POINTS` indices of points that at least two photos see."""
    seen = torch.zeros(count)
    for g in point_samples.values():
        seen.index_add_(0, g.points, torch.ones(len(g.points)))
    several = torch.nonzero(seen >= 2)[:, 0]
    order = torch.randperm(len(several), generator=torch.Generator().manual_seed(seed))
    return several[order[:POINTS]]


def _observe(
    pipeline: Pipeline, point_samples: dict[int, PointSamples], chosen: Tensor, seed: int
) -> list[Observations]:
    number = torch.full((len(pipeline.points.xyz),), -1, dtype=torch.long)
    number[chosen] = torch.arange(len(chosen))
    device = pipeline.device
    groups = []
    for lens in sorted({pipeline.cameras.lens_of[i] for i in point_samples}):
        rows = []
        for photo, g in point_samples.items():
            if pipeline.cameras.lens_of[photo] == lens:
                keep = number[g.points] >= 0
                point = number[g.points[keep]]
                rows.append(
                    (point, torch.full_like(point, photo), g.value[keep], g.position[keep], g.weight[keep])
                )
        point, photos, value, position, weight = (torch.cat(column) for column in zip(*rows, strict=True))
        order = torch.randperm(len(point), generator=torch.Generator().manual_seed(seed))[:OBSERVATIONS]
        groups.append(
            Observations(
                point=point[order].to(device),
                photo=photos[order].to(device),
                value=value[order].to(device),
                position=position[order].to(device),
                weight=weight[order].to(device),
                lens=lens,
            )
        )
    return groups


def _start(pipeline: Pipeline, groups: list[Observations], count: int) -> Tensor:
    """Return [count, 3] log radiance: the weighted mean of what the present camera makes of the photos."""
    device = pipeline.device
    total, weight = torch.zeros(count, 3, device=device), torch.full((count, 1), 1e-9, device=device)
    tonemapper = pipeline.tonemapper
    with torch.no_grad():
        exposures = tonemapper.exposures()
        for g in groups:
            lens = torch.tensor([g.lens], device=device)
            light = tonemapper.linearise_response(g.value.T[None, :, None], lens)[0, :, 0].T
            radiance = light * torch.exp2(exposures[g.photo])[:, None]
            total.index_add_(0, g.point, radiance * g.weight[:, None])
            weight.index_add_(0, g.point, g.weight[:, None])
    return (total / weight).clamp_min(MIN_RADIANCE).log()


def _predict(pipeline: Pipeline, group: Observations, log_radiance: Tensor) -> Tensor:
    """Return [M, 3], the photos' values of the observed points."""
    tonemapper = pipeline.tonemapper
    lens = torch.tensor([group.lens], device=log_radiance.device)
    gain = (
        torch.exp2(-tonemapper.exposures()[group.photo])[:, None] * tonemapper.white_balances()[group.photo]
    )
    falloff = tonemapper.vignette(group.position.T[None, :, None], lens)[0, :, 0].T
    light = log_radiance[group.point].exp() * gain * falloff
    return tonemapper.apply_response(light.T[None, :, None], lens, leak=True)[0, :, 0].T
