"""Where a view looks into space that hardly any photo saw: what is drawn around goes on there."""

from __future__ import annotations

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.geometry.camera import Camera
from adop.model.environment import Environment, push_pull
from adop.model.hole_filling import upsample
from adop.ops import Levels, Points, project

REACH = 0.25  # of the picture's longer side: as far as that from what is drawn, the environment is back
KNOWN = 0.05, 0.15  # errors, of sRGB, up to which the environment counts as known, from which on as a guess
NEAREST = 100  # photos that are asked, those taken next to the view


@torch.no_grad()
def extrapolate(
    levels: Levels,
    camera: Camera,
    photos: list[Camera],
    environment: Environment,
    views: int,
    fill_levels: int,
) -> list[tuple[Tensor, Tensor]]:
    """Return what goes on where hardly any photo looked, and how much of it shows.

    Empty pixels are taken to be as far as what is drawn around them. Where `views` photos look at that place, it is
    known to be empty, and the environment behind it shows. Elsewhere a surface may as well go on past the edges of
    the photos, and what is around says more than an environment that other photos saw past that surface; unless it is
    one that photos foretell each other well, such as a far sky. What this asks of space is the reverse of space
    carving (Kutulakos and Seitz 2000); colours spread by push and pull.

    Args:
        levels: of one view, B = 1.
        camera: the view.
        photos: the cameras of the trained photos next to the view, those of one model and size at a time.
        environment: what shows in empty pixels.
        views: so many photos must look at a place; of few photos a quarter.
        fill_levels: levels that fill holes; it is decided on the pixels of the next one.

    Returns: per level features [1, C, H_l, W_l] and the share [1, 1, H_l, W_l] with which they replace the
        environment's in empty pixels; nothing where every place is known or nothing is drawn.
    """
    grid = min(fill_levels, len(levels.weight) - 1)
    if grid == 0:
        return []
    drawn = levels.weight[grid] > 0
    hole = F.max_pool2d((levels.weight[grid - 1] <= 0).float(), 2, ceil_mode=True) > 0
    if not bool(hole.any()) or not bool(drawn.any()):
        return []
    depth = _spread(torch.where(drawn, levels.depth[grid], 1.0).log(), drawn).exp()
    where = torch.nonzero(hole[0, 0])
    places = camera.unproject((where.flip(1)[None] + 0.5) * 2**grid, depth[hole][None])[0]
    unseen, views = torch.zeros_like(hole), min(views, max(1, sum(map(len, photos)) // 4))
    unseen[hole] = _count_looks(places, photos) < views
    if not bool(unseen.any()):
        return []
    features = _spread(levels.features[grid], drawn | ~unseen)
    low, high = KNOWN
    doubt = ((environment.error_along(camera.rays(grid)) - low) / (high - low)).clamp(0, 1)
    share = unseen * _nearness(drawn) * doubt
    around = [(features, share)]
    for image in reversed(levels.weight[:grid]):
        around.insert(0, (upsample(around[0][0], image), upsample(around[0][1], image)))
    for _ in levels.weight[grid + 1 :]:
        features, share = (
            F.avg_pool2d(part, 2, ceil_mode=True, count_include_pad=False) for part in around[-1]
        )
        around.append((features, share))
    return around


def composite_extrapolation(levels: Levels, around: list[tuple[Tensor, Tensor]]) -> Levels:
    """Return the levels with what `extrapolate` found in their empty pixels."""
    parts = zip(levels.features, levels.weight, around, strict=True)
    images = [torch.where(weight > 0, image, image.lerp(*other)) for image, weight, other in parts]
    return replace(levels, features=images)


def _count_looks(places: Tensor, photos: list[Camera]) -> Tensor:
    """Return [M], how many photos have places [M, 3] in their picture."""
    points, looks = Points(places, torch.ones_like(places[:, 0])), torch.zeros_like(places[:, 0])
    for cameras in photos:
        looks += project(cameras, points, near=1e-9).visible.sum(0)
    return looks


def _spread(image: Tensor, known: Tensor) -> Tensor:
    """Return [1, C, H, W] filled from its known pixels [1, 1, H, W]."""
    height, width = image.shape[2:]
    more = [0, (1 << (width - 1).bit_length()) - width, 0, (1 << (height - 1).bit_length()) - height]
    counts = F.pad(known.to(image.dtype), more)
    filled = push_pull(F.pad(image, more) * counts, counts, image.new_zeros(image.shape[1]))
    return filled[:, :, :height, :width]


def _nearness(drawn: Tensor) -> Tensor:
    """Return 1 up to half the reach from what is drawn [1, 1, H, W], falling to 0 at the reach."""
    image, longer = drawn.float(), max(drawn.shape[2:])
    grown, blurred = (2 * round(share * REACH * longer) + 1 for share in (0.75, 0.25))
    for size in ((grown, 1), (1, grown)):
        image = F.max_pool2d(image, size, 1, (size[0] // 2, size[1] // 2))
    for size in ((blurred, 1), (1, blurred)):
        image = F.avg_pool2d(image, size, 1, (size[0] // 2, size[1] // 2), count_include_pad=False)
    return image
