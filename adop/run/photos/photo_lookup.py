"""The trained photos of a run, made ready to be looked up from other views."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.geometry.camera import Camera
from adop.model.pipeline import Pipeline
from adop.ops import Points, project
from adop.reprojection.photo_table import SAMPLES, PhotoTable, photo_cameras
from adop.reprojection.reproject import FAR, TOLERANCE
from adop.scene.photo_cache import PhotoCache

MOST_PIXELS = 500_000_000  # of all photos together, four bytes each; more are reduced
SEED = 0  # of the points by which photos are chosen
SHARPENING = 1.0  # how much of what a blur of 3 x 3 pixels takes from a photo is added to it


@torch.no_grad()
def ready_photos(
    pipeline: Pipeline, cache: PhotoCache, photos: list[int], say: Callable[[str], None] = lambda _: None
) -> PhotoTable | None:
    """Return photos that views can look up, or None where the network neither has learned from photos nor is to.

    Those of one lens model are kept, the commonest. Cameras and points are taken as they are: after they have moved,
    call `follow_cameras`.

    Args: say: gets a sentence where photos are left out or reduced.

    Raises: UserError naming a photo that cannot be read.
    """
    if pipeline.network.photos == 0 or not photos or pipeline.moves_by_gradient():
        return None
    models = [pipeline.cameras.lens_model[pipeline.cameras.lens_of[photo]] for photo in photos]
    commonest = Counter(models).most_common(1)[0][0]
    kept = [photo for photo, model in zip(photos, models, strict=True) if model == commonest]
    scale = _reduction(pipeline, kept)
    if len(kept) < len(photos):
        say(
            f"other views look up {len(kept)} of {len(photos)} photos: those of the commonest lens model, {commonest}"
        )
    if scale > 1:
        say(
            f"other views look up the photos at 1/{scale} of their size: they have too many pixels to be kept whole"
        )
    cameras = _cameras(pipeline, kept, scale)
    device = pipeline.device
    pixels = [_pixels(cache, photo, scale, camera) for photo, camera in zip(kept, cameras, strict=True)]
    sizes = torch.tensor([[camera.width, camera.height] for camera in cameras])
    areas = torch.stack((3 * sizes.prod(1), ((sizes + 1) // 2).prod(1)), 1)
    begins = areas.cumsum(0) - areas
    lenses = torch.tensor([[pipeline.cameras.lens_of[photo]] for photo in kept])
    return _following(
        PhotoTable(
            model=commonest,
            cameras=photo_cameras(cameras),
            pixels=torch.cat([part.flatten() for part in pixels]).to(device),
            surfaces=torch.empty(int(areas[:, 1].sum()), device=device),
            places=torch.cat((begins, sizes, lenses), 1).to(device),
            samples=pipeline.points.sampled(SAMPLES, torch.Generator().manual_seed(SEED)),
            seen=torch.empty(len(kept), SAMPLES, dtype=torch.bool, device=device),
            rows={photo: row for row, photo in enumerate(kept)},
            photos=torch.tensor(kept, device=device),
        ),
        cameras,
        pipeline,
        cache,
    )


@torch.no_grad()
def follow_cameras(pipeline: Pipeline, cache: PhotoCache) -> None:
    """Look photos up from where their cameras are by now; nothing where none are looked up."""
    if pipeline.photos is not None:
        kept = list(pipeline.photos.rows)
        cameras = _cameras(pipeline, kept, _reduction(pipeline, kept))
        pipeline.photos = _following(pipeline.photos, cameras, pipeline, cache)


def _following(table: PhotoTable, cameras: list[Camera], pipeline: Pipeline, cache: PhotoCache) -> PhotoTable:
    """Return the table with its photos' present cameras, surfaces and what photos see of the points.

    They are written in place of the former ones, which CUDA graphs read, unless cameras have begun to move.
    """
    points = Points(table.samples, torch.ones_like(table.samples[:, 0]))
    for row, (photo, camera) in enumerate(zip(table.rows, cameras, strict=True)):
        surface = _surface(pipeline, cache, photo, camera)
        begin = int(table.places[row, 1])
        table.surfaces[begin : begin + surface.numel()] = surface.flatten()
        found = project(camera, points, 1e-9, pipeline.backend)
        at = (found.uv[0] / 2).long()
        depth = surface[at[:, 1].clamp_max(surface.shape[0] - 1), at[:, 0].clamp_max(surface.shape[1] - 1)]
        table.seen[row] = found.visible[0] & ((found.z[0] - depth).abs() < TOLERANCE * found.z[0])
    found_cameras = photo_cameras(cameras)
    if (table.cameras.shutter is None) != (found_cameras.shutter is None):
        return replace(table, cameras=found_cameras)
    for target, tensor in zip(table.cameras, found_cameras, strict=True):
        if target is not None and tensor is not None:
            target.copy_(tensor)
    return table


def _surface(pipeline: Pipeline, cache: PhotoCache, photo: int, camera: Camera) -> Tensor:
    """Return [ceil(h/2), ceil(w/2)] the depth that a photo's camera sees, see `PhotoTable`."""
    half = camera.cropped(0.5, 0.0, 0.0, (camera.width + 1) // 2, (camera.height + 1) // 2)
    surface = pipeline.surfaces(half)[0, 0].clamp_max(FAR)
    mask = cache.mask(photo)
    if mask is not None:
        rows, columns = surface.shape
        counts = F.adaptive_avg_pool2d(mask[None, None].float().to(surface.device), (rows, columns))
        surface = torch.where(counts[0, 0] > 0.99, surface, 0.0)
    return surface


def _reduction(pipeline: Pipeline, photos: list[int]) -> int:
    """Return the whole factor by which photos are reduced so that all of them have at most `MOST_PIXELS`."""
    sizes = [pipeline.cameras.lens_size[pipeline.cameras.lens_of[photo]] for photo in photos]
    pixels = sum(width * height for width, height in sizes)
    scale = 1
    while pixels > MOST_PIXELS * scale**2:
        scale += 1
    return scale


def _cameras(pipeline: Pipeline, photos: list[int], scale: int) -> list[Camera]:
    """Return the cameras of photos that are reduced by a factor."""
    return [pipeline.cameras.photo(photo).reduced(scale) for photo in photos]


def _pixels(cache: PhotoCache, photo: int, scale: int, camera: Camera) -> Tensor:
    """Return a photo's pixels [h, w, 3] u8, averaged over scale x scale of them, and sharpened."""
    pixels = cache.get(photo).permute(2, 0, 1).float()
    if scale > 1:
        pixels = F.avg_pool2d(pixels[None], scale)[0, :, : camera.height, : camera.width]
    return sharpened(pixels).permute(1, 2, 0).round().clamp(0, 255).to(torch.uint8)


def sharpened(pixels: Tensor) -> Tensor:
    """Return pixels [C, h, w] sharpened by about as much as views are blurred that look them up.

    Values between pixels are means of four of them, and pictures are means of several views. To sharpen a photo once
    costs views nothing, where an interpolation that blurs less would cost each of them time.
    """
    weights = pixels.new_tensor([0.25, 0.5, 0.25])
    padded = F.pad(pixels[:, None], (1, 1, 1, 1), mode="replicate")
    blurred = F.conv2d(F.conv2d(padded, weights[None, None, None]), weights[None, None, :, None])[:, 0]
    return pixels + SHARPENING * (pixels - blurred)
