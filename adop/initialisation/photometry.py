"""What photos show of the points; exposures and colours of the points estimated from it."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from adop.images.srgb import srgb_decode
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE
from adop.model.tonemapper import srgb_encode
from adop.scene.photo_cache import PhotoCache

VISIBILITY_LEVELS = 4  # pyramid levels that are drawn to tell which points a nearer surface hides
CLOUD_WEIGHT = 2.0  # the colour that a point came with counts as much as this many photos
TYPICAL_ERROR_EV = 0.5  # of EXIF, from which on the photos are asked whether they follow it at all
WRONG_EV = 1.0  # by which the EXIF of a single photo is at least wrong to be doubted
HELD_OUT_EV = 3.0  # beyond all trained photos, at which the EXIF of one that is not looked at is doubted
MAX_ESTIMATION_POINTS, ESTIMATION_ROUNDS, CONVERGED_EV = 100_000, 20, 0.01
# Correlation of a photo with the others below which it shows something else, and relative to that of most photos.
UNRELATED, UNRELATED_SHARE = 0.2, 0.4
MANY_LONELY = 0.1  # share of the photos, above which those without points are meant to have none
MIN_OTHERS_CONFIDENCE = 0.3
MIN_SHARED_POINTS = 50  # points that a photo must share with others for its exposure to be estimated


@dataclass(frozen=True)
class PointSamples:
    """What one photo shows at the points that are visible in it."""

    points: Tensor  # [M] index of the point
    value: Tensor  # [M, 3] the photo's value in [0, 1]
    confidence: Tensor  # [M] 1 in the middle of the range, near 0 where clipped or black
    position: Tensor  # [M, 2] on the photo, half diagonals from its centre

    def to(self, device: torch.device) -> PointSamples:
        """Return the samples on a device."""
        parts = (self.points, self.value, self.confidence, self.position)
        return PointSamples(*(part.to(device) for part in parts))


def pixel_confidence(photo: Tensor) -> Tensor:
    """Return the confidence [..., 1, H, W] in (0, 1] of a photo's values [..., 3, H, W]: low where black or clipped.

    Source: the hat function of Debevec and Malik 1997, of a pixel's brightest channel.
    """
    brightest = photo.amax(-3, keepdim=True)
    return (brightest.clamp(0.01, 0.5) * 2) * (1 - clipping(photo)).clamp_min(0.02)


def clipping(photo: Tensor) -> Tensor:
    """Return how clipped pixels [..., 3, H, W] are: 0 up to 7/8 of the range, rising to 1 at its end."""
    return (8 * photo.amax(-3, keepdim=True) - 7).clamp(0, 1)


def sample_points(pipeline: Pipeline, cache: PhotoCache, photo: int) -> PointSamples:
    """Return a photo's values at every point that is visible in it.

    The photo is looked up by the adjoint of drawing the points, so points and pixels correspond exactly as they do
    when rendering. Points that show through the gaps of a nearer surface are left out.
    """
    index = torch.tensor([photo])
    camera = pipeline.camera(index)
    value = cache.image(photo, pipeline.device)
    confidence = pixel_confidence(value)
    mask = cache.mask(photo)
    if mask is not None:
        confidence = confidence * mask.to(confidence.device).float()
    image = torch.cat((value, confidence, pipeline.cameras.photo_position(camera, index)), dim=1)
    features = torch.zeros(len(pipeline.points), image.shape[1], device=image.device, requires_grad=True)
    raster = dataclasses.replace(pipeline.raster, levels=VISIBILITY_LEVELS, radius_threshold=0.0)
    levels = pipeline.draw(camera, features, raster)
    valid = pipeline.fill_holes(levels, None).valid[0]
    # Drawing divides by the number of points in a pixel: the product with it makes the adjoint a plain look-up.
    (sampled,) = torch.autograd.grad(levels.features[0], features, image * levels.weight[0] * valid)
    sampled = sampled.cpu()
    points = torch.nonzero(sampled[:, 3] > 0)[:, 0]
    value, confidence, position = sampled[points].split((3, 1, 2), dim=1)
    return PointSamples(points, value.clamp(0, 1), confidence[:, 0], position)


def estimate_exposures(point_samples: dict[int, PointSamples], count: int, start: Tensor) -> Tensor:
    """Return [P] EV of each photo, from points that several photos see; NaN where those are too few.

    Alternates between the points' radiance (weighted mean over the photos) and the photos' EV (weighted median over
    the points).

    Args:
        point_samples: by photo.
        count: number of points.
        start: [P] EV to start from, NaN where nothing is known.
    """
    exposure = start.nan_to_num(0).clone()
    linked = torch.zeros(len(start), dtype=torch.bool)
    few, kept = _fewer(point_samples, count)
    logs = {i: srgb_decode(s.value).mean(1).clamp_min(1e-5).log2() for i, s in few.items()}
    for _ in range(ESTIMATION_ROUNDS):
        before = exposure.clone()
        total, weight = torch.zeros(kept), torch.full((kept,), 1e-9)
        for i, samples in few.items():
            total.index_add_(0, samples.points, (logs[i] + exposure[i]) * samples.confidence)
            weight.index_add_(0, samples.points, samples.confidence)
        mean = total / weight
        for i, samples in few.items():
            shared = weight[samples.points] > 1.5 * samples.confidence
            if shared.sum() >= MIN_SHARED_POINTS:
                difference = mean[samples.points] - logs[i]
                exposure[i] = _weighted_median(difference[shared], samples.confidence[shared])
                linked[i] = True
        exposure -= exposure[linked].mean() if linked.any() else 0
        if float((exposure - before).abs().max()) < CONVERGED_EV:
            break
    return torch.where(linked, exposure, torch.nan)


def unrelated_photos(point_samples: dict[int, PointSamples], count: int) -> list[int]:
    """Return the photos that do not show what the others show of the points: their poses must be far off.

    Compares each photo's logarithms of brightness with the means of the others, at the points that they share. Right
    poses correlate by 0.6 to 0.98 in our scenes, wrong ones by -0.2 to 0.1. A photo that shares hardly any points with
    others is returned too, unless there are many: then they are views of the sky, as 360° photos have.

    Args: point_samples: by photo; count: number of points.
    """
    few, kept = _fewer(point_samples, count)
    total, weight = torch.zeros(kept), torch.zeros(kept)
    logs = {}
    for i, samples in few.items():
        log = srgb_decode(samples.value).mean(1).clamp_min(1e-3).log2()
        logs[i] = log - (log.median() if len(log) else 0)
        total.index_add_(0, samples.points, logs[i] * samples.confidence)
        weight.index_add_(0, samples.points, samples.confidence)
    found = {}
    for i, samples in few.items():
        others = weight[samples.points] - samples.confidence
        shared = others > MIN_OTHERS_CONFIDENCE
        mean = (total[samples.points] - logs[i] * samples.confidence)[shared] / others[shared]
        if int(shared.sum()) >= MIN_SHARED_POINTS:
            found[i] = _correlation(logs[i][shared], mean, samples.confidence[shared])
    typical = float(np.median(list(found.values()))) if found else 0.0
    unrelated = {i for i, value in found.items() if value < min(UNRELATED, UNRELATED_SHARE * typical)}
    lonely = few.keys() - found.keys()
    if len(lonely) <= max(1.0, MANY_LONELY * len(few)):
        unrelated |= lonely
    return sorted(unrelated)


def _correlation(first: Tensor, second: Tensor, weight: Tensor) -> float:
    """Return the correlation of values [M] and [M], weighted by [M]; 0 where one does not vary."""
    weight = weight / weight.sum().clamp_min(1e-9)
    first, second = first - (weight * first).sum(), second - (weight * second).sum()
    size = (weight * first.square()).sum() * (weight * second.square()).sum()
    return float((weight * first * second).sum() / size.sqrt()) if size > 0 else 0.0


def _fewer(point_samples: dict[int, PointSamples], count: int) -> tuple[dict[int, PointSamples], int]:
    """Return the samples of at most `MAX_ESTIMATION_POINTS` of the points, evenly spread, and how many there are."""
    stride = -(-count // MAX_ESTIMATION_POINTS)
    return {i: _every(samples, stride) for i, samples in point_samples.items()}, count // stride + 1


def _every(samples: PointSamples, stride: int) -> PointSamples:
    """Return the samples of every n-th point; its index is divided by n."""
    chosen = samples.points % stride == 0
    return PointSamples(
        samples.points[chosen] // stride,
        samples.value[chosen],
        samples.confidence[chosen],
        samples.position[chosen],
    )


@dataclass(frozen=True)
class StartExposures:
    """The exposures from which training starts."""

    ev: Tensor  # [P] relative to the mean of the trained photos
    from_exif: bool  # whether they are those of EXIF, but for single photos
    doubted: dict[int, float]  # photos whose own EXIF is not used: by how many EV it is wrong


def judge_exposures(given: Tensor, estimated: Tensor, trained: Tensor) -> StartExposures:
    """Return the exposures from which training starts: those given, as far as the photos bear them out.

    A trained photo whose pixels contradict it starts where they say; so does one without a given exposure. If the photos
    do not follow the given exposures at all, as after an editor equalised them, none is used. Held-out photos are not
    looked at: one without exposure, or with one far from all others, starts between its trained neighbours.

    Args:
        given: [P] EV, NaN where unknown.
        estimated: [P] EV by `estimate_exposures`, NaN where unknown.
        trained: [P] bool.
    """
    seen = trained & estimated.isfinite()
    both = seen & given.isfinite()
    if both.sum() < 2:
        return StartExposures(_between_neighbours(estimated, seen, trained), False, {})
    residual = given - estimated
    middle = residual[both].median()
    spread = float((residual[both] - middle).abs().median())
    variation = float((estimated[both] - estimated[both].median()).abs().median())
    if spread > max(TYPICAL_ERROR_EV, variation):
        doubted = dict.fromkeys(torch.nonzero(both)[:, 0].tolist(), spread)
        return StartExposures(_between_neighbours(estimated, seen, trained), False, doubted)
    wrong = both & ((residual - middle).abs() > max(WRONG_EV, 6 * spread))
    good = given[trained & given.isfinite() & ~wrong]
    far = ~trained & ((given < good.min() - HELD_OUT_EV) | (given > good.max() + HELD_OUT_EV))
    start = torch.where(wrong | (seen & ~given.isfinite()), estimated + middle, given)
    start[far] = torch.nan
    doubted = {photo: float(residual[photo] - middle) for photo in torch.nonzero(wrong)[:, 0].tolist()}
    doubted |= {photo: float(given[photo] - good.median()) for photo in torch.nonzero(far)[:, 0].tolist()}
    return StartExposures(_between_neighbours(start, trained & start.isfinite(), trained), True, doubted)


def _between_neighbours(ev: Tensor, known: Tensor, trained: Tensor) -> Tensor:
    """Return EV [P] relative to the trained photos' mean, NaN replaced by what lies between the known ones around."""
    places = np.flatnonzero(known.numpy())
    filled = ev.double().numpy().copy()
    lacking = ~np.isfinite(filled)
    filled[lacking] = np.interp(np.flatnonzero(lacking), places, filled[places]) if len(places) else 0.0
    return torch.from_numpy(filled - filled[trained.numpy()].mean()).float()


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    order = values.argsort()
    cumulative = weights[order].cumsum(0)
    return values[order][int(torch.searchsorted(cumulative, cumulative[-1] / 2))]


@torch.no_grad()
def colour_points(pipeline: Pipeline, point_samples: dict[int, PointSamples]) -> None:
    """Set the points' colour features to the mean log radiance that the photos show there.

    The cloud's own colours count as much as `CLOUD_WEIGHT` photos, because they are smoother than single pixels. They
    become radiance through the response of the first photo's lens.
    """
    count = len(pipeline.points)
    device = pipeline.device
    encoded = srgb_encode(pipeline.points.features[:, :3].exp()).T[None, :, None]
    cloud = pipeline.tonemapper.linearise_response(encoded, pipeline.cameras.photo_lens[:1])
    total = cloud[0, :, 0].T.clamp_min(MIN_RADIANCE).log() * CLOUD_WEIGHT
    weight = torch.full((count, 1), CLOUD_WEIGHT, device=device)
    for photo, given in point_samples.items():
        samples = given.to(device)
        confidence = samples.confidence[:, None]
        # The mean of logarithms, so that a few photos in which something bright hides the point do not dominate.
        total.index_add_(0, samples.points, sampled_log_radiance(pipeline, photo, samples) * confidence)
        weight.index_add_(0, samples.points, confidence)
    pipeline.points.features[:, :3] = total / weight


def sampled_log_radiance(pipeline: Pipeline, photo: int, samples: PointSamples) -> Tensor:
    """Return [M, 3] the logarithm of the radiance that a photo shows at its samples, on the pipeline's device."""
    radiance = photo_radiance(pipeline, photo, samples.value.T[:, None], samples.position.T[:, None])
    return radiance[:, 0].T.clamp_min(MIN_RADIANCE).log()


def photo_radiance(pipeline: Pipeline, photo: int, value: Tensor, position: Tensor) -> Tensor:
    """Return the radiance [3, H, W] that a photo's camera turns into values [3, H, W] in [0, 1].

    Args:
        position: [2, H, W] of each value on the photo, half diagonals from its centre.
    """
    index = torch.tensor([photo])
    tonemapper = pipeline.tonemapper
    lens = pipeline.cameras.photo_lens[index]
    return tonemapper.linearise(value[None], tonemapper.photometry(index), position[None], lens)[0]
