"""Plane-sweep stereo: the depth of holes, from how similar windows of several photos are at each depth."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.config import GrowConfig
from adop.initialisation.reduced_photos import ReducedPhoto, offset_log, sample_image

PYRAMID_LEVELS = 3  # photo sizes: all depths are tried at the coarsest, a few at each finer one
MIN_PLANES, MAX_PLANES = 12, 160  # depths that are tried at the coarsest size
REFINE_STEPS = 3  # half steps to either side that are tried at each finer size
MAX_DEPTH_RATIO = 1000.0  # farthest depth relative to the nearest: photos cannot tell depths beyond apart
BEST_ANGLE_DEG = 6.0  # angle between two photos' rays at which stereo works best
SMALLER_ANGLE_SIGMA_DEG, LARGER_ANGLE_SIGMA_DEG = 2.0, 12.0  # how fast it gets worse on either side
MIN_SOURCE_SCORE = 0.01  # mean angle score of a photo over the hole, 0 where it does not see the hole
MAX_SELECTION_PIXELS = 500  # pixels of a hole that source photos are chosen by
WINDOW_PX = 7
MIN_MEASURED = 0.99  # bilinear weight of the measured pixels around a position in a source photo
MIN_WINDOW_SHARE = 0.4  # fraction of a window that both photos must measure
MIN_SIMILARITY = 0.5  # fraction of a window's variance that the source photos must share for a depth to count
NOISE_VARIANCE = 2e-3  # of log radiance: a window with less is without texture
MAX_MEAN_DIFFERENCE = 0.1  # of log radiance: windows whose means differ by more count as less similar
AGREEMENT_STEPS = 1.5  # depth steps within which two photos agree on a surface
FREE_SPACE_STEPS = 3.0  # depth steps in front of a surface from which a position is seen to be empty
MAX_FREE_SPACE_RATIO = 0.3  # photos that see through a position, per photo that confirms it
MAX_SWEEP_PIXELS = 400_000  # pixels times depths that are compared at once, for memory
PhotoPyramid = list[dict[int, ReducedPhoto]]  # photos by index at each size, finest first


@dataclass(frozen=True)
class DepthMap:
    """Depths found in the holes of one photo."""

    found: Tensor  # [h, w] bool
    inverse_depth: Tensor  # [h, w] where found or where a point is drawn; NaN elsewhere
    step: float  # inverse depth that shifts a position by about one pixel in the source photos


def photo_pyramid(photos: dict[int, ReducedPhoto]) -> PhotoPyramid:
    """Return the photos at their own size and halved again and again, finest first."""
    result = [photos]
    for _ in range(PYRAMID_LEVELS - 1):
        result.append({index: photo.halved() for index, photo in result[-1].items()})
    return result


def depth_map(pyramid: PhotoPyramid, reference: int, fill_levels: int, config: GrowConfig) -> DepthMap | None:
    """Return the depths that stereo finds in the holes of a reference photo; None where it cannot find any.

    At the coarsest size all depths from the nearest points to infinity are tried, about a pixel of disparity apart;
    at finer sizes a few around the best. The score of a depth is the mean similarity of windows in the better half of
    the source photos. Depths that may as well be infinite are not found.

    Source: plane sweeping (Collins 1996) with the best-half rule for occlusions (Kang, Szeliski and Chai 2001).
    """
    photo = pyramid[0][reference]
    holes = photo.holes(fill_levels) & ~photo.clipped
    has_point = photo.has_point()
    if not bool(holes.any()) or not bool(has_point.any()):
        return None
    max_inverse = 1.1 * float((1 / photo.depth[has_point]).quantile(0.99))
    min_inverse = max_inverse / MAX_DEPTH_RATIO
    pixels = torch.nonzero(holes.flatten())[:, 0]
    pixels = pixels[:: max(1, len(pixels) // MAX_SELECTION_PIXELS)]
    rays, around = photo.rays()[pixels], photo.filled_inverse_depth().flatten()[pixels, None]
    sources = choose_sources(
        pyramid[0], reference, rays / around.clamp_min(min_inverse), config.stereo_photos
    )
    if len(sources) < config.min_views - 1:
        return None
    chosen = [pyramid[0][source] for source in sources]
    disparity = _disparity(photo, chosen, rays / max_inverse, rays / min_inverse)
    count = int(min(MAX_PLANES, max(MIN_PLANES, disparity / 2 ** (PYRAMID_LEVELS - 1))))
    planes = torch.linspace(min_inverse, max_inverse, count, device=holes.device)
    step = (max_inverse - min_inverse) / (count - 1)
    inverse, score = _coarse_to_fine(pyramid, [reference, *sources], planes, step, config)
    step /= 2 ** (PYRAMID_LEVELS - 1)
    found = holes[0, 0] & (score > MIN_SIMILARITY) & (inverse > min_inverse + 2 * step)
    drawn = torch.where(has_point, 1 / photo.depth, torch.nan)[0, 0]
    return DepthMap(found, torch.where(found, inverse, drawn), step)


def choose_sources(photos: dict[int, ReducedPhoto], reference: int, offsets: Tensor, count: int) -> list[int]:
    """Return up to `count` photos that see given positions at the best angles for stereo, best first.

    Args:
        offsets: [M, 3] from the reference camera's centre to the positions, world axes, scene units.

    Source: the piecewise Gaussian of the angle between the rays is that of MVSNet (Yao et al. 2018).
    """
    centre = photos[reference].camera.centre()
    xyz, scores = centre + offsets, []
    reference_rays = F.normalize(offsets, dim=1)
    for index, photo in photos.items():
        if index == reference:
            continue
        rays = F.normalize(xyz - photo.camera.centre(), dim=1)
        chord = (reference_rays - rays).norm(dim=1)
        difference = torch.rad2deg(2 * (chord / 2).clamp(0, 1).asin()) - BEST_ANGLE_DEG
        sigma = torch.where(difference < 0, SMALLER_ANGLE_SIGMA_DEG, LARGER_ANGLE_SIGMA_DEG)
        _, _, visible = photo.project(xyz)
        scores.append((float((torch.exp(-0.5 * (difference / sigma).square()) * visible).mean()), index))
    return [index for score, index in sorted(scores, reverse=True)[:count] if score > MIN_SOURCE_SCORE]


def consistent_depths(
    depth_maps: dict[int, DepthMap], photos: dict[int, ReducedPhoto], reference: int, xyz: Tensor
) -> Tensor:
    """Return [M] bool, whether other photos' depths confirm world positions [M, 3] found in the reference photo.

    At least one must agree, by the depth that stereo found or that of a point. A position is rejected if too many photos
    see through it to points behind, see `MAX_FREE_SPACE_RATIO`.
    """
    agreeing, seen_through = (torch.zeros(len(xyz), device=xyz.device) for _ in range(2))
    for index, depths in depth_maps.items():
        if index == reference:
            continue
        photo = photos[index]
        uv, z, visible = photo.project(xyz)
        row, column = photo.nearest_pixel(uv)
        in_front = 1 / z - depths.inverse_depth[row, column]
        agreeing += visible & (in_front.abs() < AGREEMENT_STEPS * depths.step)
        has_point = torch.isfinite(photo.depth[0, 0, row, column])
        seen_through += visible & has_point & (in_front > FREE_SPACE_STEPS * depths.step)
    return (agreeing > 0) & (seen_through <= MAX_FREE_SPACE_RATIO * agreeing)


def _disparity(reference: ReducedPhoto, sources: list[ReducedPhoto], near: Tensor, far: Tensor) -> float:
    """Return the median shift in pixels, in the sources, between positions at near and at far offsets [M, 3]."""
    centre, medians = reference.camera.centre(), []
    for source in sources:
        near_uv, _, near_visible = source.project(centre + near)
        far_uv, _, far_visible = source.project(centre + far)
        finite = torch.isfinite(near_uv).all(1) & torch.isfinite(far_uv).all(1)
        visible = (near_visible | far_visible) & finite
        if bool(visible.any()):
            medians.append((near_uv - far_uv)[visible].norm(dim=1).median())
    return float(torch.stack(medians).median()) if medians else 0.0


def _coarse_to_fine(
    pyramid: PhotoPyramid, chosen: list[int], planes: Tensor, step: float, config: GrowConfig
) -> tuple[Tensor, Tensor]:
    """Return the best inverse depth [h, w] of the first chosen photo, by comparison with the others, and its score.

    Args:
        planes: [P] inverse depths that are tried at the coarsest size, rising by `step`.
    """
    first, min_inverse = chosen[0], float(planes[0])
    inverse = planes[:, None, None]
    for level in reversed(range(PYRAMID_LEVELS)):
        photos = [pyramid[level][index] for index in chosen]
        height, width = photos[0].size()
        inverse = inverse.expand(-1, height, width).contiguous()
        best, score = _best_depth(_scores(photos[0], photos[1:], inverse, config), inverse)
        if level:
            step /= 2
            fine = F.interpolate(best[None, None], size=pyramid[level - 1][first].size())[0, 0]
            around = step * torch.arange(-REFINE_STEPS, REFINE_STEPS + 1, device=fine.device)
            inverse = (fine + around[:, None, None]).clamp_min(min_inverse)
    return best, score


def _scores(
    reference: ReducedPhoto, sources: list[ReducedPhoto], inverse: Tensor, config: GrowConfig
) -> Tensor:
    """Return the scores [P, h, w] of inverse depths [P, h, w]: the mean similarity in the better half of the sources.

    The best score is 1. Where too few sources see the position, it is -1.
    """
    rays, similarities = reference.rays(), []
    chunks = inverse.split(max(1, MAX_SWEEP_PIXELS // inverse[0].numel()))
    for source in sources:
        parts = [_similarity(reference, source, rays, chunk, config.depth_tolerance) for chunk in chunks]
        similarities.append(torch.cat(parts))
    ranked = torch.stack(similarities).sort(0, descending=True).values  # [S, P, h, w]
    valid = torch.isfinite(ranked)
    count = valid.sum(0)
    min_sources = config.min_views - 1
    rank = torch.arange(len(sources), device=count.device)[:, None, None, None]
    used = valid & (rank < (count / 2).ceil().clamp_min(min_sources))
    mean = torch.where(used, ranked, 0.0).sum(0) / used.sum(0).clamp_min(1)
    return torch.where(count >= min_sources, mean, -1.0)


def _similarity(
    reference: ReducedPhoto, source: ReducedPhoto, rays: Tensor, inverse: Tensor, depth_tolerance: float
) -> Tensor:
    """Return the similarity [P, h, w] of windows to the source photo; -inf where the source does not see the position.

    It is the share of the reference window's variance that the source explains: 1 for the same texture, 0 for no or
    unrelated texture. Unlike correlation it does not favour windows of more contrast.

    Args:
        rays: [h * w, 3] of the reference, see `ReducedPhoto.rays`.
        inverse: [P, h, w] inverse depths.
        depth_tolerance: relative depth by which a point may lie in front of a position that is still visible.
    """
    count, (height, width) = len(inverse), reference.size()
    xyz = reference.camera.centre() + rays / inverse.reshape(count, -1, 1)
    uv, z, visible = source.project(xyz.reshape(-1, 3))
    x = offset_log(reference.log_radiance).mean(1, keepdim=True).expand(count, -1, -1, -1)
    source_log = offset_log(source.log_radiance).mean(1, keepdim=True)
    image = torch.cat((source_log, source.measured().float()), dim=1)
    y, measured = sample_image(image, uv).reshape(2, count, 1, height, width)
    row, column = source.nearest_pixel(uv)
    visible = visible & (z < source.depth[0, 0, row, column] * (1 + depth_tolerance))
    visible = visible.reshape(y.shape) & (measured > MIN_MEASURED)
    weight = visible * reference.measured().float()
    products = torch.cat((x, y, x * x, y * y, x * y), dim=1)
    sums = _box_mean(torch.cat((weight, weight * products), dim=1))
    share = sums[:, :1]
    mean_x, mean_y, xx, yy, xy = (sums[:, 1:] / share.clamp_min(1e-6)).split(1, dim=1)
    variance_x, variance_y = xx - mean_x * mean_x, yy - mean_y * mean_y
    explained = xy - mean_x * mean_y + (variance_x - variance_y) / 2
    similarity = (explained / (variance_x.clamp_min(0) + NOISE_VARIANCE)).clamp_min(-1)
    similarity = similarity - ((mean_x - mean_y).abs() - MAX_MEAN_DIFFERENCE).clamp(0, 0.5)
    return torch.where(visible & (share > MIN_WINDOW_SHARE), similarity, -torch.inf)[:, 0]


def _box_mean(image: Tensor) -> Tensor:
    """Return the means of images [P, C, h, w] over windows of `WINDOW_PX` pixels; outside the image is 0."""
    channels, reach = image.shape[1], WINDOW_PX // 2
    # On a CPU much faster than avg_pool2d.
    weight = image.new_full((channels, 1, WINDOW_PX, 1), 1 / WINDOW_PX)
    rows = F.conv2d(image, weight, padding=(reach, 0), groups=channels)
    return F.conv2d(rows, weight.transpose(2, 3), padding=(0, reach), groups=channels)


def _best_depth(scores: Tensor, inverse: Tensor) -> tuple[Tensor, Tensor]:
    """Return the inverse depth [h, w] of the best score, and that score [h, w].

    A parabola through the best score and its neighbours refines the depth to a fraction of a step.

    Args:
        scores: [P, h, w] of inverse depths [P, h, w], evenly spaced along P.
    """
    best, index = scores.max(0)
    middle = index.clamp(1, len(scores) - 2)
    before, at, after = (scores.gather(0, (middle + k)[None])[0] for k in (-1, 0, 1))
    offset = ((before - after) / (2 * (before - 2 * at + after)).clamp_max(-1e-6)).clamp(-0.5, 0.5)
    offset = torch.where(middle == index, offset, 0.0)
    return inverse.gather(0, index[None])[0] + offset * (inverse[1] - inverse[0]), best
