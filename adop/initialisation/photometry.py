"""Start values from the photos, and the photometry of photos that were not trained on."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from adop.model.hole_filling import fill_holes
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE
from adop.model.tonemapper import Photometry, srgb_decode, srgb_encode
from adop.ops import Backend, draw
from adop.scene.photo_cache import PhotoCache

ROBUST = 0.05
GATHER_LEVELS = 4
OWN_WEIGHT = 2.0


@dataclass(frozen=True)
class PointSamples:
    """What one photo shows at the points that it sees."""

    points: Tensor  # [M] index of the point
    value: Tensor  # [M, 3] the photo's value in [0, 1]
    weight: Tensor  # [M] trust in it: 1 in the middle of the range, near 0 where clipped or black
    position: Tensor  # [M, 2] on the photo, half diagonals from its centre


def trust_in(photo: Tensor) -> Tensor:
    """Return the weight of pixels [..., 3, H, W] by their brightest and darkest channel (Debevec and Malik's hat)."""
    high = photo.amax(-3, keepdim=True)
    return (high.clamp(0.01, 0.5) * 2) * (1 - clipped_share(photo)).clamp_min(0.02)


def clipped_share(photo: Tensor) -> Tensor:
    """Return how far pixels [..., 3, H, W] are to be taken for clipped: from 7/8 of the range on, wholly at its end."""
    return (8 * photo.amax(-3, keepdim=True) - 7).clamp(0, 1)


def gather(pipeline: Pipeline, cache: PhotoCache, photo: int, backend: Backend = "auto") -> PointSamples:
    """Look up a photo at every point that it sees: the adjoint of drawing the points, applied to the photo.

    Points seen through a gap in a nearer surface are left out: the photo shows the surface there.
    """
    index = torch.tensor([photo])
    camera = pipeline.camera(index)
    value = cache.image(photo, pipeline.device)
    trust = trust_in(value)
    mask = cache.mask(photo)
    if mask is not None:
        trust = trust * mask.to(trust.device).float()
    image = torch.cat((value, trust, pipeline.cameras.photo_position(camera, index)), dim=1)
    features = torch.zeros(len(pipeline.points.xyz), 6, device=image.device, requires_grad=True)
    raster = dataclasses.replace(pipeline.raster, levels=GATHER_LEVELS, radius_threshold=0.0)
    levels = draw(camera, pipeline.points(), features, raster, image.new_zeros(6), backend=backend)
    background = [level[:, :3] for level in levels.features]
    base = fill_holes(levels, background, 0, pipeline.config.occlusion_tolerance)
    shown = image * levels.weight[0] * base.valid[0]
    (looked_up,) = torch.autograd.grad(levels.features[0], features, shown)
    looked_up = looked_up.cpu()
    seen = torch.nonzero(looked_up[:, 3] > 0)[:, 0]
    found = looked_up[seen]
    return PointSamples(seen, found[:, :3].clamp(0, 1), found[:, 3], found[:, 4:])


def estimate_exposures(
    point_samples: dict[int, PointSamples], count: int, photos: int, rounds: int = 20
) -> Tensor:
    """Return [P] EV of each photo, from the points that several photos see; photos not point_samples get 0.

    Alternates between the points' radiance (weighted mean over photos) and the photos' EV (weighted median over
    points), as bundle adjustment of brightness alone.
    """
    exposure = torch.zeros(photos)
    logs = {i: srgb_decode(g.value).mean(1).clamp_min(1e-5).log2() for i, g in point_samples.items()}
    for _ in range(rounds):
        total, weight = torch.zeros(count), torch.full((count,), 1e-9)
        for i, g in point_samples.items():
            total.index_add_(0, g.points, (logs[i] + exposure[i]) * g.weight)
            weight.index_add_(0, g.points, g.weight)
        mean = total / weight
        for i, g in point_samples.items():
            several = weight[g.points] > 1.5 * g.weight
            if several.sum() >= 50:
                exposure[i] = _weighted_median((mean[g.points] - logs[i])[several], g.weight[several])
        known = torch.tensor(sorted(point_samples))
        exposure[known] -= exposure[known].mean()
    return exposure


def _weighted_median(values: Tensor, weights: Tensor) -> Tensor:
    order = values.argsort()
    cumulative = weights[order].cumsum(0)
    return values[order][int(torch.searchsorted(cumulative, cumulative[-1] / 2))]


@torch.no_grad()
def colour_points(pipeline: Pipeline, point_samples: dict[int, PointSamples]) -> None:
    """Set the features of the points to the mean log radiance that the photos show there.

    The colour that the cloud came with, developed by the mean camera, counts as much as `OWN_WEIGHT` photos: it
    is smoother than single pixels.
    """
    count = len(pipeline.points.xyz)
    device = pipeline.device
    tonemapper = pipeline.tonemapper
    own = tonemapper.linearise_response(
        srgb_encode(pipeline.points.features[:, :3].exp()).T[None, :, None], pipeline.cameras.photo_lens[:1]
    )
    total = own[0, :, 0].T.clamp_min(MIN_RADIANCE).log() * OWN_WEIGHT
    weight = torch.full((count, 1), OWN_WEIGHT, device=device)
    for i, g in point_samples.items():
        value, position, trust = (x.to(device) for x in (g.value, g.position, g.weight))
        radiance = radiance_behind(pipeline, i, value.T[:, None], position.T[:, None])[:, 0].T
        # A short exposure says little of the dark, a long one little of the bright: trust is per photo.
        # Of logarithms, so that a few photos in which something bright is in the way do not rule.
        total.index_add_(0, g.points.to(device), radiance.clamp_min(MIN_RADIANCE).log() * trust[:, None])
        weight.index_add_(0, g.points.to(device), trust[:, None])
    pipeline.points.features[:, :3] = total / weight


def radiance_behind(pipeline: Pipeline, photo: int, value: Tensor, position: Tensor) -> Tensor:
    """Return the radiance [3, H, W] behind a photo's values [3, H, W] at places [2, H, W] on it."""
    index = torch.tensor([photo])
    tonemapper = pipeline.tonemapper
    lens = pipeline.cameras.photo_lens[index]
    return tonemapper.linearise(value[None], tonemapper.photometry(index), position[None], lens)[0]


def fit_photometry(
    shoot: Callable[[Photometry], Tensor], target: Tensor, mask: Tensor, start: Photometry, rounds: int = 30
) -> Photometry:
    """Fit exposure and white balance so that `shoot(photometry)` meets a photo, by Gauss-Newton.

    Three numbers; Cauchy's cost of the masked pixels (an error well above 0.05 counts little, so that what stands
    in the photo and not in the scene does not rule), numeric derivatives, Levenberg damping: a step that does not
    help is taken back.

    Args:
        shoot: the picture [1, 3, H, W] taken with a photometry.
        target: [1, 3, H, W] photo; mask: [1, 1, H, W].
    """
    weight = mask.expand_as(target).flatten()

    def build(theta: Tensor) -> Photometry:
        gain = torch.stack((theta[1].exp(), torch.ones_like(theta[0]), theta[2].exp()))
        return Photometry(start.exposure + theta[0], start.white_balance * gain)

    def residual(theta: Tensor) -> Tensor:
        return (shoot(build(theta)) - target).flatten() / ROBUST

    def cost(error: Tensor) -> Tensor:
        return (weight * error.square().log1p()).double().sum()

    with torch.no_grad():
        theta = torch.zeros(3, device=target.device)
        error, damping, step = residual(theta), 1e-3, 1e-3
        for _ in range(rounds):
            columns = [
                (residual(theta + step * unit) - error) / step for unit in torch.eye(3, device=target.device)
            ]
            jacobian = torch.stack(columns, dim=1)
            weighted = jacobian * (weight / (1 + error.square()))[:, None]
            normal, gradient = weighted.T @ jacobian, weighted.T @ error
            while damping < 1e6:
                damped = normal + torch.diag(damping * normal.diagonal() + 1e-9)
                change = torch.linalg.solve(damped, -gradient)
                tried = residual(theta + change)
                if cost(tried) < cost(error):
                    theta, error, damping = theta + change, tried, damping / 10
                    break
                damping *= 10
            if damping >= 1e6 or change.abs().max() < 1e-4:
                break
        return build(theta)


def left_half(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mask [B, 1, H, W] cut to its left half, and to its right half."""
    middle = mask.shape[3] // 2
    columns = torch.arange(mask.shape[3], device=mask.device)
    return mask * (columns < middle), mask * (columns >= middle)
