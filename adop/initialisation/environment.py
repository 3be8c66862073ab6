"""The environment's start: what the photos' rays that meet no point show, as finely as the photos foretell it."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.initialisation.photometry import clipped_share, radiance_behind, trust_in
from adop.model.environment import push_pull
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE
from adop.model.tonemapper import srgb_encode
from adop.ops import draw
from adop.scene.photo_cache import PhotoCache, reduction

ROWS = (8, 16, 32, 64, 128, 256)  # sizes of the map that are tried
ALIKE = 1e-4  # log radiance: less is rounding
FOLDS = 8  # groups of photos, each foretold from the others
SIDE = 1000  # pixels that photos have at most along their longer side, here


@dataclass(frozen=True)
class Light:
    """What groups of photos show in each texel of a map, sums over rays; of clipped light a least value is known."""

    measured: Tensor  # [K, 3, R, 2R] weighted sums of log radiance
    measured_weight: Tensor  # [K, 1, R, 2R]
    clipped: Tensor  # [K, 3, R, 2R] weighted sums of the log radiance from which on the photo clips
    clipped_weight: Tensor  # [K, 1, R, 2R]

    def __len__(self) -> int:
        return len(self.measured)

    def each(self, change: Callable[[Tensor], Tensor]) -> Light:
        """Return the light with all its sums changed."""
        parts = self.measured, self.measured_weight, self.clipped, self.clipped_weight
        return Light(*map(change, parts))

    def pooled(self, shrink: int) -> Light:
        """Return the sums over squares of `shrink` texels."""
        return self.each(lambda part: F.avg_pool2d(part, shrink) * shrink**2)

    def means(self) -> tuple[Tensor, Tensor]:
        """Return [K, 3, R, 2R] each group's log radiance, measured and where it clips; without weight it is 0."""
        measured = self.measured / self.measured_weight.clamp_min(1e-9)
        return measured, self.clipped / self.clipped_weight.clamp_min(1e-9)


@torch.no_grad()
def initialise_environment(pipeline: Pipeline, cache: PhotoCache, photos: list[int]) -> float:
    """Start the environment from the photos' rays that meet no point; return their share of all rays.

    Without a configured height the map is made as fine as is best for foretelling photos from other photos.
    """
    environment = pipeline.environment
    if not environment.fixed:
        environment.resize(ROWS[-1])
    light, share = _gather_rays(pipeline, cache, photos)
    mean = pipeline.points.features[:, :3].mean(0).cpu()
    if not environment.fixed:
        environment.resize(choose_rows(light, mean))
    found, seen = reconcile(light.pooled(light.measured.shape[2] // environment.map.shape[2]))
    environment.fill(found * seen, seen, mean)
    if len(light) > 1:
        error, weight = foretell(light, environment.map.shape[2], mean)
        environment.set_error(error, weight)
    return share


def reconcile(light: Light) -> tuple[Tensor, Tensor]:
    """Return the log radiance [3, R, 2R] that the groups agree on best, and 1 where any group sees the texel [1, R, 2R].

    The weighted squared error is least, of clipped light only where the radiance stays below it: a bright sky is
    clipped in many photos, and leaves before it, in one, are measured.

    Source: censored regression (Tobin 1958), its active set found by steps that only ever raise the radiance.
    """
    _, clipped = light.means()
    known, known_weight = light.measured.sum(0), light.measured_weight.sum(0)
    below = torch.ones_like(clipped)
    while True:
        weight = light.clipped_weight * below
        found = (known + (clipped * weight).sum(0)) / (known_weight + weight.sum(0)).clamp_min(1e-9)
        still = below * (clipped > found - ALIKE)  # the highest of all stays
        if still.equal(below):
            return found, ((known_weight + light.clipped_weight.sum(0)) > 0).to(found.dtype)
        below = still


def choose_rows(light: Light, otherwise: Tensor) -> int:
    """Return the number of rows with which groups of photos foretell each other's rays best; of equals the least.

    What lies behind is hardly ever endlessly far: where it is near, photos from different places see it in
    different directions, and a fine map shows each photo what another one saw.

    Args:
        light: in texels of a map of the most rows of `ROWS`.
        otherwise: [3] log colour where nothing is known at all.
    """
    return min(ROWS, key=lambda rows: float(foretell(light, rows, otherwise)[0].sum()))


def foretell(light: Light, rows: int, otherwise: Tensor) -> tuple[Tensor, Tensor]:
    """Return the error of foretelling photos from other photos by a map of `rows`, and its weight, [1, 1, R, 2R] each.

    The error is squared, of a group's mean in each texel of `light`, as sRGB encodes it, against the map made of all
    other groups; light beyond what is clipped is no error. Source: cross-validation (Stone 1974).
    """
    measured, clipped = (srgb_encode(mean.exp()) for mean in light.means())
    shrink = light.measured.shape[2] // rows
    pooled = light.pooled(shrink)
    error = torch.zeros_like(light.measured_weight[:1])
    for group in range(len(light)):
        others = pooled.each(operator.itemgetter([i for i in range(len(light)) if i != group]))
        found, seen = reconcile(others)
        coarse = push_pull((found * seen)[None], seen[None], otherwise)
        foretold = srgb_encode(_enlarge(coarse, shrink)[0].exp())
        wrong = (foretold - measured[group]).square() * light.measured_weight[group]
        too_dark = (clipped[group] - foretold).clamp_min(0).square() * light.clipped_weight[group]
        error += (wrong + too_dark).mean(0)
    return error, (light.measured_weight + light.clipped_weight).sum(0, keepdim=True)


def _gather_rays(pipeline: Pipeline, cache: PhotoCache, photos: list[int]) -> tuple[Light, float]:
    """Return what the photos show along rays that meet no point, and the share of such rays."""
    environment, render = pipeline.environment, pipeline.config
    rows, columns = environment.map.shape[2:]
    groups = max(1, min(FOLDS, len(photos)))
    light = Light(*(torch.zeros(groups, channels, rows * columns) for channels in (3, 1, 3, 1)))
    rays, missed = 0, 0
    coarse = dataclasses.replace(pipeline.raster, levels=render.fill_levels)
    scale = 2 ** (render.fill_levels - 1)
    for number, photo in enumerate(photos):  # dealt in turn, as held-out photos are: they lie between others
        index = torch.tensor([photo])
        whole = pipeline.camera(index)
        smaller = reduction((whole.width, whole.height), SIDE)
        camera = whole.reduced(smaller)
        levels = draw(
            camera, pipeline.points(), pipeline.points.features[:, :4], coarse, backend=render.backend
        )
        covered = (levels.weight[-1] > 0).repeat_interleave(scale, 2).repeat_interleave(scale, 3)
        height, width = levels.weight[0].shape[2:]
        value, mask = (part[0] for part in cache.reduced(photo, smaller, covered.device))
        empty = ~covered[0, 0, :height, :width] & (mask[0] > 0)
        rays, missed = rays + empty.numel(), missed + int(empty.sum())
        if not bool(empty.any()):
            continue
        shown, where = (
            value[:, empty, None],
            pipeline.cameras.photo_position(camera, index)[0][:, empty, None],
        )
        radiance = radiance_behind(pipeline, photo, shown, where)[..., 0]
        logarithm = radiance.clamp_min(MIN_RADIANCE).log()
        uv = torch.nonzero(empty).flip(1)[None].float() + 0.5
        column, row = environment.coordinates(camera.rays_at(uv).transpose(1, 2)[..., None])
        texel = row.flatten().long().clamp(0, rows - 1) * columns + column.flatten().long() % columns
        trusts = trust_in(value)[0][empty], clipped_share(value)[0][empty]
        sums = (light.measured, light.measured_weight), (light.clipped, light.clipped_weight)
        for trust, (total, weight) in zip(trusts, sums, strict=True):
            total[number % groups].index_add_(1, texel.cpu(), (logarithm * trust).cpu())
            weight[number % groups].index_add_(1, texel.cpu(), trust[None].cpu())
    return light.each(lambda part: part.reshape(groups, -1, rows, columns)), missed / max(rays, 1)


def _enlarge(image: Tensor, scale: int) -> Tensor:
    """Return a map [1, C, R, 2R] at `scale` times its size, wrapped at its seam."""
    wrapped = torch.cat((image[..., -1:], image, image[..., :1]), dim=3)
    return F.interpolate(wrapped, scale_factor=float(scale), mode="bilinear", align_corners=False)[
        ..., scale:-scale
    ]
