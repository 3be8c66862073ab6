"""New points in holes: where photos see something, agree where it is, and no point is near."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from adop.config import GrowConfig
from adop.initialisation.reduced_photos import (
    ReducedPhoto,
    dimmed,
    pixel_of,
    reduce_photos,
    sample_image,
    see,
    with_depth,
)
from adop.initialisation.stereo import agreed, depth_map, pyramid
from adop.model.pipeline import Pipeline
from adop.ops import Points
from adop.scene.photo_cache import PhotoCache
from adop.scene.point_cloud import morton_order

FAR = 1000.0  # times the depth around a hole
DEPTH_FACTORS = (1.0, 0.9, 1.1, 0.75, 1.3)  # depths that are tried, relative to the depth around the hole
MAX_LOG_DIFFERENCE = 0.15  # largest difference in log radiance at which two photos agree
MIN_COHERENCE = 0.7  # fraction of the hole around a pixel that must agree too: chance agreement stands alone


@dataclass(frozen=True)
class Candidates:
    """Points that might be there."""

    xyz: Tensor  # [M, 3]
    log_radiance: Tensor  # [M, 3]
    radius: Tensor  # [M] half the distance to the next, scene units
    normals: Tensor  # [M, 3] towards the photo

    def __getitem__(self, keep: Tensor) -> Candidates:
        """Return those of `keep`, [M] bool or indices."""
        return Candidates(self.xyz[keep], self.log_radiance[keep], self.radius[keep], self.normals[keep])


@torch.no_grad()
def grow_points(pipeline: Pipeline, cache: PhotoCache, photos: list[int], config: GrowConfig) -> int:
    """Add points to the pipeline where the photos see what no point shows; return how many.

    First come places that stereo finds and a second photo's stereo confirms, in narrow gaps too. What no level of
    the pyramid fills then is filled at a depth from around it, or a little nearer or farther: such a place stays
    where at least three photos that see it agree on its radiance and none looks through it at something behind.

    Source: `adop.initialisation.stereo`; space carving's photo-consistency (Kutulakos and Seitz 2000), for holes only.
    """
    if len(photos) < 2 or config.max_points < 1:
        return 0
    views = reduce_photos(pipeline, cache, photos, config.longest_side)
    chosen = photos[:: max(1, -(-len(photos) // config.max_photos))]
    fill_levels, added = pipeline.config.fill_levels, 0
    if config.stereo:
        gaps = min(config.stereo_levels, fill_levels)
        added = _add(pipeline, _from_stereo(views, chosen, gaps, config), config.max_points)
        views = with_depth(pipeline, views) if added else views
    if added >= config.max_points:
        return added
    found = []
    for photo in chosen:
        others = [views[i] for i in _neighbours(views, photo, config.neighbour_photos)]
        found.append(_from_around(views[photo], others, config, fill_levels))
    return added + _add(pipeline, found, config.max_points - added)


def _add(pipeline: Pipeline, found: list[Candidates], most: int) -> int:
    """Add candidates to the pipeline, one in each cell and `most` of all, spread evenly; return how many."""
    if not any(len(c.xyz) for c in found):
        return 0
    parts = zip(*((c.xyz, c.log_radiance, c.radius, c.normals) for c in found), strict=True)
    new = Candidates(*(torch.cat(part) for part in parts))
    new = new[_one_per_cell(new)]
    if len(new.xyz) > most:
        new = new[torch.arange(most, device=new.xyz.device) * len(new.xyz) // most]
    order = torch.from_numpy(morton_order(new.xyz.cpu().numpy()).astype("int64"))
    new = new[order.to(new.xyz.device)]
    spare = new.xyz.new_zeros(len(new.xyz), pipeline.points.features.shape[1] - 3)
    features = torch.cat((new.log_radiance, spare), dim=1)
    pipeline.points.add(Points(new.xyz, 2 * new.radius, new.normals), features)
    return len(new.xyz)


def _from_stereo(
    views: dict[int, ReducedPhoto], chosen: list[int], fill_levels: int, config: GrowConfig
) -> list[Candidates]:
    """Return what stereo finds in the holes of the chosen photos and another of them confirms."""
    levels, maps = pyramid(views), {}
    for photo in tqdm(chosen, desc="stereo in holes", leave=False, disable=None):
        depths = depth_map(levels, photo, fill_levels, config)
        if depths is not None:
            maps[photo] = depths
    result = []
    for photo, depths in maps.items():
        view, pixels = views[photo], torch.nonzero(depths.found)
        z = 1 / depths.inverse_depth[pixels[:, 0], pixels[:, 1]]
        candidates = _at(view, pixels, z)
        result.append(candidates[agreed(maps, views, photo, candidates.xyz)])
    return result


def _at(view: ReducedPhoto, pixels: Tensor, z: Tensor) -> Candidates:
    """Return candidates in pixels [M, 2] (row, column) at depths [M]."""
    uv = pixels.flip(1).to(z.dtype) + 0.5
    xyz = view.camera.unproject(uv[None], z[None])[0]
    spacing = z / (view.camera.intrinsics[0, 0] * view.camera.crop[0, 0])
    colour = view.log_radiance[0, :, pixels[:, 0], pixels[:, 1]].T
    return Candidates(xyz, colour, spacing, F.normalize(view.camera.centre() - xyz, dim=1))


def _neighbours(views: dict[int, ReducedPhoto], photo: int, count: int) -> list[int]:
    """Return the photos whose cameras are nearest, those that look the same way first."""
    own = views[photo].camera
    forward = own.world_to_camera[0, 2, :3]
    scores = []
    for other, view in views.items():
        if other == photo:
            continue
        turn = 1 - float(view.camera.world_to_camera[0, 2, :3] @ forward)
        distance = float((view.camera.centre() - own.centre()).norm())
        scores.append((distance * (1 + 2 * turn), other))
    return [other for _, other in sorted(scores)[:count]]


def _from_around(
    view: ReducedPhoto, others: list[ReducedPhoto], config: GrowConfig, fill_levels: int
) -> Candidates:
    """Return what continues the depth around the holes of a photo, as its neighbours agree."""
    hole = view.hole(fill_levels)
    # What clips agrees with all else that clips, wherever it is.
    pixels = torch.nonzero((hole & ~view.clipped)[0, 0])
    around = view.inverse_depth_around()[0, 0, pixels[:, 0], pixels[:, 1]].clamp_min(1e-12)
    best_cost = view.depth.new_full((len(pixels),), torch.inf)
    best_z = view.depth.new_zeros(len(pixels))
    for factor in DEPTH_FACTORS:
        z = factor / around
        cost = _disagreement(_at(view, pixels, z), others, config)
        better = cost < best_cost
        best_cost, best_z = torch.where(better, cost, best_cost), torch.where(better, z, best_z)
    # What agrees at an endless distance too is left to the environment: a sky is no curtain.
    endless = _disagreement(_at(view, pixels, FAR / around), others, config)
    keep = (best_cost < MAX_LOG_DIFFERENCE) & (around > 1e-12) & (endless > MAX_LOG_DIFFERENCE)
    keep &= _coherent(hole, pixels, keep, MIN_COHERENCE)
    return _at(view, pixels[keep], best_z[keep])


def _coherent(hole: Tensor, pixels: Tensor, keep: Tensor, share: float) -> Tensor:
    """Return [M] whether enough of the hole around a pixel is kept: what agrees by chance stands alone."""
    kept = torch.zeros_like(hole, dtype=torch.float32)
    kept[0, 0, pixels[:, 0], pixels[:, 1]] = keep.float()
    around = F.avg_pool2d(kept, 7, stride=1, padding=3)
    empty = F.avg_pool2d(hole.float(), 7, stride=1, padding=3)
    return (around >= share * empty)[0, 0, pixels[:, 0], pixels[:, 1]]


def _disagreement(places: Candidates, others: list[ReducedPhoto], config: GrowConfig) -> Tensor:
    """Return [M] the third-best photo's difference in log radiance; +inf where a photo looks through the place."""
    own, differences = dimmed(places.log_radiance), []
    through = torch.zeros(len(own), device=own.device)
    for other in others:
        uv, z, inside = see(other.camera, places.xyz)
        shown = sample_image(other.log_radiance, uv).T
        row, column = pixel_of(other, uv)
        depth = other.depth[0, 0, row, column]
        hidden = z > depth * (1 + config.depth_tolerance)
        seen = inside & (other.trust[0, 0, row, column] > 0.99) & ~hidden
        difference = (dimmed(shown) - own).abs().amax(1)
        differences.append(torch.where(seen, difference, torch.inf))
        before = torch.isfinite(depth) & (z < depth * (1 - config.depth_tolerance))
        through += seen & before & (difference > MAX_LOG_DIFFERENCE)
    ranked = torch.stack(differences).sort(0).values
    agreed_on = ranked[min(config.min_views - 2, len(ranked) - 1)]
    return torch.where(through > 0, torch.inf, agreed_on)


def _one_per_cell(candidates: Candidates) -> Tensor:
    """Return indices, one candidate in each cube of its own spacing (rounded to a power of two)."""
    size = torch.exp2((2 * candidates.radius).log2().round())
    cell = torch.cat(((candidates.xyz / size[:, None]).floor(), size.log2()[:, None]), dim=1).long()
    return first_of_each(cell)


def first_of_each(rows: Tensor) -> Tensor:
    """Return the indices, rising, of the rows [M] or [M, K] that are no repetition of one before."""
    _, inverse = torch.unique(rows, dim=0, return_inverse=True)
    first = torch.full((int(inverse.max()) + 1,), len(rows), dtype=torch.long, device=rows.device)
    first.scatter_reduce_(0, inverse, torch.arange(len(rows), device=rows.device), "amin")
    return first.sort().values
