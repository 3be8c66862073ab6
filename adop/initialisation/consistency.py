"""What photos contradict: points that they do not show, and pixels of single photos that hide what others show."""

from __future__ import annotations

import dataclasses
import math

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.config import OccludersConfig, PruneConfig
from adop.initialisation.photometry import PointSamples, photo_radiance
from adop.initialisation.reduced_photos import offset_log
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE

MIN_CONFIDENCE = 0.1  # of a photo's value, below which it is too dark or too bright to contradict anything
CONSENSUS_ROUNDS = 4  # of the mean over photos that leaves out those which differ
CELLS = 128  # squares along the longer side of a photo, in which points are counted
WINDOW = 5  # squares along each side of the windows that are judged
MIN_HIDDEN = 0.002  # share of a photo: less is chance
MIN_JUDGED = 0.2  # share of a window's points whose colour the other photos must agree on


@torch.no_grad()
def unsupported_points(
    pipeline: Pipeline, point_samples: dict[int, PointSamples], config: PruneConfig
) -> Tensor:
    """Return [N] bool, the points that enough photos see and too few of them show in the point's colour.

    Args:
        point_samples: by photo, see `adop.initialisation.photometry.sample_points`.

    Source: photo-consistency (Kutulakos and Seitz 2000), applied to single points.
    """
    device = pipeline.device
    visible, consistent = (torch.zeros(len(pipeline.points), device=device) for _ in range(2))
    for photo, samples in point_samples.items():
        points, value, position = (x.to(device) for x in (samples.points, samples.value, samples.position))
        expected = pipeline.photo_of_points(pipeline.points.features[points, :3].exp(), photo, position)
        agrees = (expected - value).abs().amax(1) < config.colour_tolerance
        visible.index_add_(0, points, torch.ones_like(expected[:, 0]))
        consistent.index_add_(0, points, agrees.float())
    return (visible >= config.min_views) & (consistent < config.min_agreement * visible)


def remove_unsupported(
    pipeline: Pipeline, point_samples: dict[int, PointSamples], config: PruneConfig
) -> int:
    """Remove the unsupported points from the pipeline and return how many.

    The point indices of `point_samples` are invalid afterwards.
    """
    unsupported = unsupported_points(pipeline, point_samples, config)
    pipeline.points.keep(~unsupported)
    return int(unsupported.sum())


@torch.no_grad()
def find_occluders(
    pipeline: Pipeline, point_samples: dict[int, PointSamples], config: OccludersConfig
) -> dict[int, Tensor]:
    """Return [H, W] bool by photo, the pixels in which something hides the points that other photos agree on.

    A passer-by, leaves close to the camera or a lens flare: most points there have another colour than in nearly all
    other photos. Photos without such pixels are left out.

    Args:
        point_samples: by photo, see `adop.initialisation.photometry.sample_points`.
    """
    device = pipeline.device
    samples = {i: _to(s, device) for i, s in point_samples.items()}
    logs = {i: _log_radiance(pipeline, i, s) for i, s in samples.items()}
    consensus = _consensus(logs, samples, len(pipeline.points), config)
    clear = {i: s.confidence > MIN_CONFIDENCE for i, s in samples.items()}
    difference = {i: (logs[i] - consensus[s.points]).abs().amax(1) for i, s in samples.items()}
    alike = {i: clear[i] & (difference[i] < config.tolerance) for i in samples}
    showing, agreeing = (torch.zeros(len(pipeline.points), device=device) for _ in range(2))
    for i, s in samples.items():
        showing.index_add_(0, s.points, clear[i].float())
        agreeing.index_add_(0, s.points, alike[i].float())
    result = {}
    for i, s in samples.items():
        others, agreed = showing[s.points] - clear[i].float(), agreeing[s.points] - alike[i].float()
        judged = clear[i] & (agreed >= config.min_views) & (agreed >= config.min_agreement * others)
        hidden = _windows(pipeline, i, s.points, judged, difference[i] > config.min_difference)
        if hidden.float().mean() > MIN_HIDDEN:
            result[i] = hidden
    return result


def _to(samples: PointSamples, device: torch.device) -> PointSamples:
    return PointSamples(*(part.to(device) for part in dataclasses.astuple(samples)))


def _log_radiance(pipeline: Pipeline, photo: int, samples: PointSamples) -> Tensor:
    """Return [M, 3] the logarithm of the radiance that a photo shows at its points."""
    radiance = photo_radiance(pipeline, photo, samples.value.T[:, None], samples.position.T[:, None])
    return offset_log(radiance[:, 0].T.clamp_min(MIN_RADIANCE).log())


def _consensus(
    logs: dict[int, Tensor], samples: dict[int, PointSamples], count: int, config: OccludersConfig
) -> Tensor:
    """Return [N, 3] the log radiance that most photos show at each point.

    Source: iteratively reweighted least squares with Welsch's weights (Holland and Welsch 1977), first wide, then
    narrow.
    """
    mean = None
    for round_ in range(CONSENSUS_ROUNDS):
        width = config.tolerance * (2 if round_ < CONSENSUS_ROUNDS / 2 else 1)
        first = next(iter(logs.values()))
        total, weights = first.new_zeros(count, 3), first.new_full((count, 1), 1e-9)
        for i, s in samples.items():
            weight = (s.confidence > MIN_CONFIDENCE).float()[:, None]
            if mean is not None:
                difference = (logs[i] - mean[s.points]).abs().amax(1, keepdim=True)
                weight = weight * torch.exp(-0.5 * (difference / width).square())
            total.index_add_(0, s.points, logs[i] * weight)
            weights.index_add_(0, s.points, weight)
        mean = total / weights
    assert mean is not None
    return mean


def _windows(pipeline: Pipeline, photo: int, points: Tensor, judged: Tensor, differs: Tensor) -> Tensor:
    """Return [H, W] bool, the pixels of a photo around which most judged points differ.

    Args:
        points: [M] indices; judged: [M] bool; differs: [M] bool.
    """
    camera = pipeline.camera(torch.tensor([photo]))
    level = max(0, round(math.log2(max(camera.width, camera.height) / CELLS)))
    flags = torch.zeros(len(pipeline.points), 2, device=points.device)
    flags[points] = torch.stack((judged, judged & differs), 1).float()
    raster = dataclasses.replace(pipeline.raster, levels=level + 1, radius_threshold=0.0)
    levels = pipeline.draw(camera, flags, raster)
    drawn = levels.weight[level]
    counts = torch.cat((drawn, levels.features[level] * drawn), 1)
    sums = F.avg_pool2d(counts, WINDOW, stride=1, padding=WINDOW // 2)[0]
    hidden = (sums[2] > 0.5 * sums[1]) & (sums[1] > MIN_JUDGED * sums[0])
    side = 2**level
    return hidden.repeat_interleave(side, 0).repeat_interleave(side, 1)[: camera.height, : camera.width]
