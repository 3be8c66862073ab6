"""Add points between those of the cloud until a pixel of every photo has enough of them."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.config import DensifyConfig
from adop.geometry.camera import Camera
from adop.initialisation.background import Background, measure_background
from adop.initialisation.photometry import photo_radiance
from adop.initialisation.reduced_photos import (
    MIN_MASK,
    ReducedPhoto,
    nearest_photos,
    offset_log,
    reduce_photos,
    resized_photo,
    sample_image,
    spread_indices,
    spread_photos,
)
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE
from adop.ops import Points
from adop.progress import Bar
from adop.scene.photo_cache import PhotoCache

GOLDEN_RATIO = 0.618034
FILL_LEVELS = 3  # a gap of up to 2^(levels - 1) pixels lies between points of one surface
REACH = 2 ** (FILL_LEVELS - 1)  # pixels from a point up to which its surface is continued
MIN_COSINE = 0.2  # of the angle between normal and ray, below which a surface is taken to face the camera
CHECK_SIDE = 640  # longer side of the photos that new points are compared with, pixels
NEIGHBOURS = 4  # photos that a new point is compared with
MAX_SURFACE_DIFFERENCE = 0.5  # largest difference in log radiance from the surface around a new point
MAX_LOG_DIFFERENCE = 0.25  # largest difference in log radiance at which two photos agree


@torch.no_grad()
def densify(pipeline: Pipeline, cache: PhotoCache, photos: list[int], config: DensifyConfig) -> int:
    """Add points to the pipeline in the empty pixels of photos, on the surface of the points around; return how many.

    Photo by photo, a pixel without a point that lies in a gap between points of one surface gets one: on the plane
    that their normals span, in the photo's colour, unless it could as well show the far background. It is kept where
    more of the neighbouring photos show the same depth and colour than contradict. Coarser passes come first, so that a
    budget that does not suffice is spread evenly. Deterministic.

    Source: patch expansion of Furukawa and Ponce 2010, PMVS, one pixel at a time.
    """
    chosen = spread_photos(photos, config.max_photos)
    if len(photos) < 2 or len(pipeline.points) >= config.max_points:
        return 0
    before = len(pipeline.points)
    reduced = reduce_photos(pipeline, cache, photos, CHECK_SIDE)
    background = measure_background(reduced.values(), pipeline.config.fill_levels, pipeline.device)
    checks = {i: _filled(photo) for i, photo in reduced.items()}
    neighbours = {photo: nearest_photos(checks, photo, NEIGHBOURS) for photo in chosen}
    # Where the budget ends within a pass, that pass was spread over the capture.
    chosen.sort(key=lambda photo: photo * GOLDEN_RATIO % 1)
    steps = [(scale, photo) for scale in config.scales for photo in chosen]
    for scale, photo in Bar(steps, desc="points between points"):
        room = config.max_points - len(pipeline.points)
        if room <= 0:
            break
        new = _fill_photo(pipeline, cache, photo, scale, config.longest_side, background)
        if new is None:
            continue
        points, log_radiance = new
        kept = _confirmed(points.xyz, log_radiance, [checks[i] for i in neighbours[photo]], config)
        others = [view for i, view in checks.items() if i != photo]
        doubtful = torch.nonzero(~kept)[:, 0]
        kept[doubtful] = _unseen(points.xyz[doubtful], others, config)
        kept = torch.nonzero(kept)[:, 0]
        if len(kept) > room:
            kept = kept[spread_indices(len(kept), room, kept.device)]
        width = pipeline.points.features.shape[1]
        assert points.normals is not None
        selected = Points(points.xyz[kept], points.radius[kept], points.normals[kept])
        pipeline.points.add(selected, F.pad(log_radiance[kept], (0, width - 3)))
    pipeline.points.sort(config.seed, before)
    return len(pipeline.points) - before


def _fill_photo(
    pipeline: Pipeline, cache: PhotoCache, photo: int, scale: float, longest_side: int, background: Background
) -> tuple[Points, Tensor] | None:
    """Return points in the gaps of a photo reduced by a scale, and their log radiance [M, 3]; None: no gaps."""
    index = torch.tensor([photo])
    whole = pipeline.camera(index)
    camera = whole.scaled(scale * min(1.0, longest_side / max(whole.width, whole.height)))
    gaps, surface = _gaps(pipeline, camera)
    value, mask = resized_photo(cache, photo, camera, pipeline.device)
    gaps &= mask > MIN_MASK
    row, column = torch.nonzero(gaps[0, 0]).unbind(1)
    uv = torch.stack((column, row), 1).to(surface) + 0.5
    rays = camera.unproject(uv[None], torch.ones_like(uv[None, :, 0]))[0] - camera.centre()
    normal, colour = surface[0, :, row >> 1, column >> 1].T.split(3, 1)
    inverse_depth = (normal * rays).sum(1)
    position = pipeline.cameras.photo_position(camera, index)[0]
    radiance = photo_radiance(
        pipeline, photo, value[0, :, row, column][:, None], position[:, row, column][:, None]
    )
    log_radiance = radiance[:, 0].T.clamp_min(MIN_RADIANCE).log()
    # A pixel beside an outline shows what is behind, which two photos may well agree on.
    own = (offset_log(log_radiance) - offset_log(colour)).abs().amax(1) < MAX_SURFACE_DIFFERENCE
    good = own & (inverse_depth > 0) & ~background.shows(rays, log_radiance, MAX_LOG_DIFFERENCE)
    if not good.any():
        return None
    z = 1 / inverse_depth[good]
    xyz = camera.centre() + rays[good] * z[:, None]
    spacing = z / (camera.intrinsics[0, 0] * camera.crop[0, 0])
    return Points(xyz, spacing, -F.normalize(normal[good], dim=1)), log_radiance[good]


def _gaps(pipeline: Pipeline, camera: Camera) -> tuple[Tensor, Tensor]:
    """Return which pixels [1, 1, H, W] lie between points, and the surface there at half the size [1, 6, h, w].

    The surface is its planes, as `_planes` returns them, and its log colours.
    """
    points = pipeline.points
    surfaces = torch.cat((_planes(points.xyz, points.normals, camera), points.features[:, :3]), 1)
    raster = replace(pipeline.raster, levels=FILL_LEVELS, radius_threshold=0.0)
    levels = pipeline.draw(camera, surfaces, raster)
    surface, near_point = levels.features[-1], levels.weight[-1] > 0
    for level in range(FILL_LEVELS - 2, 0, -1):
        own = levels.weight[level] > 0
        surface = torch.where(own, levels.features[level], _doubled(surface, own))
        near_point = _doubled(near_point, own) | own
    has_point = levels.weight[0] > 0
    return ~has_point & _doubled(near_point, has_point) & _closed(has_point), surface


def _closed(image: Tensor) -> Tensor:
    """Return a bool image [1, 1, H, W] with the gaps between its true pixels closed, and nothing added around them.

    Source: morphological closing (Serra 1982) by a square as wide as two gaps.
    """
    grown = F.pad(_dilated(image), [REACH] * 4)
    return _largest_around(1 - grown, padding=0) == 0


def _dilated(image: Tensor) -> Tensor:
    """Return 1 where a true pixel of a bool image [1, 1, H, W] lies within reach, else 0."""
    return _largest_around(image.float(), padding=REACH)


def _largest_around(image: Tensor, padding: int) -> Tensor:
    """Return the largest values within reach of an image's [1, 1, H, W] pixels: of rows first, then of columns."""
    rows = F.max_pool2d(image, (1, 2 * REACH + 1), stride=1, padding=(0, padding))
    return F.max_pool2d(rows, (2 * REACH + 1, 1), stride=1, padding=(padding, 0))


def _doubled(image: Tensor, like: Tensor) -> Tensor:
    """Return an image [1, C, h, w] with each pixel twice in both directions, as large as `like`."""
    height, width = like.shape[2:]
    return image.repeat_interleave(2, 2).repeat_interleave(2, 3)[..., :height, :width]


def _planes(xyz: Tensor, normals: Tensor | None, camera: Camera) -> Tensor:
    """Return [N, 3] the points' planes as seen from a camera: a ray r meets a plane p at depth 1 / (p . r).

    Rays are measured from the centre to depth 1. A mean of planes is the plane through the mean of their points.
    """
    local = xyz - camera.centre()
    if normals is None:
        normals = camera.world_to_camera[:, 2, :3].expand_as(xyz)
    distance = (normals * local).sum(1, keepdim=True)
    grazing = distance.abs() < MIN_COSINE * local.norm(dim=1, keepdim=True)
    facing = torch.where(grazing, local, normals)
    distance = torch.where(grazing, (local * local).sum(1, keepdim=True), distance)
    return facing / distance.masked_fill(distance == 0, torch.inf)


def _filled(photo: ReducedPhoto) -> ReducedPhoto:
    """Return the photo with the depth between points of one surface interpolated."""
    near_point = _dilated(photo.has_point()) > 0
    depth = torch.where(near_point, 1 / photo.filled_inverse_depth(), torch.inf)
    return replace(photo, depth=torch.where(photo.has_point(), photo.depth, depth))


def _confirmed(
    xyz: Tensor, log_radiance: Tensor, photos: list[ReducedPhoto], config: DensifyConfig
) -> Tensor:
    """Return [M] bool, the points that more photos show at the same depth and colour than contradict.

    A photo contradicts a point that it shows in another colour, or through which it sees.
    """
    reference = offset_log(log_radiance)
    agreeing, contradicting = (torch.zeros(len(xyz), device=xyz.device) for _ in range(2))
    for photo in photos:
        uv, z, inside = photo.project(xyz)
        row, column = photo.nearest_pixel(uv)
        depth = photo.depth[0, 0, row, column]
        inside = inside & photo.inside_mask()[0, 0, row, column] & torch.isfinite(depth)
        hidden = z > depth * (1 + config.depth_tolerance)
        near = inside & ~hidden & (z > depth * (1 - config.depth_tolerance))
        difference = offset_log(sample_image(photo.log_radiance, uv).T) - reference
        if near.any():  # what is left of two photos' exposure and white balance is no reason for doubt
            difference = difference - difference[near].median(0).values
        alike = (difference.abs().amax(1) < MAX_LOG_DIFFERENCE) | photo.clipped[0, 0, row, column]
        agreeing += near & alike
        contradicting += inside & ~hidden & ~alike
    return agreeing > contradicting


def _unseen(xyz: Tensor, photos: list[ReducedPhoto], config: DensifyConfig) -> Tensor:
    """Return [M] bool, the points that no photo sees, so that none can confirm or contradict them."""
    unseen = torch.ones(len(xyz), dtype=torch.bool, device=xyz.device)
    for photo in photos:
        left = torch.nonzero(unseen)[:, 0]
        uv, z, inside = photo.project(xyz[left])
        row, column = photo.nearest_pixel(uv)
        hidden = z > photo.depth[0, 0, row, column] * (1 + config.depth_tolerance)
        unseen[left] = ~(inside & ~hidden)
    return unseen
