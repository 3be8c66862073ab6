"""The photos that refinement compares with the scene, and the scene rendered from their cameras."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adop.geometry.camera import Camera
from adop.model.hole_filling import filled_depth
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE
from adop.scene.photo_cache import PhotoCache

MEASURED_PHOTOS = 8  # photos that `pixel_size` averages over
FINEST_SIDE_PX = 1000  # longer side of the largest photo that points are compared with


@dataclass(frozen=True)
class PhotoSet:
    """Some photos of a scene, their pixels, and the pipeline whose cameras and points are refined with them."""

    pipeline: Pipeline
    cache: PhotoCache
    indices: list[int]  # of the scene's photos

    def reduced(self, photo: int, scale: int) -> tuple[Tensor, Tensor]:
        """Return a photo [1, 3, h, w] in [0, 1] and its mask [1, 1, h, w], each 1/scale as large, on the device."""
        return self.cache.reduced(photo, scale, self.pipeline.device)


@dataclass(frozen=True)
class Rendering:
    """The scene as one photo's camera would take it."""

    image: Tensor  # [1, 3, H, W] in [0, 1], with the photo's exposure and response
    depth: Tensor  # [1, 1, H, W] scene units, holes filled; +inf where there are no points


# Takes the pipeline, a camera and the photo's index [1]: `render_points` or `render_network`.
Renderer = Callable[[Pipeline, Camera, Tensor], Rendering]


def render_points(pipeline: Pipeline, camera: Camera, photo: Tensor) -> Rendering:
    """Render the points in their own colours and fill the holes, without network and environment."""
    raster = replace(pipeline.raster, levels=pipeline.fill_levels)
    levels = pipeline.draw(camera, pipeline.points.features[:, :3], raster)
    background = [torch.full_like(image, MIN_RADIANCE) for image in levels.features]
    filled = pipeline.fill_holes(levels, background)
    image = pipeline.photo(filled.colours[0], camera, photo)
    return Rendering(image.clamp(0, 1), filled_depth(levels, filled, pipeline.fill_levels))


def render_network(pipeline: Pipeline, camera: Camera, photo: Tensor) -> Rendering:
    """Render the scene with the network and the environment."""
    rendered = pipeline.render(camera, own=photo.tolist())
    image = pipeline.photo(rendered.image, camera, photo)
    return Rendering(image.clamp(0, 1), pipeline.depth(rendered))


def photo_distance(pipeline: Pipeline, photo: int) -> float:
    """Return the median depth of the points that a photo sees, in scene units."""
    depth = render_points(pipeline, pipeline.camera(torch.tensor([photo])), torch.tensor([photo])).depth
    finite = depth[torch.isfinite(depth)]
    return float(finite.median()) if len(finite) else pipeline.points.extent


@torch.no_grad()
def pixel_size(pipeline: Pipeline, photos: list[int]) -> float:
    """Return the width of a photo's pixel at its median depth, in scene units; the median of a few photos."""
    sizes = []
    for photo in photos[:: max(1, len(photos) // MEASURED_PHOTOS)]:
        focal = pipeline.cameras.focal_length(pipeline.cameras.lens_of[photo])
        sizes.append(photo_distance(pipeline, photo) / focal)
    return sorted(sizes)[len(sizes) // 2]


def finest_scale(pipeline: Pipeline) -> int:
    """Return the integer factor that reduces the largest photos to about `FINEST_SIDE_PX`."""
    return max(1, round(max(max(size) for size in pipeline.cameras.lens_size) / FINEST_SIDE_PX))
