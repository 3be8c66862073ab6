"""New points where photos see something and no point is near: in holes, kept only where three views agree."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.camera import Camera
from adop.config import GrowConfig
from adop.environment import push_pull
from adop.ops import Points, draw
from adop.photometry import clipped_share
from adop.photos import PhotoCache
from adop.pipeline import DARKEST, Pipeline
from adop.points import morton_order

FAR = 1000.0  # times the depth around a hole
DIM = 0.02  # radiance below which differences count less and less: in the dark their logarithms are noise


@dataclass(frozen=True)
class SmallView:
    """A photo, reduced, with the depth of the points in it."""

    camera: Camera
    log_radiance: Tensor  # [1, 3, h, w]
    trust: Tensor  # [1, 1, h, w] 0 where the mask says so
    clipped: Tensor  # [1, 1, h, w] bool
    depth: Tensor  # [1, 1, h, w] nearest point, +inf where none


@dataclass(frozen=True)
class Candidates:
    """Points that might be there."""

    xyz: Tensor  # [M, 3]
    log_radiance: Tensor  # [M, 3]
    radius: Tensor  # [M] half the distance to the next, scene units
    normals: Tensor  # [M, 3] towards the photo


@torch.no_grad()
def fill_holes(pipeline: Pipeline, cache: PhotoCache, photos: list[int], config: GrowConfig) -> int:
    """Add points to the pipeline where the photos see what no point shows; return how many.

    Each photo's empty pixels get a depth from around the hole, and a few nearer and farther ones. A candidate
    stays where at least three photos that see the place agree on its radiance and none looks through it at
    something behind; of a pixel's candidates the best agreed one.

    Source: space carving's photo-consistency (Kutulakos and Seitz 2000), for holes only.
    """
    views = {photo: _small_view(pipeline, cache, photo, config.side) for photo in photos}
    chosen = photos[:: max(1, -(-len(photos) // config.photos))]
    found = []
    for photo in chosen:
        others = _neighbours(views, photo, config.others)
        candidates = _grow_from(
            views[photo], [views[i] for i in others], config, pipeline.config.render.fill_levels
        )
        if len(candidates.xyz):
            found.append(candidates)
    if not found:
        return 0
    merged = Candidates(
        *(torch.cat([getattr(c, name) for c in found]) for name in Candidates.__dataclass_fields__)
    )
    keep = _one_per_cell(merged)[: config.budget]
    spare = pipeline.features.shape[1] - 3
    order = torch.from_numpy(morton_order(merged.xyz[keep].cpu().numpy()).astype("int64")).to(keep.device)
    keep = keep[order]
    features = torch.cat((merged.log_radiance[keep], merged.xyz.new_zeros(len(keep), spare)), dim=1)
    pipeline.add_points(merged.xyz[keep], 2 * merged.radius[keep], merged.normals[keep], features)
    return len(keep)


def _small_view(pipeline: Pipeline, cache: PhotoCache, photo: int, side: int) -> SmallView:
    index = torch.tensor([photo])
    whole = pipeline.camera(index)
    factor = min(1.0, side / max(whole.width, whole.height))
    camera = whole.scaled(factor)
    device = pipeline.xyz.device
    value = cache.image(photo, device)
    size = (camera.height, camera.width)
    value = F.interpolate(value, size=size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    tonemapper, lens = pipeline.tonemapper, pipeline.photo_lens[index]
    radiance = tonemapper.linearise(
        value, tonemapper.photometry(index), pipeline.position(camera, index), lens
    )
    trust = torch.ones_like(value[:, :1])
    mask = cache.mask(photo)
    if mask is not None:
        trust = F.interpolate(mask[None, None].float().to(device), size=size, mode="area")
    nothing = torch.zeros(len(pipeline.xyz), 1, device=device)
    raster = replace(pipeline.raster, levels=1, radius_threshold=0.0)
    levels = draw(
        camera,
        pipeline.points(),
        nothing,
        raster,
        nothing.new_zeros(1),
        backend=pipeline.config.render.backend,
    )
    depth = torch.where(levels.weight[0] > 0, levels.depth[0], torch.inf)
    return SmallView(camera, radiance.clamp_min(DARKEST).log(), trust, clipped_share(value) > 0.5, depth)


def _neighbours(views: dict[int, SmallView], photo: int, count: int) -> list[int]:
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


def _grow_from(view: SmallView, others: list[SmallView], config: GrowConfig, fill_levels: int) -> Candidates:
    known = torch.isfinite(view.depth) & (view.trust > 0.99)
    # Narrow gaps are filled by coarser levels; only where the environment would show is there a hole.
    reach = max(1, math.ceil(float(view.camera.crop[0, 0]) * 2 ** (fill_levels - 1)))
    near = F.max_pool2d(torch.isfinite(view.depth).float(), 2 * reach + 1, stride=1, padding=reach)
    hole = (near == 0) & (view.trust > 0.99)
    # What clips agrees with all else that clips, wherever it is.
    pixels = torch.nonzero((hole & ~view.clipped)[0, 0])
    inverse = torch.where(known, 1 / view.depth, 0.0)
    height, width = inverse.shape[2:]
    pad = (0, -width % 64, 0, -height % 64)
    filled = push_pull(F.pad(inverse, pad), F.pad(known.float(), pad), inverse.new_zeros(1))[
        ..., :height, :width
    ]
    best_cost = view.depth.new_full((len(pixels),), torch.inf)
    best_z = view.depth.new_zeros(len(pixels))
    uv = pixels.flip(1).to(view.depth.dtype)[None] + 0.5
    colour = view.log_radiance[0, :, pixels[:, 0], pixels[:, 1]].T
    around = filled[0, 0, pixels[:, 0], pixels[:, 1]]
    for factor in config.depths:
        z = factor / around.clamp_min(1e-12)
        xyz = view.camera.unproject(uv, z[None])[0]
        cost = _disagreement(xyz, colour, others, config)
        better = cost < best_cost
        best_cost, best_z = torch.where(better, cost, best_cost), torch.where(better, z, best_z)
    # What agrees at an endless distance too is left to the environment: a sky is no curtain.
    endless = view.camera.unproject(uv, (FAR / around.clamp_min(1e-12))[None])[0]
    keep = (best_cost < config.agreement) & (around > 0)
    keep &= _disagreement(endless, colour, others, config) > config.agreement
    keep &= _coherent(hole, pixels, keep, config.coherence)
    xyz = view.camera.unproject(uv[:, keep], best_z[keep][None])[0]
    spacing = best_z[keep] / (view.camera.intrinsics[0, 0] * view.camera.crop[0, 0])
    normals = F.normalize(view.camera.centre() - xyz, dim=1)
    return Candidates(xyz, colour[keep], spacing, normals)


def _coherent(hole: Tensor, pixels: Tensor, keep: Tensor, share: float) -> Tensor:
    """Return [M] whether enough of the hole around a pixel is kept: what agrees by chance stands alone."""
    kept = torch.zeros_like(hole, dtype=torch.float32)
    kept[0, 0, pixels[:, 0], pixels[:, 1]] = keep.float()
    around = F.avg_pool2d(kept, 7, stride=1, padding=3)
    empty = F.avg_pool2d(hole.float(), 7, stride=1, padding=3)
    return (around >= share * empty)[0, 0, pixels[:, 0], pixels[:, 1]]


def _disagreement(xyz: Tensor, colour: Tensor, others: list[SmallView], config: GrowConfig) -> Tensor:
    """Return [M] the third-best photo's difference in log radiance; +inf where a photo looks through the place."""
    own, differences = (colour.exp() + DIM).log(), []
    through = torch.zeros(len(xyz), device=xyz.device)
    for other in others:
        uv, z, inside = _project(other.camera, xyz)
        size = uv.new_tensor([other.camera.width, other.camera.height])
        grid = (2 * uv / size - 1)[None, None]
        shown = F.grid_sample(other.log_radiance, grid, align_corners=False, padding_mode="border")[0, :, 0].T
        trust = F.grid_sample(other.trust, grid, mode="nearest", align_corners=False)[0, 0, 0]
        column, row = (
            uv.nan_to_num(0).long().clamp_min(0)[:, i].clamp_max(int(size[i]) - 1) for i in range(2)
        )
        depth = other.depth[0, 0, row, column]
        hidden = z > depth * (1 + config.tolerance)
        seen = inside & (trust > 0.99) & ~hidden
        difference = ((shown.exp() + DIM).log() - own).abs().amax(1)
        differences.append(torch.where(seen, difference, torch.inf))
        through += (
            seen
            & torch.isfinite(depth)
            & (z < depth * (1 - config.tolerance))
            & (difference > config.agreement)
        )
    ranked = torch.stack(differences).sort(0).values
    agreed = ranked[min(config.views - 2, len(ranked) - 1)]
    return torch.where(through > 0, torch.inf, agreed)


def _project(camera: Camera, xyz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return uv [M, 2], z [M] and whether the camera has the point in its picture."""
    from adop.ops import project

    points = Points(xyz, torch.ones_like(xyz[:, 0]))
    projection = project(camera, points, near=1e-9)
    return projection.uv[0], projection.z[0], projection.visible[0]


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
