"""What can be shown of a rendered view: the picture, the points, and the layers that the picture is made of."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adop.evaluation.report import error_picture
from adop.geometry.camera import Camera
from adop.images.writers import depth_picture
from adop.model.environment_lookup import level_directions
from adop.model.hole_filling import filled_depth
from adop.model.pipeline import Radiance
from adop.render.camera_settings import CameraSettings, expose, position_on_image, respond, white_level
from adop.run.run import Run

Layer = Literal["neural", "points", "base", "level", "depth", "weight", "mask", "environment", "map", "error"]
LAYERS: tuple[Layer, ...] = get_args(Layer)
EMPTY = 0.02  # grey where a layer has nothing to show
OCCLUDED = 0.03  # relative difference in depth from which a photo does not see a place


@dataclass(frozen=True)
class Shown:
    """What a browser wants to see of a view."""

    layer: Layer = "neural"
    level: int = 0  # of the pyramid, for the layers that have levels
    point_size: int = 2  # pixels of a point, 1, 2 or 4
    clipping: bool = False  # paint what is clipped


@dataclass(frozen=True)
class Picture:
    """A layer's picture, and what is measured on the way."""

    pixels: np.ndarray  # [H, W, 3] uint8
    light: Tensor  # [3, H, W] light on the sensor, 1 is full
    note: str = ""


def layer_picture(
    run: Run, camera: Camera, radiance: Radiance, look: CameraSettings, shown: Shown
) -> Picture:
    """Return the picture of a layer of a rendered view (B = 1).

    Pictures of light go through the look; the others have fixed colours: depth near bright, weights and masks grey.
    """
    tonemapper = run.pipeline.tonemapper
    position = position_on_image(radiance.image) if look.vignette else None
    light = expose(tonemapper, radiance.image, look, position)
    size = radiance.image.shape[2:]
    note = ""
    if shown.layer == "neural":
        pixels = _bytes(respond(tonemapper, light, look))
        if shown.clipping:
            pixels = paint_clipped(pixels, light[0], white_level(look))
    elif shown.layer in ("points", "base", "level", "environment", "map"):
        linear = _linear_layer(run, camera, radiance, shown)
        exposed = expose(tonemapper, linear, dataclasses.replace(look, vignette=False))
        pixels = _bytes(respond(tonemapper, exposed, look))
    elif shown.layer == "error":
        pixels, note = _error(run, camera, radiance)
    else:
        pixels = _grey_layer(run, radiance, shown)
    return Picture(_fit(pixels, size), light[0], note)


def _bytes(image: Tensor) -> np.ndarray:
    # By one multiplication and one rounding, as `to_uint8`, without its copies through [3, H, W] floats.
    return (image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy()


def _fit(pixels: np.ndarray, size: torch.Size) -> np.ndarray:
    """Return pixels [h, w, 3] at `size`, each repeated, so that a coarse level shows its own pixels."""
    height, width = size
    rows = np.minimum(np.arange(height) * pixels.shape[0] // height, pixels.shape[0] - 1)
    columns = np.minimum(np.arange(width) * pixels.shape[1] // width, pixels.shape[1] - 1)
    return pixels if pixels.shape[:2] == (height, width) else pixels[rows][:, columns]


def _linear_layer(run: Run, camera: Camera, radiance: Radiance, shown: Shown) -> Tensor:
    """Return [1, 3, h, w] linear light of a layer."""
    levels, base = radiance.levels, radiance.filled
    level = min(shown.level, len(levels.features) - 1)
    if shown.layer == "base":
        return base.colours[level]
    if shown.layer == "environment":
        background = run.pipeline.environment(level_directions(camera, run.pipeline.config.levels))
        return background[0][:, :3].exp()
    if shown.layer == "map":
        return run.pipeline.environment.map[:, :3].exp()
    if shown.layer == "level":
        return torch.where(levels.weight[level] > 0, levels.features[level][:, :3].exp(), EMPTY)
    picture = torch.full_like(radiance.image, EMPTY)
    for coarse in reversed(range(min(max(1, shown.point_size).bit_length(), len(levels.features)))):
        own = levels.features[coarse][:, :3].exp()
        covered = levels.weight[coarse] > 0
        size = picture.shape[2:]
        picture = torch.where(_enlarge(covered, size), _enlarge(own, size), picture)
    return picture


def _enlarge(image: Tensor, size: torch.Size) -> Tensor:
    """Repeat the pixels of a level [B, C, h, w] up to level 0's size."""
    factor = -(-size[0] // image.shape[2])
    large = image.repeat_interleave(factor, 2).repeat_interleave(factor, 3) if factor > 1 else image
    return large[:, :, : size[0], : size[1]]


def _grey_layer(run: Run, radiance: Radiance, shown: Shown) -> np.ndarray:
    """Return [h, w, 3] uint8 of depth, of how many points a pixel has, or of where a level shows its own points."""
    level = min(shown.level, len(radiance.levels.weight) - 1)
    if shown.layer == "depth":
        depth = run.pipeline.depth(radiance)[0, 0] if level == 0 else radiance.levels.depth[level][0, 0]
        return _heat(depth_picture(depth.cpu().numpy()))
    if shown.layer == "weight":
        weight = radiance.levels.weight[level][0, 0].cpu().numpy()
        return _heat((255 * np.clip(np.log2(1 + weight) / 6, 0, 1)).astype(np.uint8))
    mask = radiance.filled.valid[level][0, 0].cpu().numpy()
    return np.repeat((mask * 235 + 10).astype(np.uint8)[..., None], 3, axis=2)


def _heat(grey: np.ndarray) -> np.ndarray:
    """Return [H, W, 3] uint8 colours of [H, W] uint8: black, violet, red, orange, pale yellow."""
    stops = np.array([[8, 8, 12], [60, 20, 110], [175, 45, 95], [240, 130, 45], [250, 245, 190]], np.float64)
    table = np.stack([np.interp(np.linspace(0, 4, 256), np.arange(5), column) for column in stops.T], axis=1)
    return table.round().astype(np.uint8)[grey]


def paint_clipped(pixels: np.ndarray, light: Tensor, white: float) -> np.ndarray:
    """Paint what is white in some channel red, and what is black blue; `light` [3, H, W] is the sensor's."""
    high = (light.amax(0) >= white).cpu().numpy()
    low = (light.amax(0) <= 1 / 4096).cpu().numpy()
    pixels = pixels.copy()
    pixels[high], pixels[low] = (255, 40, 90), (40, 90, 255)
    return pixels


def nearest_photo(run: Run, world_to_camera: np.ndarray) -> int:
    """Return the photo that was taken most nearly from where, and in the direction that, a camera looks."""
    poses = np.stack([photo.world_to_camera for photo in run.scene.photos])
    centres = np.linalg.inv(poses)[:, :3, 3]
    centre = np.linalg.inv(world_to_camera)[:3, 3]
    away = np.linalg.norm(centres - centre, axis=1)
    scale = max(float(np.median(np.linalg.norm(centres - centres.mean(0), axis=1))), 1e-9)
    facing = poses[:, 2, :3] @ world_to_camera[2, :3]
    return int(np.argmin(away / scale + 2 * (1 - facing)))


def _error(run: Run, camera: Camera, radiance: Radiance) -> tuple[np.ndarray, str]:
    """Return the difference from the nearest photo, looked up at each pixel's own depth, where the photo sees it."""
    pipeline = run.pipeline
    photo = nearest_photo(run, camera.world_to_camera[0].double().cpu().numpy())
    index = torch.tensor([photo])
    depth = pipeline.depth(radiance)[:, 0]
    seen_from = pipeline.camera(index)
    uv, z = _reproject(camera, seen_from, depth)
    theirs = pipeline.draw(seen_from, pipeline.points.features[:, :3], pipeline.raster)
    known = filled_depth(theirs, pipeline.fill_holes(theirs, None), pipeline.fill_levels)
    size = torch.tensor([seen_from.width, seen_from.height], device=uv.device)
    grid = 2 * uv / size - 1
    there = F.grid_sample(known.nan_to_num(posinf=1e30), grid, mode="nearest", align_corners=False)[:, 0]
    image = F.grid_sample(run.cache.image(photo, uv.device), grid, padding_mode="border", align_corners=False)
    inside = (grid.abs() < 1).all(-1) & (z > 0) & (z < there * (1 + OCCLUDED))
    position = ((uv - size / 2) / (size.float().norm() / 2)).permute(0, 3, 1, 2)
    photometry = pipeline.tonemapper.photometry(index)
    render = pipeline.tonemapper(radiance.image, photometry, position, pipeline.cameras.photo_lens[index])
    pixels = error_picture(render[0], image[0])
    pixels[~inside[0].cpu().numpy()] = (34, 36, 44)
    return pixels, f"against {run.scene.photos[photo].name}"


def _reproject(camera: Camera, other: Camera, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Return where each pixel's surface lies in another camera: uv [1, H, W, 2] px, z [1, H, W] (0: nowhere)."""
    from adop.ops import Points, project

    height, width = depth.shape[1:]
    y = torch.arange(height, device=depth.device) + 0.5
    x = torch.arange(width, device=depth.device) + 0.5
    uv = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(1, -1, 2)
    flat = depth.reshape(1, -1)
    world = camera.unproject(uv, flat.nan_to_num(posinf=0.0))[0].float().contiguous()
    radius = torch.full((len(world),), 1e6, device=world.device)
    found = project(other, Points(world, radius, None, None), near=1e-9)
    visible = found.visible & torch.isfinite(flat)
    z = torch.where(visible, found.z, 0.0).reshape(1, height, width)
    return found.uv.reshape(1, height, width, 2).nan_to_num(), z
