"""Depth of holes by plane-sweep stereo: where windows of several photos look alike, there is a surface."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.config import GrowConfig
from adop.initialisation.reduced_photos import ReducedPhoto, dimmed, pixel_of, sample_image, see

LEVELS = 3  # sizes of the photos, from coarse, at which all depths are tried, to fine
MOST_PLANES = 160
REFINED = 3  # half steps to either side that are tried at each finer size
ENDLESS = 1000.0  # times the nearest depth: from there on nothing tells depths apart
BEST_ANGLE = 6.0  # degrees between two photos' rays, where stereo is at its best
NARROWER, WIDER = 2.0, 12.0  # degrees, how fast it gets worse from there
LEAST_OVERLAP = 0.01
WINDOW = 7  # pixels
MIN_SIMILARITY = 0.5  # fraction of a window's variance that the other photos must share for a depth to count
NOISE = 2e-3  # variance of log radiance that tells nothing
DIFFERENT = 0.1  # log radiance: windows whose means differ by more are less alike
SAMPLE = 500  # pixels of a hole that stand for it where photos are chosen
AGREE = 1.5  # steps within which two photos' depths agree
BEFORE = 3.0  # steps from which a place lies before another
Pyramid = list[dict[int, ReducedPhoto]]


@dataclass(frozen=True)
class DepthMap:
    """Depths found in the holes of one photo."""

    found: Tensor  # [h, w] bool
    inverse_depth: Tensor  # [h, w], where found or where points are; NaN elsewhere
    step: float  # inverse depth that moves what is seen by about a pixel


def pyramid(views: dict[int, ReducedPhoto]) -> Pyramid:
    """Return the views at their own size and halved again and again, finest first."""
    result = [views]
    for _ in range(LEVELS - 1):
        result.append({photo: view.halved() for photo, view in result[-1].items()})
    return result


def depth_map(views: Pyramid, photo: int, fill_levels: int, config: GrowConfig) -> DepthMap | None:
    """Return what stereo finds in the holes of a photo; None where there is nothing to be found.

    At a quarter of the size depths from the nearest points to infinity are tried, a pixel of motion apart; at finer
    sizes a few around the best. A depth is as good as the better half of the other photos say, by how little
    of a window's variance is left where it lies; windows follow the coarser depth. What may as well be endlessly
    far is not found.

    Source: plane sweeping (Collins 1996) with the best-half rule for occlusions (Kang et al. 2001).
    """
    view = views[0][photo]
    hole = view.hole(fill_levels) & ~view.clipped
    known = view.known()
    if not bool(hole.any()) or not bool(known.any()):
        return None
    nearest = 1.1 * float((1 / view.depth[known]).quantile(0.99))
    farthest = nearest / ENDLESS
    inside = torch.nonzero(hole.flatten())[:, 0]
    inside = inside[:: max(1, len(inside) // SAMPLE)]
    rays, around = view.rays()[inside], view.inverse_depth_around().flatten()[inside, None]
    sources = choose_sources(views[0], photo, rays / around.clamp_min(farthest), config.stereo_photos)
    if len(sources) < config.min_views - 1:
        return None
    moved = _motion(views[0], photo, sources, rays / nearest, rays / farthest)
    planes = int(min(MOST_PLANES, max(12, moved / 2 ** (LEVELS - 1))))
    step = (nearest - farthest) / (planes - 1)
    tried = torch.linspace(farthest, nearest, planes, device=hole.device)[:, None, None]
    for level in reversed(range(LEVELS)):
        height, width = views[level][photo].size()
        tried = tried.expand(-1, height, width).contiguous()
        alike = _alikeness(views[level], photo, sources, tried, config)
        inverse, best = _best(alike, tried)
        if level:
            step /= 2
            fine = F.interpolate(inverse[None, None], size=views[level - 1][photo].size())[0, 0]
            offsets = step * torch.arange(-REFINED, REFINED + 1, device=fine.device)
            tried = (fine + offsets[:, None, None]).clamp_min(farthest)
    found = hole[0, 0] & (best > MIN_SIMILARITY) & (inverse > farthest + 2 * step)
    shown = torch.where(known, 1 / view.depth, torch.nan)[0, 0]
    return DepthMap(found, torch.where(found, inverse, shown), step)


def choose_sources(views: dict[int, ReducedPhoto], photo: int, offsets: Tensor, count: int) -> list[int]:
    """Return the photos that see a place best for stereo, given as offsets [M, 3] from the photo's centre."""
    centre = views[photo].camera.centre()
    xyz, scores = centre + offsets, []
    own = F.normalize(offsets, dim=1)
    for other, view in views.items():
        if other == photo:
            continue
        theirs = F.normalize(xyz - view.camera.centre(), dim=1)
        angle = torch.rad2deg(2 * ((own - theirs).norm(dim=1) / 2).clamp(0, 1).asin()) - BEST_ANGLE
        good = torch.exp(-0.5 * (angle / torch.where(angle < 0, NARROWER, WIDER)).square())
        scores.append((float((good * see(view.camera, xyz)[2]).mean()), other))
    return [other for score, other in sorted(scores, reverse=True)[:count] if score > LEAST_OVERLAP]


def agreed(maps: dict[int, DepthMap], views: dict[int, ReducedPhoto], photo: int, xyz: Tensor) -> Tensor:
    """Return [M] whether another photo's depths, found or of points, agree with places [M, 3] found in this one.

    Where clearly more photos see points behind a place than agree with it, the place is empty.
    """
    votes, through = torch.zeros(len(xyz), device=xyz.device), torch.zeros(len(xyz), device=xyz.device)
    for other, depths in maps.items():
        if other == photo:
            continue
        uv, z, inside = see(views[other].camera, xyz)
        row, column = pixel_of(views[other], uv)
        ahead = 1 / z - depths.inverse_depth[row, column]
        votes += inside & (ahead.abs() < AGREE * depths.step)
        points = torch.isfinite(views[other].depth[0, 0, row, column])
        through += inside & points & (ahead > BEFORE * depths.step)
    return (votes > 0) & (through <= 0.3 * votes)


def _motion(
    views: dict[int, ReducedPhoto], photo: int, sources: list[int], near: Tensor, far: Tensor
) -> float:
    """Return by how many pixels what is seen moves in the other photos, from near to far [M, 3], at the median."""
    centre, result = views[photo].camera.centre(), []
    for source in sources:
        (here, _, in_here), (there, _, in_there) = (
            see(views[source].camera, centre + x) for x in (near, far)
        )
        seen = (in_here | in_there) & torch.isfinite(here).all(1) & torch.isfinite(there).all(1)
        if bool(seen.any()):
            result.append((here - there)[seen].norm(dim=1).median())
    return float(torch.stack(result).median()) if result else 0.0


def _alikeness(
    views: dict[int, ReducedPhoto], photo: int, sources: list[int], tried: Tensor, config: GrowConfig
) -> Tensor:
    """Return [P, h, w] how alike windows of the photos are at inverse depths [P, h, w], at most 1."""
    view, scores = views[photo], []
    rays = view.rays()
    chunk = max(1, 400_000 // tried[0].numel())
    for source in sources:
        parts = [_alike(view, views[source], rays, part, config) for part in tried.split(chunk)]
        scores.append(torch.cat(parts))
    ranked = torch.stack(scores).sort(0, descending=True).values  # [S, P, h, w]
    valid = torch.isfinite(ranked)
    count = valid.sum(0)
    least = config.min_views - 1
    rank = torch.arange(len(scores), device=count.device)[:, None, None, None]
    used = valid & (rank < (count / 2).ceil().clamp_min(least))
    mean = torch.where(used, ranked, 0.0).sum(0) / used.sum(0).clamp_min(1)
    return torch.where(count >= least, mean, -1.0)


def _alike(
    view: ReducedPhoto, other: ReducedPhoto, rays: Tensor, tried: Tensor, config: GrowConfig
) -> Tensor:
    """Return [P, h, w] how alike windows are to another photo's; -inf where it does not see the place.

    1 is the same and full of texture, 0 is flat or as different as what has nothing to do with it. Unlike with
    correlation, no window gains by having more contrast.
    """
    count, (height, width) = len(tried), view.size()
    xyz = view.camera.centre() + rays / tried.reshape(count, -1, 1)
    uv, z, inside = see(other.camera, xyz.reshape(-1, 3))
    own = dimmed(view.log_radiance).mean(1, keepdim=True).expand(count, -1, -1, -1)
    light = torch.cat((dimmed(other.log_radiance).mean(1, keepdim=True), other.reliable().float()), dim=1)
    shown, reliable = sample_image(light, uv).reshape(2, count, 1, height, width)
    row, column = pixel_of(other, uv)
    visible = inside & (z < other.depth[0, 0, row, column] * (1 + config.depth_tolerance))
    visible = visible.reshape(shown.shape) & (reliable > 0.99)
    weight = visible * view.reliable().float()
    products = torch.cat((own, shown, own * own, shown * shown, own * shown), dim=1)
    sums = _box(torch.cat((weight, weight * products), dim=1))
    share = sums[:, :1]
    a, b, aa, bb, ab = (sums[:, 1:] / share.clamp_min(1e-6)).split(1, dim=1)
    own_spread, spread, common = aa - a * a, bb - b * b, ab - a * b
    alike = (common + (own_spread - spread) / 2) / (own_spread.clamp_min(0) + NOISE)
    alike = alike.clamp_min(-1) - ((a - b).abs() - DIFFERENT).clamp(0, 0.5)
    return torch.where(visible & (share > 0.4), alike, -torch.inf)[:, 0]


def _box(x: Tensor) -> Tensor:
    """Return the means over windows; beyond the picture is 0."""
    reach = WINDOW // 2
    rows = F.avg_pool2d(x, (WINDOW, 1), stride=1, padding=(reach, 0))
    return F.avg_pool2d(rows, (1, WINDOW), stride=1, padding=(0, reach))


def _best(alike: Tensor, tried: Tensor) -> tuple[Tensor, Tensor]:
    """Return the best inverse depth [h, w], between those tried where a parabola says so, and how alike it is."""
    best, index = alike.max(0)
    middle = index.clamp(1, len(alike) - 2)
    before, at, after = (alike.gather(0, (middle + k)[None])[0] for k in (-1, 0, 1))
    offset = ((before - after) / (2 * (before - 2 * at + after)).clamp_max(-1e-6)).clamp(-0.5, 0.5)
    offset = torch.where(middle == index, offset, 0.0)
    return tried.gather(0, index[None])[0] + offset * (tried[1] - tried[0]), best
