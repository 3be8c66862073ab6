"""What can be displayed of a rendered view: its image, its points, and the layers that the image is made of."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from adop.geometry.camera import Camera
from adop.images.writers import depth_picture
from adop.model.environment import level_directions
from adop.model.pipeline import Pipeline
from adop.model.views.view import Radiance
from adop.render.camera_settings import CameraSettings, expose, position_on_image, respond, white_level
from adop.run.run import Run
from adop.viewer.drawing.light_meter import BLACK_LEVEL
from adop.viewer.drawing.photo_error import photo_error

Layer = Literal[
    "neural",
    "points",
    "filled",
    "level",
    "depth",
    "weight",
    "mask",
    "environment",
    "environment_map",
    "error",
]
LAYERS: tuple[Layer, ...] = get_args(Layer)
LIT_LAYERS: tuple[Layer, ...] = ("points", "filled", "level", "environment", "environment_map")
EMPTY_LIGHT = 0.02  # linear grey of pixels in which a layer has nothing to show
CLIPPED_COLOUR, BLACK_COLOUR = (255, 40, 90), (40, 90, 255)  # red and blue
MAX_WEIGHT_STOPS = 6  # a weight of 2**this - 1 points per pixel is shown at full brightness
# Black, violet, red, orange, pale yellow.
HEAT_STOPS = np.array([[8, 8, 12], [60, 20, 110], [175, 45, 95], [240, 130, 45], [250, 245, 190]], np.float64)


@dataclass(frozen=True)
class DisplayOptions:
    """What a browser wants to see of a view."""

    layer: Layer = "neural"
    level: int = 0  # of the pyramid, for the layers that have levels
    point_size: int = 2  # side of a point in pixels: 1, 2 or 4
    show_clipping: bool = False  # colour the clipped and the black pixels of the neural image


@dataclass(frozen=True)
class LayerImage:
    """The image of a layer, and what was measured on the way."""

    pixels: np.ndarray  # [H, W, 3] uint8
    light: Tensor  # [3, H, W] sensor light of the neural image; 1 saturates the sensor
    note: str = ""  # shown on the page


def layer_image(
    run: Run, camera: Camera, radiance: Radiance, settings: CameraSettings, options: DisplayOptions
) -> LayerImage:
    """Return the image of a layer of a rendered view (B = 1).

    Layers of light are developed with the camera settings; the others have fixed colours.
    """
    pipeline, tonemapper = run.pipeline, run.pipeline.tonemapper
    position = position_on_image(radiance.image) if settings.vignette else None
    light = expose(tonemapper, radiance.image, settings, position)
    note = ""
    if options.layer == "neural":
        pixels = _to_pixels(respond(tonemapper, light, settings))
        if options.show_clipping:
            pixels = colour_clipped(pixels, light[0], white_level(settings))
    elif options.layer in LIT_LAYERS:
        linear = _linear_layer(pipeline, camera, radiance, options)
        exposed = expose(tonemapper, linear, dataclasses.replace(settings, vignette=False))
        pixels = _to_pixels(respond(tonemapper, exposed, settings))
    elif options.layer == "error":
        pixels, note = photo_error(run, camera, radiance)
    else:
        pixels = _scalar_layer(pipeline, radiance, options)
    return LayerImage(_resize_nearest(pixels, radiance.image.shape[2:]), light[0], note)


def _to_pixels(image: Tensor) -> np.ndarray:
    """Return [H, W, 3] uint8 of an image [1, 3, H, W], as `to_uint8` does but with fewer copies of floats."""
    return (image[0].permute(1, 2, 0).clamp(0, 1) * 255).round().byte().cpu().numpy()


def _resize_nearest(pixels: np.ndarray, size: torch.Size) -> np.ndarray:
    """Return pixels [h, w, 3] repeated to `size`, so that the pixels of a coarse level remain visible."""
    height, width = size
    rows = np.minimum(np.arange(height) * pixels.shape[0] // height, pixels.shape[0] - 1)
    columns = np.minimum(np.arange(width) * pixels.shape[1] // width, pixels.shape[1] - 1)
    return pixels if pixels.shape[:2] == (height, width) else pixels[rows][:, columns]


def _linear_layer(pipeline: Pipeline, camera: Camera, radiance: Radiance, options: DisplayOptions) -> Tensor:
    """Return the linear light [1, 3, h, w] of a layer."""
    levels = radiance.levels
    level = min(options.level, len(levels.features) - 1)
    if options.layer == "filled":
        return radiance.filled.colours[level]
    if options.layer == "environment":
        background = pipeline.environment(level_directions(camera, pipeline.config.levels))
        return background[0][:, :3].exp()
    if options.layer == "environment_map":
        return pipeline.environment.map[:, :3].exp()
    if options.layer == "level":
        return torch.where(levels.weight[level] > 0, levels.features[level][:, :3].exp(), EMPTY_LIGHT)
    return _points_layer(radiance, options.point_size)


def _points_layer(radiance: Radiance, point_size: int) -> Tensor:
    """Return the linear light [1, 3, H, W] of points of `point_size` pixels: of as many levels as that size needs."""
    levels = radiance.levels
    image = torch.full_like(radiance.image, EMPTY_LIGHT)
    for level in reversed(range(min(max(1, point_size).bit_length(), len(levels.features)))):
        colours = levels.features[level][:, :3].exp()
        covered = own_points(radiance, level)
        size = image.shape[2:]
        image = torch.where(_enlarge(covered, size), _enlarge(colours, size), image)
    return image


def own_points(radiance: Radiance, level: int) -> Tensor:
    """Return [B, 1, h, w] bool, where a level has points that are not seen through a gap in a nearer surface."""
    return (radiance.filled.valid[level] > 0) & (radiance.levels.weight[level] > 0)


def _enlarge(image: Tensor, size: torch.Size) -> Tensor:
    """Return a level's image [B, C, h, w] with its pixels repeated to the size of level 0."""
    factor = -(-size[0] // image.shape[2])
    large = image.repeat_interleave(factor, 2).repeat_interleave(factor, 3) if factor > 1 else image
    return large[:, :, : size[0], : size[1]]


def _scalar_layer(pipeline: Pipeline, radiance: Radiance, options: DisplayOptions) -> np.ndarray:
    """Return [h, w, 3] uint8 of a level's depth, of its points per pixel, or of where it shows its own points."""
    level = min(options.level, len(radiance.levels.weight) - 1)
    if options.layer == "depth":
        if level == 0:
            depth = pipeline.depth(radiance)
        else:
            depth = torch.where(own_points(radiance, level), radiance.levels.depth[level], torch.inf)
        return _heat_colours(depth_picture(depth[0, 0].cpu().numpy()))
    if options.layer == "weight":
        weight = radiance.levels.weight[level][0, 0].cpu().numpy()
        share = np.clip(np.log2(1 + weight) / MAX_WEIGHT_STOPS, 0, 1)
        return _heat_colours((255 * share).astype(np.uint8))
    mask = radiance.filled.valid[level][0, 0].cpu().numpy()
    return np.repeat((mask * 235 + 10).astype(np.uint8)[..., None], 3, axis=2)


def _heat_colours(grey: np.ndarray) -> np.ndarray:
    """Return [H, W, 3] uint8 heat-map colours of [H, W] uint8."""
    columns = [np.interp(np.linspace(0, 4, 256), np.arange(5), column) for column in HEAT_STOPS.T]
    return np.stack(columns, axis=1).round().astype(np.uint8)[grey]


def colour_clipped(pixels: np.ndarray, light: Tensor, white: float) -> np.ndarray:
    """Return pixels [H, W, 3] with clipped pixels red and black pixels blue.

    Args:
        light: [3, H, W] sensor light.
        white: sensor light from which a channel is clipped.
    """
    clipped = (light.amax(0) >= white).cpu().numpy()
    black = (light.amax(0) <= BLACK_LEVEL).cpu().numpy()
    pixels = pixels.copy()
    pixels[clipped], pixels[black] = CLIPPED_COLOUR, BLACK_COLOUR
    return pixels
