"""Add points in holes of the cloud, where several photos agree on the surface."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import distance_transform_edt
from torch import Tensor

from adop.config import GrowConfig
from adop.initialisation.reduced_photos import (
    ReducedPhoto,
    nearest_photos,
    offset_log,
    reduce_photos,
    sample_image,
    spread_indices,
    spread_photos,
    update_depth,
)
from adop.initialisation.stereo import consistent_depths, depth_map, photo_pyramid
from adop.model.pipeline import Pipeline
from adop.ops import Points
from adop.progress import Bar
from adop.scene.photo_cache import PhotoCache
from adop.scene.point_cloud import morton_order

DEPTH_FACTORS = (1.0, 0.9, 1.1, 0.75, 1.3)  # depths that are tried, relative to the surrounding depth
INFINITE_DEPTH_FACTOR = 1000.0  # relative to the surrounding depth: photos see no parallax there
MAX_LOG_DIFFERENCE = 0.15  # largest difference in log radiance at which two photos agree
# Share of photos that must see past all points in a direction of the far background, and of these, how many must show
# the same light there. A pixel counts as past all points if no point is near it in so many levels.
MIN_PASSING, MIN_AGREEING, PASSING_LEVELS = 0.3, 0.7, 2
MIN_HOLES = 0.005  # share of a photo that must be holes for it to be searched
MIN_COHERENCE = 0.7  # fraction of the surrounding hole that must agree too: chance agreement is isolated
COHERENCE_WINDOW_PX = 7
CONTINUED_SHARE = 0.25  # of a photo's longer side: how far surfaces continue where few photos look
CONTINUED_LOG_DIFFERENCE = 0.3  # the same as MAX_LOG_DIFFERENCE there, where the depth is less certain
OUTLINE_PX = 2  # how far beyond a surface's last point it is decided whether it ends at an outline
MIN_INVERSE_DEPTH = 1e-12  # per scene unit, of a hole that has points around it


@dataclass(frozen=True)
class Candidates:
    """Points that may be added."""

    xyz: Tensor  # [M, 3]
    log_radiance: Tensor  # [M, 3]
    spacing: Tensor  # [M] distance between neighbouring pixels at the point's depth, scene units
    normals: Tensor  # [M, 3] towards the photo

    def __len__(self) -> int:
        """Return the number of candidates."""
        return len(self.xyz)

    def __getitem__(self, keep: Tensor) -> Candidates:
        """Return the candidates that `keep` selects, [M] bool or indices."""
        return Candidates(self.xyz[keep], self.log_radiance[keep], self.spacing[keep], self.normals[keep])


@torch.no_grad()
def grow_points(pipeline: Pipeline, cache: PhotoCache, photos: list[int], config: GrowConfig) -> int:
    """Add points to the pipeline where photos see a surface and no point is drawn; return how many.

    Stereo comes first: a position that it finds in the holes of one photo is added if the depth of another photo
    confirms it. In holes that remain too wide to be filled from the pyramid, a few depths close to the surrounding
    depth are tried: a position is added if at least `config.min_views` photos agree on its radiance and none sees
    through it. Where fewer photos look than `config.min_views`, surfaces continue as deep as around the hole. What photos
    also show infinitely far away is left to the environment.

    Source: `adop.initialisation.stereo`; photo-consistency of space carving (Kutulakos and Seitz 2000).
    """
    if len(photos) < 2 or config.max_points < 1:
        return 0
    reduced = reduce_photos(pipeline, cache, photos, config.longest_side)
    fill_levels, added = pipeline.config.fill_levels, 0
    holes = {index: photo.holes(PASSING_LEVELS) for index, photo in reduced.items()}
    with_holes = [index for index in photos if holes[index].float().mean() > MIN_HOLES]
    chosen = spread_photos(with_holes, config.max_photos)
    if config.stereo:
        stereo_levels = min(config.stereo_levels, fill_levels)
        found = _stereo_candidates(reduced, chosen, holes, stereo_levels, config)
        added = _add(pipeline, found, config.max_points)
        reduced = update_depth(pipeline, reduced) if added else reduced
    if added >= config.max_points:
        return added
    found = []
    for photo in chosen:
        neighbours = [reduced[i] for i in nearest_photos(reduced, photo, config.neighbour_photos)]
        candidates = _depth_hypotheses(reduced[photo], neighbours, config, fill_levels)
        found.append(_without_background(candidates, reduced[photo].camera.centre(), reduced, holes))
    added += _add(pipeline, found, config.max_points - added)
    return added + _continue_surfaces(pipeline, reduced, holes, config, config.max_points - added)


def _continue_surfaces(
    pipeline: Pipeline,
    reduced: dict[int, ReducedPhoto],
    holes: dict[int, Tensor],
    config: GrowConfig,
    max_points: int,
) -> int:
    """Add points where surfaces leave the pictures of all but a few photos; return how many.

    Too few photos look there to agree on a depth, and none contradicts that the surface goes on. Photo by photo, so that
    each continues what those before it have shown.
    """
    added = 0
    for index in Bar(reduced, desc="surfaces that few photos see"):
        if added >= max_points:
            break
        photo = update_depth(pipeline, {index: reduced[index]})[index]
        others = {i: other for i, other in reduced.items() if i != index}
        candidates = _continued(photo, list(others.values()), config, pipeline.config.fill_levels)
        candidates = _without_background(candidates, photo.camera.centre(), others, holes)
        added += _add(pipeline, [candidates], max_points - added)
    return added


def _continued(
    photo: ReducedPhoto, others: list[ReducedPhoto], config: GrowConfig, fill_levels: int
) -> Candidates:
    """Return candidates in the holes of a photo, as deep as around the hole, where too few others look to judge.

    The others that do must show the same colour there. The surface must end because few photos look beyond: where more
    look right beyond its last point and no point is there, it ends at an outline.
    """
    has_point = photo.has_point()[0, 0]
    if not has_point.any():
        return _candidates_at(photo, torch.nonzero(has_point), photo.depth.new_zeros(0))
    distance, last = (
        torch.from_numpy(part).to(has_point.device)
        for part in distance_transform_edt(~has_point.cpu().numpy(), return_indices=True)
    )
    near = distance < CONTINUED_SHARE * max(photo.size())
    pixels = torch.nonzero((photo.holes(fill_levels) & ~photo.clipped)[0, 0] & near)
    row, column = pixels.unbind(1)
    last = last[:, row, column].T
    beyond = last + (OUTLINE_PX * (pixels - last) / distance[row, column, None]).round().long()
    inverse_depth = photo.filled_inverse_depth()[0, 0].clamp_min(MIN_INVERSE_DEPTH)
    candidates, at_edge = (
        _candidates_at(photo, where, 1 / inverse_depth[where[:, 0], where[:, 1]])
        for where in (pixels, beyond)
    )
    reference = offset_log(candidates.log_radiance)
    views, edge_views, agreeing = (torch.zeros(len(pixels), device=reference.device) for _ in range(3))
    for other in others:
        uv, _, inside = other.project(torch.cat((candidates.xyz, at_edge.xyz)))
        row, column = other.nearest_pixel(uv)
        seen, edge_seen = (inside & other.inside_mask()[0, 0, row, column]).chunk(2)
        views, edge_views = views + seen, edge_views + edge_seen
        light = offset_log(sample_image(other.log_radiance, uv[: len(pixels)]).T)
        agreeing += seen & ((light - reference).abs().amax(1) < CONTINUED_LOG_DIFFERENCE)
    few = config.min_views - 1
    return candidates[(views < few) & (edge_views < few) & (agreeing >= views)]


def _add(pipeline: Pipeline, found: list[Candidates], max_points: int) -> int:
    """Add one candidate per cell to the pipeline, at most `max_points` spread evenly over them; return how many."""
    if not any(len(candidates) for candidates in found):
        return 0
    parts = zip(*((c.xyz, c.log_radiance, c.spacing, c.normals) for c in found), strict=True)
    new = Candidates(*(torch.cat(part) for part in parts))
    new = new[_one_per_cell(new)]
    if len(new) > max_points:
        new = new[spread_indices(len(new), max_points, new.xyz.device)]
    order = torch.from_numpy(morton_order(new.xyz.cpu().numpy()).astype("int64"))
    new = new[order.to(new.xyz.device)]
    spare = new.xyz.new_zeros(len(new), pipeline.points.features.shape[1] - 3)
    features = torch.cat((new.log_radiance, spare), dim=1)
    pipeline.points.add(Points(new.xyz, 2 * new.spacing, new.normals), features)
    return len(new)


def _stereo_candidates(
    reduced: dict[int, ReducedPhoto],
    chosen: list[int],
    holes: dict[int, Tensor],
    fill_levels: int,
    config: GrowConfig,
) -> list[Candidates]:
    """Return what stereo finds in the holes of the chosen photos and another of them confirms."""
    pyramid, maps = photo_pyramid(reduced), {}
    for photo in Bar(chosen, desc="stereo in holes"):
        depths = depth_map(pyramid, photo, fill_levels, config)
        if depths is not None:
            maps[photo] = depths
    result = []
    for photo, depths in maps.items():
        pixels = torch.nonzero(depths.found)
        z = 1 / depths.inverse_depth[pixels[:, 0], pixels[:, 1]]
        candidates = _candidates_at(reduced[photo], pixels, z)
        candidates = candidates[consistent_depths(maps, reduced, photo, candidates.xyz)]
        result.append(_without_background(candidates, reduced[photo].camera.centre(), reduced, holes))
    return result


def _without_background(
    candidates: Candidates, centre: Tensor, photos: dict[int, ReducedPhoto], holes: dict[int, Tensor]
) -> Candidates:
    """Return the candidates of the photo with this centre that are not part of the far background, such as the sky.

    They are if many photos see past all points in their direction, and most of these show the same light there.
    Beside an outline, photos agree on the sky at the depth of the outline too.
    """
    far = centre + INFINITE_DEPTH_FACTOR * (candidates.xyz - centre)
    reference = offset_log(candidates.log_radiance)
    showing, passing, agreeing = (torch.zeros(len(candidates), device=far.device) for _ in range(3))
    for index, photo in photos.items():
        uv, _, inside = photo.project(far)
        row, column = photo.nearest_pixel(uv)
        past = inside & holes[index][0, 0, row, column]
        difference = offset_log(sample_image(photo.log_radiance, uv).T) - reference
        showing += inside & photo.inside_mask()[0, 0, row, column]
        passing += past
        agreeing += past & (difference.abs().amax(1) < MAX_LOG_DIFFERENCE)
    background = (passing > MIN_PASSING * showing) & (agreeing > MIN_AGREEING * passing)
    return candidates[~background]


def _candidates_at(photo: ReducedPhoto, pixels: Tensor, z: Tensor) -> Candidates:
    """Return candidates in pixels [M, 2] (row, column) at depths [M]."""
    camera = photo.camera
    uv = pixels.flip(1).to(z.dtype) + 0.5
    xyz = camera.unproject(uv[None], z[None])[0]
    spacing = z / (camera.intrinsics[0, 0] * camera.crop[0, 0])
    colour = photo.log_radiance[0, :, pixels[:, 0], pixels[:, 1]].T
    return Candidates(xyz, colour, spacing, F.normalize(camera.centre() - xyz, dim=1))


def _depth_hypotheses(
    photo: ReducedPhoto, neighbours: list[ReducedPhoto], config: GrowConfig, fill_levels: int
) -> Candidates:
    """Return candidates in the holes of a photo, at depths close to the surrounding depth, where its neighbours agree."""
    holes = photo.holes(fill_levels)
    # Clipped pixels agree with every other clipped pixel, wherever it is.
    pixels = torch.nonzero((holes & ~photo.clipped)[0, 0])
    inverse_depth = photo.filled_inverse_depth()[0, 0, pixels[:, 0], pixels[:, 1]].clamp_min(
        MIN_INVERSE_DEPTH
    )
    best_difference = photo.depth.new_full((len(pixels),), torch.inf)
    best_z = photo.depth.new_zeros(len(pixels))
    for factor in DEPTH_FACTORS:
        z = factor / inverse_depth
        difference = _photo_difference(_candidates_at(photo, pixels, z), neighbours, config)
        better = difference < best_difference
        best_difference = torch.where(better, difference, best_difference)
        best_z = torch.where(better, z, best_z)
    # What neighbours also agree on at infinity has no certain depth.
    infinite = _candidates_at(photo, pixels, INFINITE_DEPTH_FACTOR / inverse_depth)
    near = _photo_difference(infinite, neighbours, config) > MAX_LOG_DIFFERENCE
    keep = (best_difference < MAX_LOG_DIFFERENCE) & (inverse_depth > MIN_INVERSE_DEPTH) & near
    keep &= _coherent(holes, pixels, keep)
    return _candidates_at(photo, pixels[keep], best_z[keep])


def _coherent(holes: Tensor, pixels: Tensor, keep: Tensor) -> Tensor:
    """Return [M] bool, whether enough of the hole around each of pixels [M, 2] is kept, see `MIN_COHERENCE`."""
    kept = torch.zeros_like(holes, dtype=torch.float32)
    kept[0, 0, pixels[:, 0], pixels[:, 1]] = keep.float()
    kept_share, hole_share = (
        F.avg_pool2d(image, COHERENCE_WINDOW_PX, stride=1, padding=COHERENCE_WINDOW_PX // 2)
        for image in (kept, holes.float())
    )
    return (kept_share >= MIN_COHERENCE * hole_share)[0, 0, pixels[:, 0], pixels[:, 1]]


def _photo_difference(candidates: Candidates, neighbours: list[ReducedPhoto], config: GrowConfig) -> Tensor:
    """Return [M] the difference in log radiance that `config.min_views` photos keep within; +inf where one sees through.

    The photo that a candidate comes from is one of them: with three views it is the second-best neighbour's difference.
    """
    reference, differences = offset_log(candidates.log_radiance), []
    seen_through = torch.zeros(len(reference), device=reference.device)
    for photo in neighbours:
        uv, z, inside = photo.project(candidates.xyz)
        log_radiance = sample_image(photo.log_radiance, uv).T
        row, column = photo.nearest_pixel(uv)
        depth = photo.depth[0, 0, row, column]
        hidden = z > depth * (1 + config.depth_tolerance)
        visible = inside & photo.inside_mask()[0, 0, row, column] & ~hidden
        difference = (offset_log(log_radiance) - reference).abs().amax(1)
        differences.append(torch.where(visible, difference, torch.inf))
        in_front = torch.isfinite(depth) & (z < depth * (1 - config.depth_tolerance))
        seen_through += visible & in_front & (difference > MAX_LOG_DIFFERENCE)
    ranked = torch.stack(differences).sort(0).values
    agreed = ranked[min(config.min_views - 2, len(ranked) - 1)]
    return torch.where(seen_through > 0, torch.inf, agreed)


def _one_per_cell(candidates: Candidates) -> Tensor:
    """Return indices of one candidate per cubic cell; a cell is twice the spacing wide, rounded to a power of two."""
    size = torch.exp2((2 * candidates.spacing).log2().round())
    cell = torch.cat(((candidates.xyz / size[:, None]).floor(), size.log2()[:, None]), dim=1).long()
    return first_of_each(cell)


def first_of_each(rows: Tensor) -> Tensor:
    """Return the indices, rising, of the first occurrence of each distinct row of [M] or [M, K]."""
    _, first = np.unique(rows.cpu().numpy(), axis=0, return_index=True)
    return torch.from_numpy(np.sort(first)).to(rows.device)
