"""What photos contradict: points that they do not show, and pixels of single photos that hide what others show."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.config import OccludersConfig, PruneConfig
from adop.initialisation.photometry import PointSamples, sampled_log_radiance
from adop.initialisation.reduced_photos import offset_log
from adop.model.pipeline import Pipeline
from adop.scene.photo_cache import PhotoCache

MIN_CONFIDENCE = 0.1  # of a photo's value, below which it is too dark or too bright to contradict anything
CONSENSUS_ROUNDS = 4  # of the mean over photos that leaves out those which differ
CELLS = 128  # squares along the longer side of a photo, in which points are counted
WINDOW = 5  # squares along each side of the windows that are judged
MIN_HIDDEN = 0.002  # share of a photo: less is chance
MIN_JUDGED = 0.2  # share of a window's points whose colour the other photos must agree on
SPREAD_REACH = 20.0  # squares: how near a judged square must be to speak for one without judged points
SPREAD_COLOUR = 0.06  # of a photo's values: how alike, in colour and in texture
SPREAD_WEIGHT = 4.0  # alike squares nearby, fewer than which say nothing


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
    for photo, given in point_samples.items():
        samples = given.to(device)
        light = pipeline.points.features[samples.points, :3].exp()
        expected = pipeline.photo_of_points(light, photo, samples.position)
        agrees = (expected - samples.value).abs().amax(1) < config.colour_tolerance
        visible.index_add_(0, samples.points, torch.ones_like(expected[:, 0]))
        consistent.index_add_(0, samples.points, agrees.float())
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
    pipeline: Pipeline, cache: PhotoCache, point_samples: dict[int, PointSamples], config: OccludersConfig
) -> dict[int, Tensor]:
    """Return [H, W] bool by photo, the pixels in which something hides the points that other photos agree on.

    A passer-by, leaves close to the camera or a lens flare: most points there have another colour than in nearly all
    other photos. It goes on where no points judge, as leaves do before the sky, as far as the photo looks the same.
    Photos without such pixels are left out.

    Args:
        point_samples: by photo, see `adop.initialisation.photometry.sample_points`.
    """
    device = pipeline.device
    samples = {i: s.to(device) for i, s in point_samples.items()}
    logs = {i: offset_log(sampled_log_radiance(pipeline, i, s)) for i, s in samples.items()}
    clear = {i: s.confidence > MIN_CONFIDENCE for i, s in samples.items()}
    views = [(s.points, logs[i], clear[i].float()[:, None]) for i, s in samples.items()]
    consensus = _consensus(views, len(pipeline.points), config.tolerance)
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
        cells = _judged_cells(pipeline, i, s.points, judged, difference[i] > config.min_difference)
        if cells.hidden.float().mean() > MIN_HIDDEN:
            result[i] = _spread(cells, cache.image(i, device))
    return result


def _consensus(views: list[tuple[Tensor, Tensor, Tensor]], count: int, tolerance: float) -> Tensor:
    """Return [N, 3] the log radiance that most photos show at each point.

    Args:
        views: of each photo, indices [M] of points, their log radiance [M, 3], and 1 where it counts, else 0 [M, 1].

    Source: iteratively reweighted least squares with Welsch's weights (Holland and Welsch 1977), first wide, then
    narrow.
    """
    mean = None
    for round_ in range(CONSENSUS_ROUNDS):
        width = tolerance * (2 if round_ < CONSENSUS_ROUNDS / 2 else 1)
        total, weights = views[0][1].new_zeros(count, 3), views[0][1].new_full((count, 1), 1e-9)
        for points, log_radiance, counts in views:
            weight = counts
            if mean is not None:
                difference = (log_radiance - mean[points]).abs().amax(1, keepdim=True)
                weight = weight * torch.exp(-0.5 * (difference / width).square())
            total.index_add_(0, points, log_radiance * weight)
            weights.index_add_(0, points, weight)
        mean = total / weights
    assert mean is not None
    return mean


@dataclass(frozen=True)
class _Cells:
    """What the points say of the squares of a photo."""

    side: int  # pixels
    hidden: Tensor  # [h, w] bool, most judged points around the square differ
    judged: Tensor  # [h, w] bool, judged points lie in the square itself, and enough around it


def _judged_cells(pipeline: Pipeline, photo: int, points: Tensor, judged: Tensor, differs: Tensor) -> _Cells:
    """Return what the points say of a photo's squares.

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
    enough = sums[1] > MIN_JUDGED * sums[0]
    return _Cells(2**level, (sums[2] > 0.5 * sums[1]) & enough, (counts[0, 1] > 0) & enough)


def _spread(cells: _Cells, image: Tensor) -> Tensor:
    """Return [H, W] bool, the hidden pixels: squares without judged points are as the judged ones that look like them.

    Args:
        image: [1, 3, H, W] the photo, 0 to 1.

    Source: a vote of the judged squares, weighted as by a bilateral filter (Tomasi and Manduchi 1998).
    """
    look = _look_of_cells(image, cells)
    known, found = look[cells.judged.flatten()], cells.hidden[cells.judged]
    asked = cells.hidden | ~cells.judged
    votes = [_votes(part, known, found) for part in look[asked.flatten()].split(1024)]
    alike = asked.masked_scatter(asked, torch.cat(votes) > 0)
    outline = F.max_pool2d(alike[None].float(), 3, stride=1, padding=1)[0] > 0  # squares that show some of it
    hidden = cells.hidden | (outline & ~cells.judged)
    height, width = image.shape[2:]
    return hidden.repeat_interleave(cells.side, 0).repeat_interleave(cells.side, 1)[:height, :width]


def _votes(asked: Tensor, known: Tensor, hidden: Tensor) -> Tensor:
    """Return [A] by how much the squares that are hidden outvote the others, less what is needed to say anything.

    Args:
        asked: [A, 6]; known: [K, 6], see `_look_of_cells`; hidden: [K] bool.
    """
    weight = torch.exp(-0.5 * torch.cdist(asked, known).square())
    return weight @ (2 * hidden.float() - 1) - SPREAD_WEIGHT


def _look_of_cells(image: Tensor, cells: _Cells) -> Tensor:
    """Return [h * w, 6] place, colour and texture of each square, in units of what counts as near and alike."""
    height, width = cells.hidden.shape
    pad = (0, width * cells.side - image.shape[3], 0, height * cells.side - image.shape[2])
    whole = F.pad(image, pad, mode="replicate")
    mean = F.avg_pool2d(whole, cells.side)
    grey = whole.mean(1, keepdim=True)
    variance = F.avg_pool2d(grey.square(), cells.side) - F.avg_pool2d(grey, cells.side).square()
    look = torch.cat((mean, variance.clamp_min(0).sqrt()), 1)[0] / SPREAD_COLOUR
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    place = torch.stack((rows, columns)).to(look) / SPREAD_REACH
    return torch.cat((place, look)).flatten(1).T
