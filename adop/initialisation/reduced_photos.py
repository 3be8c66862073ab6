"""Photos, reduced, with the points' depth in them: what new points are looked for in."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.geometry.camera import Camera
from adop.initialisation.photometry import clipped_share, radiance_behind
from adop.model.environment import push_pull
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE
from adop.ops import Points, draw, project
from adop.scene.photo_cache import PhotoCache

DIM = 0.02  # radiance below which differences count less and less: in the dark their logarithms are noise


@dataclass(frozen=True)
class ReducedPhoto:
    """A photo, reduced, with the depth of the points in it."""

    camera: Camera
    log_radiance: Tensor  # [1, 3, h, w]
    trust: Tensor  # [1, 1, h, w] 0 where the mask says so
    clipped: Tensor  # [1, 1, h, w] bool
    depth: Tensor  # [1, 1, h, w] nearest point, +inf where none

    def size(self) -> tuple[int, int]:
        """Return the height and width."""
        return self.camera.height, self.camera.width

    def reliable(self) -> Tensor:
        """Return [1, 1, h, w] bool, where the photo shows the scene and measures it."""
        return (self.trust > 0.99) & ~self.clipped

    def known(self) -> Tensor:
        """Return [1, 1, h, w] bool, where a point shows the scene's depth."""
        return torch.isfinite(self.depth) & (self.trust > 0.99)

    def hole(self, fill_levels: int) -> Tensor:
        """Return [1, 1, h, w] bool, what is too wide for coarser levels to fill: there the environment would show."""
        reach = max(1, math.ceil(float(self.camera.crop[0, 0]) * 2 ** (fill_levels - 1)))
        near = F.max_pool2d(torch.isfinite(self.depth).float(), 2 * reach + 1, stride=1, padding=reach)
        return (near == 0) & (self.trust > 0.99)

    def inverse_depth_around(self) -> Tensor:
        """Return [1, 1, h, w] one over the depth, where no point is continued from around; 0 without any points."""
        known = self.known()
        inverse = torch.where(known, 1 / self.depth, 0.0)
        height, width = self.size()
        pad = (0, -width % 64, 0, -height % 64)
        filled = push_pull(F.pad(inverse, pad), F.pad(known.float(), pad), inverse.new_zeros(1))
        return filled[..., :height, :width]

    def rays(self) -> Tensor:
        """Return [h * w, 3] what leads from the camera's centre to depth 1 in each pixel, scene units."""
        height, width = self.size()
        v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        uv = torch.stack((u, v), dim=-1).reshape(1, -1, 2).to(self.depth)
        return self.camera.unproject(uv, torch.ones_like(uv[..., 0]))[0] - self.camera.centre()

    def halved(self) -> ReducedPhoto:
        """Return the view at half its size; its depth is the nearest of those it stands for."""
        camera = self.camera.scaled(0.5)
        size = (camera.height, camera.width)
        radiance, trust, clipped = (
            F.interpolate(part, size=size, mode="area")
            for part in (self.log_radiance.exp(), self.trust, self.clipped.float())
        )
        nearness = F.adaptive_max_pool2d(1 / self.depth, size)
        return ReducedPhoto(
            camera, radiance.clamp_min(MIN_RADIANCE).log(), trust, clipped > 0.25, 1 / nearness
        )


def dimmed(log_radiance: Tensor) -> Tensor:
    """Return the logarithm of radiance in which noise in the dark is small."""
    return (log_radiance.exp() + DIM).log()


def see(camera: Camera, xyz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return uv [M, 2], z [M] of world points [M, 3] and whether the camera has them in its picture."""
    projection = project(camera, Points(xyz, torch.ones_like(xyz[:, 0])), near=1e-9)
    return projection.uv[0], projection.z[0], projection.visible[0]


def pixel_of(view: ReducedPhoto, uv: Tensor) -> tuple[Tensor, Tensor]:
    """Return the rows and columns [M] of places [M, 2], the nearest in the picture."""
    height, width = view.size()
    column, row = uv.nan_to_num(0).clamp(-1, 1 + max(width, height)).long().unbind(1)
    return row.clamp(0, height - 1), column.clamp(0, width - 1)


def sample_image(image: Tensor, uv: Tensor) -> Tensor:
    """Return [C, M] what a picture [1, C, h, w] shows at places [M, 2], between its pixels; beyond it, its border."""
    size = uv.new_tensor([image.shape[3], image.shape[2]])
    grid = (2 * uv / size - 1).nan_to_num(5.0)[None, None]
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0, :, 0]


@torch.no_grad()
def reduce_photos(
    pipeline: Pipeline, cache: PhotoCache, photos: list[int], side: int
) -> dict[int, ReducedPhoto]:
    """Return the photos with their longer side of at most `side` pixels, and the points' depth in them."""
    return {photo: _reduce_photo(pipeline, cache, photo, side) for photo in photos}


def _reduce_photo(pipeline: Pipeline, cache: PhotoCache, photo: int, side: int) -> ReducedPhoto:
    index = torch.tensor([photo])
    whole = pipeline.camera(index)
    camera = whole.scaled(min(1.0, side / max(whole.width, whole.height)))
    device = pipeline.device
    value = cache.image(photo, device)
    size = (camera.height, camera.width)
    value = F.interpolate(value, size=size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    radiance = radiance_behind(pipeline, photo, value[0], pipeline.cameras.photo_position(camera, index)[0])[
        None
    ]
    trust = torch.ones_like(value[:, :1])
    mask = cache.mask(photo)
    if mask is not None:
        trust = F.interpolate(mask[None, None].float().to(device), size=size, mode="area")
    depth = _depth(pipeline, camera)
    return ReducedPhoto(
        camera, radiance.clamp_min(MIN_RADIANCE).log(), trust, clipped_share(value) > 0.5, depth
    )


def _depth(pipeline: Pipeline, camera: Camera) -> Tensor:
    nothing = torch.zeros(len(pipeline.points.xyz), 1, device=pipeline.device)
    raster = replace(pipeline.raster, levels=1, radius_threshold=0.0)
    backend = pipeline.config.backend
    levels = draw(camera, pipeline.points(), nothing, raster, nothing.new_zeros(1), backend=backend)
    return torch.where(levels.weight[0] > 0, levels.depth[0], torch.inf)


@torch.no_grad()
def with_depth(pipeline: Pipeline, views: dict[int, ReducedPhoto]) -> dict[int, ReducedPhoto]:
    """Return the views with the depth of the points as they are now."""
    return {photo: replace(view, depth=_depth(pipeline, view.camera)) for photo, view in views.items()}
