"""Extrapolation of new views: where no photo has looked, the drawn surfaces continue instead of the environment."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.geometry.camera import Camera
from adop.model.environment import Environment
from adop.model.hole_filling import upsample
from adop.ops import Backend, Levels, Points, project

REACH = 0.25  # of the image's longer side: how far surfaces continue beyond what is drawn
# In sRGB: up to the first the environment is trusted, from the second not.
TRUSTED_ERROR, REJECTED_ERROR = 0.03, 0.08
FALLING = 3  # power of the distance with which the pixels that a surface continues from count less
NEAREST = 100  # photos nearest to the view that are tested for visibility

# What continues on each level of a view: features [1, C, H_l, W_l] and the share [1, 1, H_l, W_l] by which they show in
# empty pixels; empty where nothing does.
Continued = list[tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Extrapolation:
    """When and where surfaces continue."""

    # Photos that must see a place for it to count as empty; at most a quarter of the tested photos is required.
    least_views: int
    # Levels whose holes are filled; the decision is made on the pixels of the next coarser one.
    fill_levels: int
    backend: Backend = "auto"


@torch.no_grad()
def extrapolate(
    levels: Levels,
    camera: Camera,
    photos: list[Camera],
    environment: Environment,
    settings: Extrapolation,
) -> Continued:
    """Return what continues into space that hardly any photo saw, and how much of it shows.

    Empty pixels are assumed to be as far away as what is drawn around them. If at least `settings.least_views` photos
    have that place in their picture, it is known to be empty, and the environment shows. Otherwise a surface may well
    continue beyond the edges of the photos, and the colours around the pixel say more than an environment that was
    seen past that surface, unless the photos predict each other's environment well there, as with a distant sky.
    This is space carving in reverse (Kutulakos and Seitz 2000).

    Args:
        levels: the pyramid of one view, B = 1.
        camera: the view.
        photos: cameras of the trained photos nearest to the view, one batch for each lens model and size.
        environment: what shows in empty pixels.

    Returns: see `Continued`; on a CPU, empty where every place is known or nothing is drawn.
    """
    grid = min(settings.fill_levels, len(levels.weight) - 1)
    if grid == 0:
        return []
    drawn = levels.weight[grid] > 0
    hole = F.max_pool2d((levels.weight[grid - 1] <= 0).float(), 2, ceil_mode=True) > 0
    if _is_empty(hole) or _is_empty(drawn):
        return []
    depth = _spread(torch.where(drawn, levels.depth[grid], 1.0).log(), drawn).exp()
    places = camera.unproject(camera.pixel_centres(grid), depth.flatten(1))[0]
    least_views = min(settings.least_views, max(1, sum(map(len, photos)) // 4))
    seen = _count_views(places, photos, settings.backend).reshape(hole.shape)
    unknown = hole & (seen < least_views)
    if _is_empty(unknown):
        return []
    rays = F.normalize(places - camera.centre(), dim=1).T.reshape(1, 3, *hole.shape[2:])
    error = environment.error_along(rays)
    doubt = ((error - TRUSTED_ERROR) / (REJECTED_ERROR - TRUSTED_ERROR)).clamp(0, 1)
    share = unknown * _nearness(drawn) * doubt
    if _is_empty(share):
        return []
    features = _spread(levels.features[grid], drawn | ~unknown)
    continued = [(features, share)]
    for image in reversed(levels.weight[:grid]):
        features, share = continued[0]
        continued.insert(0, (upsample(features, image), upsample(share, image)))
    for _ in levels.weight[grid + 1 :]:
        features, share = (
            F.avg_pool2d(part, 2, ceil_mode=True, count_include_pad=False) for part in continued[-1]
        )
        continued.append((features, share))
    return continued


def composite_extrapolation(levels: Levels, continued: Continued) -> Levels:
    """Return the levels with what `extrapolate` found in their empty pixels."""
    parts = zip(levels.features, levels.weight, continued, strict=True)
    images = [torch.where(weight > 0, image, image.lerp(*other)) for image, weight, other in parts]
    return replace(levels, features=images)


def _is_empty(mask: Tensor) -> bool:
    """Return whether a mask is zero everywhere; on a GPU, which would have to be waited for, that is not asked."""
    return mask.device.type == "cpu" and not bool(mask.any())


def _count_views(places: Tensor, photos: list[Camera], backend: Backend) -> Tensor:
    """Return [M], how many photos have places [M, 3] in their picture."""
    points, views = Points(places, torch.ones_like(places[:, 0])), torch.zeros_like(places[:, 0])
    for cameras in photos:
        views += project(cameras, points, 1e-9, backend).visible.sum(0)
    return views


def _spread(image: Tensor, known: Tensor) -> Tensor:
    """Return [1, C, H, W] known at the pixels [1, 1, H, W], and elsewhere a mean of the edge of what is known.

    Its pixels count by one over their distance to the power of `FALLING`, so that a trunk goes on as a trunk beside what
    is left and right of it. A sum of Gaussians, each twice as wide as the one before, stands for that power: they are
    applied along columns and rows one after the other.

    Source: interpolation by inverse distances (Shepard 1968).
    """
    edge = known * F.max_pool2d((~known).to(image.dtype), 3, 1, 1)
    counted = torch.cat((image * edge, edge), 1)
    along_columns, along_rows = (_squared_distances(size, image) for size in image.shape[2:])
    total = torch.zeros_like(counted)
    for width in (2.0**octave for octave in range(-1, max(image.shape[2:]).bit_length())):
        blurred = (-along_columns / (2 * width**2)).exp() @ counted @ (-along_rows / (2 * width**2)).exp()
        total += blurred / width**FALLING
    mean = total[:, :-1] / total[:, -1:].clamp_min(torch.finfo(image.dtype).tiny)
    return torch.where(known, image, mean)


def _squared_distances(size: int, like: Tensor) -> Tensor:
    """Return [size, size], the squared distances between the pixels of a row or column."""
    position = torch.arange(size, device=like.device, dtype=like.dtype)
    return (position[:, None] - position) ** 2


def _nearness(drawn: Tensor) -> Tensor:
    """Return 1 up to half the reach from what is drawn [1, 1, H, W], falling to 0 at the reach."""
    image, longer = drawn.float(), max(drawn.shape[2:])
    grown, blurred = (2 * round(share * REACH * longer) + 1 for share in (0.75, 0.25))
    for size in ((grown, 1), (1, grown)):
        image = F.max_pool2d(image, size, 1, (size[0] // 2, size[1] // 2))
    for size in ((blurred, 1), (1, blurred)):
        image = F.avg_pool2d(image, size, 1, (size[0] // 2, size[1] // 2), count_include_pad=False)
    return image
