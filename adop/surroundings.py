"""The environment's start: what the photos' rays that meet no point show, as finely as the photos foretell it."""

from __future__ import annotations

import dataclasses

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.environment import push_pull
from adop.ops import draw
from adop.photometry import radiance_behind, trust_in
from adop.photos import PhotoCache
from adop.pipeline import DARKEST, Pipeline
from adop.tonemap import srgb_encode

ROWS = (8, 16, 32, 64, 128, 256)  # sizes of the map that are tried
FOLDS = 8  # groups of photos, each foretold from the others


@torch.no_grad()
def fill_environment(pipeline: Pipeline, cache: PhotoCache, photos: list[int]) -> float:
    """Start the environment from the photos' rays that meet no point; return their share of all rays.

    Without a configured height the map is made as fine as is best for foretelling photos from other photos.
    """
    environment = pipeline.environment
    if not environment.fixed:
        environment.resize(ROWS[-1])
    total, count, share = _gather_rays(pipeline, cache, photos)
    mean = pipeline.features[:, :3].mean(0).cpu()
    if not environment.fixed:
        environment.resize(choose_rows(total, count, mean))
    shrink = total.shape[2] // environment.map.shape[2]
    environment.fill(_pool(total.sum(0), shrink), _pool(count.sum(0), shrink), mean)
    return share


def choose_rows(total: Tensor, count: Tensor, otherwise: Tensor) -> int:
    """Return the number of rows with which groups of photos foretell each other's rays best; of equals the least.

    What lies behind is hardly ever endlessly far: where it is near, photos from different places see it in
    different directions, and a fine map shows each photo what another one saw.

    Args:
        total: [K, 3, R, 2R] weighted sums of log radiance over the rays of each texel, per group; R the largest of
            `ROWS`.
        count: [K, 1, R, 2R] sums of the weights.
        otherwise: [3] log colour where nothing is known at all.

    The error is squared, of a group's mean in each texel, as sRGB encodes it, against the map made of all other
    groups. Source: cross-validation (Stone 1974).
    """
    errors = [0.0] * len(ROWS)
    whole, whole_count = total.sum(0), count.sum(0)
    for group in range(len(total)):
        others, their_count = whole - total[group], (whole_count - count[group]).clamp_min(0)
        shown = srgb_encode((total[group] / count[group].clamp_min(1e-9)).exp())
        for index, rows in enumerate(ROWS):
            shrink = total.shape[2] // rows
            coarse = push_pull(_pool(others, shrink)[None], _pool(their_count, shrink)[None], otherwise)
            foretold = srgb_encode(_enlarge(coarse, shrink)[0].exp())
            errors[index] += float(((foretold - shown).square() * count[group]).sum())
    return ROWS[min(range(len(ROWS)), key=errors.__getitem__)]


def _gather_rays(pipeline: Pipeline, cache: PhotoCache, photos: list[int]) -> tuple[Tensor, Tensor, float]:
    """Return sums [K, 3, R, C] of log radiance per texel and group of photos, their weights, the share of rays."""
    environment, render = pipeline.environment, pipeline.config.render
    rows, columns = environment.map.shape[2:]
    groups = 1 if environment.fixed else max(1, min(FOLDS, len(photos)))
    total, count = torch.zeros(groups, 3, rows * columns), torch.zeros(groups, 1, rows * columns)
    rays, missed = 0, 0
    coarse = dataclasses.replace(pipeline.raster, levels=render.fill_levels)
    scale = 2 ** (render.fill_levels - 1)
    for number, photo in enumerate(photos):  # dealt in turn, as held-out photos are: they lie between others
        index = torch.tensor([photo])
        camera = pipeline.camera(index)
        levels = draw(camera, pipeline.points(), pipeline.features[:, :4], coarse, backend=render.backend)
        covered = (levels.weight[-1] > 0).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        height, width = levels.weight[0].shape[2:]
        empty = ~covered[0, 0, :height, :width]
        mask = cache.mask(photo)
        if mask is not None:
            empty &= mask.to(empty.device)
        rays, missed = rays + empty.numel(), missed + int(empty.sum())
        if not bool(empty.any()):
            continue
        value = cache.image(photo, empty.device)[0]
        light = radiance_behind(pipeline, photo, value, pipeline.position(camera, index)[0])[:, empty]
        trust = trust_in(value)[0][empty]
        column, row = environment.coordinates(camera.rays(0))
        texel = row[0][empty].long().clamp(0, rows - 1) * columns + column[0][empty].long() % columns
        group = number % groups
        total[group].index_add_(1, texel.cpu(), (light.clamp_min(DARKEST).log() * trust).cpu())
        count[group].index_add_(1, texel.cpu(), trust[None].cpu())
    shape = groups, -1, rows, columns
    return total.reshape(shape), count.reshape(shape), missed / max(rays, 1)


def _pool(image: Tensor, shrink: int) -> Tensor:
    """Return the sums over squares of `shrink` texels of [C, R, 2R]."""
    return F.avg_pool2d(image, shrink) * shrink**2


def _enlarge(image: Tensor, scale: int) -> Tensor:
    """Return a map [1, C, R, 2R] at `scale` times its size, wrapped at its seam."""
    wrapped = torch.cat((image[..., -1:], image, image[..., :1]), dim=3)
    return F.interpolate(wrapped, scale_factor=float(scale), mode="bilinear", align_corners=False)[
        ..., scale:-scale
    ]
