"""Photometric calibration: exposures, white balance, vignette and response from points that several photos see."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adop.config import LearnConfig, learned
from adop.initialisation.photometry import PointSamples
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE
from adop.model.tonemapper import Tonemapper
from adop.progress import Bar

MAX_POINTS = 10_000
MAX_OBSERVATIONS = 100_000  # per lens
MIN_POINTS = 100  # fewer do not determine a camera
STEPS = 250
LEARNING_RATE = 0.03
FINAL_LEARNING_RATE = LEARNING_RATE / 50
CAUCHY_SCALE = 0.05  # of the photo's range: larger errors count less and less


@dataclass(frozen=True)
class Observations:
    """Points seen through one lens, and the photos' values there."""

    point: Tensor  # [M] index into the chosen points
    photo: Tensor  # [M] index
    value: Tensor  # [3, M] the photo's value in [0, 1]
    position: Tensor  # [2, M] on the photo, half diagonals from its centre
    confidence: Tensor  # [M]
    lens: int


def calibrate(
    pipeline: Pipeline, point_samples: dict[int, PointSamples], learn: LearnConfig, seed: int = 0
) -> float:
    """Fit the physical camera to what several photos show of the same points; return the median error, of the range.

    The radiance of the points is solved for as well, and discarded. A robust cost allows for what differs between the
    photos; priors decide only what the photos cannot, see `Tonemapper.prior`. Returns nan, and fits nothing, with fewer
    than `MIN_POINTS` common points.

    Source: radiometric self-calibration as by Debevec and Malik 1997 and Goldman 2010, here by gradient descent.
    """
    chosen = _choose_points(len(pipeline.points), point_samples, seed)
    if len(chosen) < MIN_POINTS:
        return float("nan")
    observations = _observations(pipeline, point_samples, chosen, seed)
    log_radiance = _initial_log_radiance(pipeline, observations, len(chosen)).requires_grad_()
    parameters = _calibrated_parameters(pipeline.tonemapper, learn)
    before = [parameter.requires_grad for parameter in parameters]
    for parameter in parameters:
        parameter.requires_grad_(True)
    errors = _minimise(pipeline, observations, [log_radiance, *parameters])
    for parameter, required_grad in zip(parameters, before, strict=True):
        parameter.requires_grad_(required_grad)
        parameter.grad = None
    return float(errors.median())


def _calibrated_parameters(tonemapper: Tonemapper, learn: LearnConfig) -> list[nn.Parameter]:
    """Return the parameters of the physical camera that are learned from the start."""
    parameters: list[nn.Parameter] = []
    if learned(learn.exposure, 0):
        parameters.append(tonemapper.exposure_delta)
    if learned(learn.white_balance, 0):
        parameters.append(tonemapper.white_balance_log)
    if learned(learn.vignette, 0):
        parameters += [tonemapper.vignette_coefficients, tonemapper.vignette_centre]
    if learned(learn.response, 0):
        parameters.append(tonemapper.response_logits)
    return parameters


def _minimise(pipeline: Pipeline, observations: list[Observations], parameters: list[Tensor]) -> Tensor:
    """Fit the parameters, of which the first is the points' log radiance; return the absolute errors of the last step.

    The cost is Cauchy's, averaged by confidence, plus the prior.
    """
    log_radiance = parameters[0]
    steps = STEPS if len(parameters) > 1 else 1  # the radiance alone need not be fitted: it is discarded
    optimiser = torch.optim.Adam(parameters, lr=LEARNING_RATE, betas=(0.9, 0.99))
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, STEPS, FINAL_LEARNING_RATE)
    errors: list[Tensor] = []
    for _ in Bar(range(steps), desc="fitting the physical camera"):
        optimiser.zero_grad(set_to_none=True)
        cost, weight, errors = log_radiance.new_zeros(()), log_radiance.new_zeros(()), []
        for observed in observations:
            error = _predicted_values(pipeline, observed, log_radiance) - observed.value
            robust = (error / CAUCHY_SCALE).square().log1p()
            cost = cost + (observed.confidence * robust).sum()
            weight = weight + 3 * observed.confidence.sum()
            errors.append(error.detach().abs().flatten())
        (cost / weight + pipeline.tonemapper.prior()).backward()
        optimiser.step()
        schedule.step()
    return torch.cat(errors)


def _choose_points(count: int, point_samples: dict[int, PointSamples], seed: int) -> Tensor:
    """Return up to `MAX_POINTS` random indices of points that at least two photos see."""
    views = torch.zeros(count)
    for samples in point_samples.values():
        views.index_add_(0, samples.points, torch.ones(len(samples.points)))
    shared = torch.nonzero(views >= 2)[:, 0]
    order = torch.randperm(len(shared), generator=torch.Generator().manual_seed(seed))
    return shared[order[:MAX_POINTS]]


def _observations(
    pipeline: Pipeline, point_samples: dict[int, PointSamples], chosen: Tensor, seed: int
) -> list[Observations]:
    """Return up to `MAX_OBSERVATIONS` random observations of the chosen points for each lens."""
    # Index into the chosen points; -1: not chosen.
    number = torch.full((len(pipeline.points),), -1, dtype=torch.long)
    number[chosen] = torch.arange(len(chosen))
    lens_of, device = pipeline.cameras.lens_of, pipeline.device
    result = []
    for lens in sorted({lens_of[photo] for photo in point_samples}):
        rows = []
        for photo, samples in point_samples.items():
            if lens_of[photo] == lens:
                keep = number[samples.points] >= 0
                point = number[samples.points[keep]]
                kept = samples.value[keep], samples.position[keep], samples.confidence[keep]
                rows.append((point, torch.full_like(point, photo), *kept))
        columns = [torch.cat(column) for column in zip(*rows, strict=True)]
        order = torch.randperm(len(columns[0]), generator=torch.Generator().manual_seed(seed))
        subset = order[:MAX_OBSERVATIONS]
        point, photos, value, position, confidence = (column[subset].to(device) for column in columns)
        # Channels first and contiguous: twice as fast as one row for each observation.
        value, position = value.T.contiguous(), position.T.contiguous()
        result.append(Observations(point, photos, value, position, confidence, lens))
    return result


def _initial_log_radiance(pipeline: Pipeline, observations: list[Observations], count: int) -> Tensor:
    """Return [3, count] log radiance of the points: the mean of the photos' light, by the present response and EV."""
    device = pipeline.device
    total, weight = torch.zeros(3, count, device=device), torch.full((count,), 1e-9, device=device)
    tonemapper = pipeline.tonemapper
    with torch.no_grad():
        exposures = tonemapper.exposures()
        for observed in observations:
            lens = torch.tensor([observed.lens], device=device)
            light = tonemapper.linearise_response(observed.value[None, :, None], lens)[0, :, 0]
            radiance = light * torch.exp2(exposures[observed.photo])
            total.index_add_(1, observed.point, radiance * observed.confidence)
            weight.index_add_(0, observed.point, observed.confidence)
    return (total / weight).clamp_min(MIN_RADIANCE).log()


def _predicted_values(pipeline: Pipeline, observed: Observations, log_radiance: Tensor) -> Tensor:
    """Return [3, M] the values in [0, 1] that the physical camera predicts for the observations.

    Args:
        log_radiance: [3, count] of the points.
    """
    tonemapper = pipeline.tonemapper
    lens = torch.tensor([observed.lens], device=log_radiance.device)
    gains = torch.exp2(-tonemapper.exposures())[:, None] * tonemapper.white_balances()
    # The gradient of `index_select` is a plain sum; that of indexing sorts first where results must repeat.
    gain = gains.T.contiguous().index_select(1, observed.photo)
    vignette = tonemapper.vignette(observed.position[None, :, None], lens)[0, :, 0]
    light = log_radiance.exp().index_select(1, observed.point) * gain * vignette
    return tonemapper.apply_response(light[None, :, None], lens, leak=True)[0, :, 0]
