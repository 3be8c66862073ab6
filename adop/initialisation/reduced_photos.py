"""Reduced photos with the depth of the points in them: the input of plane-sweep stereo and photo-consistency."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.geometry.camera import Camera
from adop.initialisation.photometry import clipping, photo_radiance
from adop.model.environment import push_pull
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE
from adop.ops import Backend, Points, project
from adop.scene.photo_cache import PhotoCache

LOG_OFFSET = 0.02  # radiance added before a logarithm: noise dominates the logarithm of darker pixels
MIN_MASK = 0.99  # fraction of a reduced pixel that the mask must keep
NEAR = 1e-9  # nearest depth of a visible point, scene units
# Penalty on a neighbour's distance, per unit of 1 - cos of the angle between the viewing directions.
ROTATION_PENALTY = 2.0


@dataclass(frozen=True)
class ReducedPhoto:
    """A photo at reduced size, as radiance, and the depth of the points in it."""

    camera: Camera  # B = 1
    log_radiance: Tensor  # [1, 3, h, w]
    mask: Tensor  # [1, 1, h, w] fraction of each pixel that the photo's mask keeps
    clipped: Tensor  # [1, 1, h, w] bool
    depth: Tensor  # [1, 1, h, w] of the nearest point, scene units; +inf where there is none
    backend: Backend = "auto"  # projects points into the photo

    def size(self) -> tuple[int, int]:
        """Return height and width."""
        return self.camera.height, self.camera.width

    def inside_mask(self) -> Tensor:
        """Return [1, 1, h, w] bool, the pixels that the photo's mask keeps."""
        return self.mask > MIN_MASK

    def measured(self) -> Tensor:
        """Return [1, 1, h, w] bool, the pixels whose radiance the photo measures: inside the mask and not clipped."""
        return self.inside_mask() & ~self.clipped

    def has_point(self) -> Tensor:
        """Return [1, 1, h, w] bool, the pixels inside the mask that a point is drawn to."""
        return torch.isfinite(self.depth) & self.inside_mask()

    def holes(self, fill_levels: int) -> Tensor:
        """Return [1, 1, h, w] bool, the pixels of holes too wide to be filled from `fill_levels` pyramid levels."""
        reach = max(1, math.ceil(float(self.camera.crop[0, 0]) * 2 ** (fill_levels - 1)))
        near_point = F.max_pool2d(torch.isfinite(self.depth).float(), 2 * reach + 1, stride=1, padding=reach)
        return (near_point == 0) & self.inside_mask()

    def filled_inverse_depth(self) -> Tensor:
        """Return [1, 1, h, w] inverse depth, filled by push-pull where no point is; 0 if there are no points at all."""
        has_point = self.has_point()
        inverse = torch.where(has_point, 1 / self.depth, 0.0)
        height, width = self.size()
        pad = (0, -width % 64, 0, -height % 64)
        filled = push_pull(F.pad(inverse, pad), F.pad(has_point.float(), pad), inverse.new_zeros(1))
        return filled[..., :height, :width]

    def rays(self) -> Tensor:
        """Return [h * w, 3], the vectors from the camera centre to depth 1 in each pixel, world axes, scene units."""
        height, width = self.size()
        v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
        uv = torch.stack((u, v), dim=-1).reshape(1, -1, 2).to(self.depth)
        return self.camera.unproject(uv, torch.ones_like(uv[..., 0]))[0] - self.camera.centre()

    def project(self, xyz: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return uv [M, 2], z [M] of world points [M, 3], and whether they lie inside the image, [M] bool."""
        points = Points(xyz, torch.ones_like(xyz[:, 0]))
        projection = project(self.camera, points, near=NEAR, backend=self.backend)
        return projection.uv[0], projection.z[0], projection.visible[0]

    def nearest_pixel(self, uv: Tensor) -> tuple[Tensor, Tensor]:
        """Return rows and columns [M] of the pixels of the image nearest to positions [M, 2]."""
        height, width = self.size()
        column, row = uv.nan_to_num(0).clamp(-1, 1 + max(width, height)).long().unbind(1)
        return row.clamp(0, height - 1), column.clamp(0, width - 1)

    def halved(self) -> ReducedPhoto:
        """Return the photo at half its size; the depth of a pixel is the least of those that it replaces."""
        camera = self.camera.scaled(0.5)
        size = (camera.height, camera.width)
        radiance, mask, clipped = (
            F.interpolate(part, size=size, mode="area")
            for part in (self.log_radiance.exp(), self.mask, self.clipped.float())
        )
        log_radiance = radiance.clamp_min(MIN_RADIANCE).log()
        inverse_depth = F.adaptive_max_pool2d(1 / self.depth, size)
        return ReducedPhoto(camera, log_radiance, mask, clipped > 0.25, 1 / inverse_depth, self.backend)


def offset_log(log_radiance: Tensor) -> Tensor:
    """Return the logarithm of radiance plus `LOG_OFFSET`, in which noise in dark pixels is small."""
    return (log_radiance.exp() + LOG_OFFSET).log()


def sample_image(image: Tensor, uv: Tensor) -> Tensor:
    """Return the values [C, M] of an image [1, C, h, w] at positions [M, 2], bilinear; outside, those of its border."""
    size = uv.new_tensor([image.shape[3], image.shape[2]])
    grid = (2 * uv / size - 1).nan_to_num(5.0)[None, None]
    return F.grid_sample(image, grid, padding_mode="border", align_corners=False)[0, :, 0]


def spread_photos(photos: list[int], most: int) -> list[int]:
    """Return at most `most` of the photos, spread evenly over the capture."""
    return photos[:: max(1, -(-len(photos) // most))]


def spread_indices(total: int, count: int, device: torch.device) -> Tensor:
    """Return `count` rising indices below `total`, spread evenly."""
    return torch.arange(count, device=device) * total // count


def nearest_photos(reduced: dict[int, ReducedPhoto], photo: int, count: int) -> list[int]:
    """Return the photos whose cameras are nearest, with a penalty on those that are turned away."""
    camera = reduced[photo].camera
    forward = camera.world_to_camera[0, 2, :3]
    scores = []
    for other, view in reduced.items():
        if other == photo:
            continue
        turn = 1 - float(view.camera.world_to_camera[0, 2, :3] @ forward)
        distance = float((view.camera.centre() - camera.centre()).norm())
        scores.append((distance * (1 + ROTATION_PENALTY * turn), other))
    return [other for _, other in sorted(scores)[:count]]


@torch.no_grad()
def reduce_photos(
    pipeline: Pipeline, cache: PhotoCache, photos: list[int], longest_side: int
) -> dict[int, ReducedPhoto]:
    """Return the photos by index, their longer side at most `longest_side` pixels, with the depth of the points."""
    return {photo: _reduce_photo(pipeline, cache, photo, longest_side) for photo in photos}


def _reduce_photo(pipeline: Pipeline, cache: PhotoCache, photo: int, longest_side: int) -> ReducedPhoto:
    index, device = torch.tensor([photo]), pipeline.device
    whole = pipeline.camera(index)
    camera = whole.scaled(min(1.0, longest_side / max(whole.width, whole.height)))
    value, mask = resized_photo(cache, photo, camera, device)
    position = pipeline.cameras.photo_position(camera, index)[0]
    radiance = photo_radiance(pipeline, photo, value[0], position)[None]
    return ReducedPhoto(
        camera=camera,
        log_radiance=radiance.clamp_min(MIN_RADIANCE).log(),
        mask=mask,
        clipped=clipping(value) > 0.5,
        depth=_point_depth(pipeline, camera),
        backend=pipeline.backend,
    )


def resized_photo(
    cache: PhotoCache, photo: int, camera: Camera, device: torch.device
) -> tuple[Tensor, Tensor]:
    """Return a photo [1, 3, h, w] in [0, 1] at a camera's size, and which fraction [1, 1, h, w] its mask keeps."""
    size, value = (camera.height, camera.width), cache.image(photo, device)
    value = F.interpolate(value, size=size, mode="bilinear", antialias=True, align_corners=False).clamp(0, 1)
    mask = cache.mask(photo)
    if mask is None:
        return value, torch.ones_like(value[:, :1])
    return value, F.interpolate(mask[None, None].float().to(device), size=size, mode="area")


@torch.no_grad()
def update_depth(pipeline: Pipeline, photos: dict[int, ReducedPhoto]) -> dict[int, ReducedPhoto]:
    """Return the photos with the depth of the pipeline's present points."""
    return {
        index: replace(photo, depth=_point_depth(pipeline, photo.camera)) for index, photo in photos.items()
    }


def _point_depth(pipeline: Pipeline, camera: Camera) -> Tensor:
    """Return [1, 1, H, W] depth of the nearest point of any radius, scene units; +inf where there is none."""
    features = torch.zeros(len(pipeline.points), 1, device=pipeline.device)
    levels = pipeline.draw(camera, features, replace(pipeline.raster, levels=1, radius_threshold=0.0))
    return torch.where(levels.weight[0] > 0, levels.depth[0], torch.inf)
