"""The difference between a rendered view and the photo taken nearest to it, pixel by pixel."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adop.evaluation.report import error_picture
from adop.geometry.camera import Camera
from adop.model.views.view import Radiance
from adop.ops import Points
from adop.run.run import Run
from adop.scene.scene import Scene

OCCLUDED_DEPTH = 0.03  # relative depth behind the photo's surface from which the photo does not see a point
UNKNOWN_COLOUR = (34, 36, 44)  # of pixels that the photo does not see
FAR = 1e30  # scene units; stands for infinite depth where infinity cannot be interpolated
LARGE_RADIUS = 1e6  # scene units; a point of this radius is visible at any distance


def photo_error(run: Run, camera: Camera, radiance: Radiance) -> tuple[np.ndarray, str]:
    """Return [H, W, 3] uint8, the error of a view (B = 1) against the nearest photo, and which photo that is.

    Each pixel is compared with the pixel of the photo that shows the same surface point.
    """
    pipeline = run.pipeline
    photo = nearest_photo(run.scene, camera.world_to_camera[0].double().cpu().numpy())
    index = torch.tensor([photo])
    photo_camera = pipeline.camera(index)
    uv, z = _reproject(run, camera, photo_camera, pipeline.depth(radiance)[:, 0])
    photo_depth = pipeline.surfaces(photo_camera)
    size = torch.tensor([photo_camera.width, photo_camera.height], device=uv.device)
    grid = 2 * uv / size - 1
    surface = F.grid_sample(photo_depth.nan_to_num(posinf=FAR), grid, mode="nearest", align_corners=False)[
        :, 0
    ]
    image = F.grid_sample(run.cache.image(photo, uv.device), grid, padding_mode="border", align_corners=False)
    seen = (grid.abs() < 1).all(-1) & (z > 0) & (z < surface * (1 + OCCLUDED_DEPTH))
    position = ((uv - size / 2) / (size.float().norm() / 2)).permute(0, 3, 1, 2)
    photometry = pipeline.tonemapper.photometry(index)
    render = pipeline.tonemapper(radiance.image, photometry, position, pipeline.cameras.photo_lens[index])
    pixels = error_picture(render[0], image[0])
    pixels[~seen[0].cpu().numpy()] = UNKNOWN_COLOUR
    return pixels, f"compared with {run.scene.photos[photo].name}"


def nearest_photo(scene: Scene, world_to_camera: np.ndarray) -> int:
    """Return the index of the photo whose position and viewing direction are most like those of a camera [4, 4]."""
    poses = np.stack([photo.world_to_camera for photo in scene.photos])
    centres = np.linalg.inv(poses)[:, :3, 3]
    centre = np.linalg.inv(world_to_camera)[:3, 3]
    distance = np.linalg.norm(centres - centre, axis=1)
    scale = max(float(np.median(np.linalg.norm(centres - centres.mean(0), axis=1))), 1e-9)
    cosine = poses[:, 2, :3] @ world_to_camera[2, :3]
    return int(np.argmin(distance / scale + 2 * (1 - cosine)))


def _reproject(run: Run, camera: Camera, other: Camera, depth: Tensor) -> tuple[Tensor, Tensor]:
    """Return where another camera sees the surface of each pixel.

    Args: depth: [1, H, W] camera z of each pixel; +inf: no surface.
    Returns: uv [1, H, W, 2] in pixels, and camera z [1, H, W] there; 0 where the other camera does not see it.
    """
    height, width = depth.shape[1:]
    y = torch.arange(height, device=depth.device) + 0.5
    x = torch.arange(width, device=depth.device) + 0.5
    uv = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(1, -1, 2)
    flat = depth.reshape(1, -1)
    world = camera.unproject(uv, flat.nan_to_num(posinf=0.0))[0].float().contiguous()
    radius = torch.full((len(world),), LARGE_RADIUS, device=world.device)
    projection = run.pipeline.project(other, Points(world, radius, None, None))
    visible = projection.visible & torch.isfinite(flat)
    z = torch.where(visible, projection.z, 0.0).reshape(1, height, width)
    return projection.uv.reshape(1, height, width, 2).nan_to_num(), z
