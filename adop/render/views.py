"""New views of a scene: radiance, photo and depth of any camera."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from adop.geometry.camera import Camera
from adop.images.writers import to_uint8
from adop.model.cameras import ViewInfo
from adop.model.environment import pixel_angle
from adop.model.pipeline import Pipeline
from adop.render.camera_settings import CameraSettings, develop


@dataclass(frozen=True)
class View:
    """What one camera sees."""

    radiance: Tensor  # [3, H, W] linear light in the scene's unit of brightness
    image: Tensor  # [3, H, W] in [0, 1], developed by the camera
    depth: Tensor  # [H, W] depth in scene units (adop.geometry.lens_model), holes filled; +inf: environment
    panorama: bool = False  # whether it shows all directions, equirectangular (adop.render.projection)

    def cpu(self) -> View:
        """Return the view on the CPU."""
        return replace(self, radiance=self.radiance.cpu(), image=self.image.cpu(), depth=self.depth.cpu())


@dataclass(frozen=True)
class ViewArrays:
    """What B cameras see, as numpy arrays."""

    radiance: np.ndarray  # [B, H, W, 3] float32, linear light
    image: np.ndarray  # [B, H, W, 3] uint8
    depth: np.ndarray  # [B, H, W] float32, depth in scene units; +inf where the environment shows
    mask: np.ndarray  # [B, H, W] bool, True where points cover the image


@dataclass(frozen=True)
class Views:
    """What B cameras of one size see; `views[b]` is the view of one camera."""

    radiance: Tensor  # [B, 3, H, W] linear light in the scene's unit of brightness
    image: Tensor  # [B, 3, H, W] in [0, 1], developed by the camera
    # [B, H, W] depth in scene units (adop.geometry.lens_model), holes filled; +inf: environment.
    depth: Tensor

    @property
    def mask(self) -> Tensor:
        """[B, H, W] bool, True where points cover the image and False where it shows the environment."""
        return torch.isfinite(self.depth)

    def __len__(self) -> int:
        """Return B."""
        return len(self.image)

    def __getitem__(self, index: int) -> View:
        """Return the view of one camera."""
        return View(self.radiance[index], self.image[index], self.depth[index])

    def numpy(self) -> ViewArrays:
        """Return the views as numpy arrays on the CPU, the images with 8 bits."""
        return ViewArrays(
            self.radiance.permute(0, 2, 3, 1).cpu().numpy(),
            np.stack([to_uint8(image) for image in self.image]),
            self.depth.cpu().numpy(),
            self.mask.cpu().numpy(),
        )


@torch.no_grad()
def render_views(
    pipeline: Pipeline,
    camera: Camera,
    settings: CameraSettings | None = None,
    lenses: list[int] | None = None,
) -> Views:
    """Render B cameras of one size.

    Each view is rendered by itself, so its pixels do not depend on the other cameras of the batch.

    Args:
        settings: how the views are developed; None: at the mean exposure of the training photos.
        lenses: [B] the scene's lens that each camera has, so that its cached rays are used; None: unknown.
    """
    settings = settings or CameraSettings()
    camera = camera.to(pipeline.device)
    views = []
    for index in range(len(camera)):
        view = camera[index]
        view_info = None if lenses is None else ViewInfo((lenses[index],), pixel_angle(view))
        rendered = pipeline.new_view(view, view_info)
        image = develop(pipeline.tonemapper, rendered.image, settings)
        views.append((rendered.image, image, pipeline.depth(rendered)[:, 0]))
    return Views(*(torch.cat(parts) for parts in zip(*views, strict=True)))


@torch.no_grad()
def render_photo_view(pipeline: Pipeline, photo: int, width: int | None = None) -> View:
    """Render the view of a photo's camera, with the exposure, white balance, vignette and response of the photo.

    Args: width: of the image in pixels; None: the photo's. The height keeps the photo's proportions.
    """
    index = torch.tensor([photo])
    camera = pipeline.camera(index)
    zoom = 1.0 if width is None else width / camera.width
    camera = camera.scaled(zoom)
    view_info = pipeline.cameras.view_info([photo], [zoom], trained=False)
    rendered = pipeline.new_view(camera, view_info)
    image = pipeline.photo(rendered.image, camera, index)
    return View(rendered.image[0], image[0].clamp(0, 1), pipeline.depth(rendered)[0, 0])
