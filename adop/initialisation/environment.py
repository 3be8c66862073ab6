"""Start of the environment: the light of the photos' rays that meet no point, at the resolution they support."""

from __future__ import annotations

import dataclasses
import operator
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.initialisation.photometry import clipping, photo_radiance, pixel_confidence
from adop.model.environment import map_texels, push_pull
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE
from adop.model.tonemapper import srgb_encode
from adop.progress import Bar
from adop.scene.photo_cache import PhotoCache, reduction

MAP_ROWS = (8, 16, 32, 64, 128, 256)  # heights of the map that are tried
FOLDS = 8  # groups of photos for cross-validation: each is predicted from the others
LONGEST_SIDE = 1000  # pixels of the photos' longer side
LOG_ROUNDING = 1e-4  # log radiance: smaller differences are rounding


@dataclass(frozen=True)
class RaySums:
    """Weighted sums of log radiance per map texel over each fold's rays that meet no point.

    A clipped pixel gives only a lower bound, so clipped light is summed apart.
    """

    measured: Tensor  # [K, 3, R, 2R] sums of weight times log radiance
    measured_weight: Tensor  # [K, 1, R, 2R]
    clipped: Tensor  # [K, 3, R, 2R] sums of weight times the log radiance at which the photo clips
    clipped_weight: Tensor  # [K, 1, R, 2R]

    def __len__(self) -> int:
        """Return the number of folds K."""
        return len(self.measured)

    def apply(self, change: Callable[[Tensor], Tensor]) -> RaySums:
        """Return the sums with `change` applied to each of the four tensors."""
        parts = self.measured, self.measured_weight, self.clipped, self.clipped_weight
        return RaySums(*map(change, parts))

    def pooled(self, scale: int) -> RaySums:
        """Return the sums over squares of `scale` by `scale` texels."""
        return self.apply(lambda part: F.avg_pool2d(part, scale) * scale**2)

    def means(self) -> tuple[Tensor, Tensor]:
        """Return [K, 3, R, 2R] each fold's mean log radiance, measured and at clipping; 0 where there are no rays."""
        measured = self.measured / self.measured_weight.clamp_min(1e-9)
        return measured, self.clipped / self.clipped_weight.clamp_min(1e-9)

    @cached_property
    def encoded_means(self) -> tuple[Tensor, Tensor]:
        """The `means` as sRGB-encoded values; every map height that is tried is compared with them."""
        measured, clipped = (srgb_encode(mean.exp()) for mean in self.means())
        return measured, clipped


@torch.no_grad()
def initialise_environment(pipeline: Pipeline, cache: PhotoCache, photos: list[int]) -> float:
    """Set the environment from the photos' rays that meet no point; return those rays' share of all rays.

    Unless its height is configured, the map gets the height at which photos predict each other's rays best.
    """
    environment = pipeline.environment
    if not environment.fixed:
        environment.resize(MAP_ROWS[-1])
    sums, share = _sum_rays(pipeline, cache, photos)
    mean_colour = pipeline.points.features[:, :3].mean(0).cpu()
    if not environment.fixed:
        environment.resize(choose_rows(sums, mean_colour))
    rows = environment.map.shape[2]
    radiance, observed = censored_mean(sums.pooled(sums.measured.shape[2] // rows))
    environment.fill(radiance * observed, observed, mean_colour)
    if len(sums) > 1:
        environment.set_error(*cross_validation_error(sums, rows, mean_colour))
    return share


def censored_mean(sums: RaySums) -> tuple[Tensor, Tensor]:
    """Return the mean log radiance [3, R, 2R] over the folds, and 1 where any fold has rays, else 0 [1, R, 2R].

    It minimises the weighted squared error, to which clipped light contributes only where it is brighter than the
    mean. So a bright sky that many photos clip counts even if one photo measures dark leaves in front of it.

    Source: censored regression (Tobin 1958), solved by an active set that only shrinks.
    """
    _, clipped = sums.means()
    measured, measured_weight = sums.measured.sum(0), sums.measured_weight.sum(0)
    active = torch.ones_like(clipped)
    while True:
        weight = sums.clipped_weight * active
        mean = (measured + (clipped * weight).sum(0)) / (measured_weight + weight.sum(0)).clamp_min(1e-9)
        still_active = active * (clipped > mean - LOG_ROUNDING)  # the brightest fold of all stays active
        if still_active.equal(active):
            return mean, ((measured_weight + sums.clipped_weight.sum(0)) > 0).to(mean.dtype)
        active = still_active


def choose_rows(sums: RaySums, default: Tensor) -> int:
    """Return the map height of `MAP_ROWS` with the least cross-validation error; of equal ones the smallest.

    The background is seldom infinitely far. Photos from different positions see a near background in different
    directions, and a fine map would then show in one photo what another one saw.

    Args:
        sums: in texels of a map of the largest height of `MAP_ROWS`.
        default: [3] log colour of a map without any rays.
    """
    return min(MAP_ROWS, key=lambda rows: float(cross_validation_error(sums, rows, default)[0].sum()))


def cross_validation_error(sums: RaySums, rows: int, default: Tensor) -> tuple[Tensor, Tensor]:
    """Return sums of squared errors of predicting each fold from the others, and of their weights, [1, 1, R, 2R] each.

    The prediction is a map of `rows` rows made from all other folds. The error is that of a fold's mean in each texel of
    `sums`, in sRGB-encoded values; a prediction brighter than a clipped value is no error.

    Args:
        default: [3] log colour of a map without any rays.

    Source: cross-validation (Stone 1974).
    """
    measured, clipped = sums.encoded_means
    scale = sums.measured.shape[2] // rows
    pooled = sums.pooled(scale)
    error = torch.zeros_like(sums.measured_weight[:1])
    for fold in range(len(sums)):
        others = pooled.apply(operator.itemgetter([i for i in range(len(sums)) if i != fold]))
        radiance, observed = censored_mean(others)
        coarse = push_pull((radiance * observed)[None], observed[None], default)
        predicted = srgb_encode(_upsample_map(coarse, scale)[0].exp())
        measured_error = (predicted - measured[fold]).square() * sums.measured_weight[fold]
        too_dark = (clipped[fold] - predicted).clamp_min(0).square() * sums.clipped_weight[fold]
        error += (measured_error + too_dark).mean(0)
    return error, (sums.measured_weight + sums.clipped_weight).sum(0, keepdim=True)


def _sum_rays(pipeline: Pipeline, cache: PhotoCache, photos: list[int]) -> tuple[RaySums, float]:
    """Return the sums over the photos' rays that meet no point, on the CPU, and those rays' share of all rays."""
    environment = pipeline.environment
    rows, columns = environment.map.shape[2:]
    folds = max(1, min(FOLDS, len(photos)))
    sums = RaySums(*(torch.zeros(folds, channels, rows * columns) for channels in (3, 1, 3, 1)))
    rays, background_rays = 0, 0
    for number, photo in enumerate(Bar(photos, desc="measuring the environment")):
        # Photos are dealt to the folds in turn, so that a predicted photo lies between others, as held-out photos do.
        fold = number % folds
        background = _background_rays(pipeline, cache, photo)
        rays, background_rays = rays + background.total, background_rays + len(background.confidence)
        if not len(background.confidence):
            continue
        texel = map_texels(background.directions, (rows, columns)).flatten()
        for weight, totals, weights in (
            (background.confidence, sums.measured, sums.measured_weight),
            (background.clipping, sums.clipped, sums.clipped_weight),
        ):
            totals[fold].index_add_(1, texel.cpu(), (background.log_radiance * weight).cpu())
            weights[fold].index_add_(1, texel.cpu(), weight[None].cpu())
    return sums.apply(lambda part: part.reshape(folds, -1, rows, columns)), background_rays / max(rays, 1)


@dataclass(frozen=True)
class BackgroundRays:
    """One photo's rays that meet no point."""

    directions: Tensor  # [1, 3, M, 1] unit, world axes
    log_radiance: Tensor  # [3, M]
    confidence: Tensor  # [M], see `pixel_confidence`
    clipping: Tensor  # [M], see `clipping`
    total: int  # number of all rays of the photo


def _background_rays(pipeline: Pipeline, cache: PhotoCache, photo: int) -> BackgroundRays:
    """Return the rays of a reduced photo's pixels that lie inside its mask and in no pixel of the coarsest fill level."""
    index, fill_levels = torch.tensor([photo]), pipeline.config.fill_levels
    whole = pipeline.camera(index)
    factor = reduction((whole.width, whole.height), LONGEST_SIDE)
    camera = whole.reduced(factor)
    raster = dataclasses.replace(pipeline.raster, levels=fill_levels)
    weight = pipeline.draw(camera, pipeline.points.features[:, :4], raster).weight[-1]
    size = 2 ** (fill_levels - 1)
    covered = (weight > 0).repeat_interleave(size, 2).repeat_interleave(size, 3)
    value, mask = (part[0] for part in cache.reduced(photo, factor, covered.device))
    empty = ~covered[0, 0, : camera.height, : camera.width] & (mask[0] > 0)
    position = pipeline.cameras.photo_position(camera, index)[0]
    radiance = photo_radiance(pipeline, photo, value[:, empty, None], position[:, empty, None])[..., 0]
    uv = torch.nonzero(empty).flip(1)[None].float() + 0.5
    return BackgroundRays(
        directions=camera.rays_at(uv).transpose(1, 2)[..., None],
        log_radiance=radiance.clamp_min(MIN_RADIANCE).log(),
        confidence=pixel_confidence(value)[0][empty],
        clipping=clipping(value)[0][empty],
        total=empty.numel(),
    )


def _upsample_map(image: Tensor, scale: int) -> Tensor:
    """Return a map [1, C, R, 2R] at `scale` times its size, bilinear, wrapping at its seam."""
    wrapped = torch.cat((image[..., -1:], image, image[..., :1]), dim=3)
    large = F.interpolate(wrapped, scale_factor=float(scale), mode="bilinear", align_corners=False)
    return large[..., scale:-scale]
