"""`adop bench gradients`: position gradients against central differences of a supersampled image."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from adop.config import TrainConfig
from adop.config.stages import Levels
from adop.errors import UserError
from adop.files import OutputFile, write_text
from adop.initialisation.grow import first_of_each
from adop.model.pipeline import Pipeline
from adop.model.tonemapper import srgb_encode
from adop.ops import Backend, Projection, RasterConfig, project, rasterize
from adop.ranges import Count, Natural, Positive, Seed
from adop.refine.alignment_equations import image_gradient, masked_blur
from adop.run.photos.scene_photos import scene_split
from adop.run.run import open_scene
from adop.scene.scene import demo_scene_folder

CELL = 12  # pixels; points in different cells of the image are shifted at the same time
MARGIN = 3  # pixels between a compared point and the border of its cell
BORDER = 4  # pixels along the border of the image without compared points
BLUR = 0.7  # pixels, of image and photo before their slope is taken
CLEAR = 0.2  # of the mean magnitude; differences smaller than that are mostly noise


@dataclass(frozen=True)
class BenchGradientsConfig:
    """Compare position gradients of single points with central differences of a supersampled image.

    The supersampled image is the mean over a grid of sub-pixel shifts of all points: what one-pixel points show on
    average. It is smooth in the points' positions.
    """

    scene: tyro.conf.Positional[Path | None] = None
    """Scene folder; the demo scene if omitted."""
    levels: Levels = 4
    """Number of pyramid levels; each is compared by itself."""
    points: Count = 600
    """Number of points that are compared at each level."""
    shifts: Count = 8
    """Number of sub-pixel shifts along each axis; an image is the mean of their square."""
    step: Positive = 0.5
    """Shift of a point to either side for a central difference, pixels of the level."""
    photo: Natural = 1
    """Which training photo is rendered and compared with, counted from 0."""
    json: OutputFile | None = None
    """Write all numbers to this JSON file."""
    seed: Seed = 0
    """Seed of the choice of points."""


@dataclass(frozen=True)
class Problem:
    """Projected points, their colours and the photo, at one level."""

    projection: Projection
    colours: Tensor  # [N, 3]
    target: Tensor  # [1, 3, h, w] the photo
    raster: RasterConfig
    compared: Tensor  # [K] index of the compared points
    backend: Backend = "auto"

    def image(self, uv: Tensor, raster: RasterConfig, ghosts: Tensor | None = None) -> Tensor:
        """Return the image [1, 3, h, w] of points at `uv` [1, N, 2]; empty pixels show the photo, and cost nothing."""
        projection = replace(self.projection, uv=uv)
        height, width = self.target.shape[2:]
        levels = rasterize(
            projection, self.colours, width, height, raster, [self.target], ghosts, self.backend
        )
        return levels.features[0]

    def loss(self, image: Tensor) -> Tensor:
        """Return half the sum of squared differences from the photo."""
        return 0.5 * (image - self.target).square().sum()


def bench_gradients(config: BenchGradientsConfig) -> int:
    """Run the comparison, print the table, write JSON; return 0.

    Raises: UserError for a photo that is not there.
    """
    scene_folder = config.scene or demo_scene_folder()
    train_config = TrainConfig()
    pipeline, scene, cache = open_scene(scene_folder, train_config, lambda _: None)
    photos = scene_split(scene, train_config.test_every)["train"]
    if not 0 <= config.photo < len(photos):
        raise UserError(f"--photo {config.photo}: {scene_folder} has training photos 0 to {len(photos) - 1}")
    target = cache.image(photos[config.photo], pipeline.device)
    rows = []
    print(f"{'level':8}{'method':24}{'cosine':>8}{'of each point':>14}{'sign agrees':>14}")
    for level in range(config.levels):
        problem = _problem(config, pipeline, photos[config.photo], target, level)
        truth = supersampled_gradient(problem, config.shifts, config.step)
        for name, method in METHODS.items():
            cosine, each, sign = agreement(method(problem), truth)
            rows.append({"level": level, "method": name, "cosine": cosine, "cosine_each": each, "sign": sign})
            print(f"{level:<8}{name:24}{cosine:8.3f}{each:14.3f}{100 * sign:12.0f} %")
    if config.json is not None:
        write_text(config.json, json.dumps({"scene": str(scene_folder), "rows": rows}, indent=2) + "\n")
    return 0


def agreement(found: Tensor, truth: Tensor) -> tuple[float, float, float]:
    """Compare gradients [K, 2] with the true ones.

    Returns: the cosine of all gradients as one vector; the mean cosine of single points whose true gradient is clear;
        the share of clear components whose sign is right.
    """
    cosine = float(F.cosine_similarity(found.flatten(), truth.flatten(), dim=0))
    lengths = truth.norm(dim=1)
    each = F.cosine_similarity(found, truth, dim=1)[lengths > CLEAR * lengths.mean()].mean()
    clear = truth.abs() > CLEAR * truth.abs().mean()
    return cosine, float(each), float((found.sign() == truth.sign())[clear].float().mean())


def _problem(
    config: BenchGradientsConfig, pipeline: Pipeline, photo: int, target: Tensor, level: int
) -> Problem:
    """Return a photo's view with the given level of the pyramid as its only one.

    The image is 1/2^level as large, so the same points fall into the same pixels as at that level.
    """
    scale = 2**level
    height, width = target.shape[2] // scale, target.shape[3] // scale
    raster = RasterConfig(levels=1, near=1e-6)
    colours = srgb_encode(pipeline.points.features[:, :3].detach().exp()).clamp(0, 1)
    camera = pipeline.camera(torch.tensor([photo])).reduced(scale)
    projection = project(camera, pipeline.points(), raster.near, pipeline.backend)
    target = F.avg_pool2d(target, scale)[..., :height, :width]
    uv = projection.uv[0]
    inner = (uv > BORDER).all(1) & (uv < uv.new_tensor([width - BORDER, height - BORDER])).all(1)
    candidate = projection.visible[0] & (projection.radius_px[0] >= raster.radius_threshold) & inner
    points = torch.nonzero(candidate)[:, 0]
    # Only points that pass the depth test are in the image.
    levels = rasterize(projection, colours, width, height, raster, backend=pipeline.backend)
    column, row = uv[points].long().unbind(1)
    depth = levels.depth[0][0, 0, row, column]
    points = points[projection.z[0, points] <= (1 + raster.depth_tolerance) * depth]
    # A point's cell must contain every pixel that its shift changes.
    within = uv[points] % CELL
    points = points[((within > MARGIN) & (within < CELL - MARGIN)).all(1)]
    order = torch.randperm(len(points), generator=torch.Generator().manual_seed(config.seed))
    compared = points[order[: config.points]]
    return Problem(projection, colours, target, raster, compared, pipeline.backend)


@torch.no_grad()
def supersampled_gradient(problem: Problem, shifts: int, step: float) -> Tensor:
    """Return central differences [K, 2] of the loss of the supersampled image.

    Points in different cells are shifted at the same time: each one's loss is that of its own cell.
    """
    found = torch.zeros(len(problem.compared), 2, dtype=torch.float64)
    cell = (problem.projection.uv[0, problem.compared] / CELL).long().cpu()
    remaining = torch.arange(len(problem.compared))
    while len(remaining):
        together = first_of_each(cell[remaining])
        shifted, (column, row) = remaining[together], cell[remaining[together]].unbind(1)
        for axis in range(2):
            ends = []
            for sign in (1, -1):
                uv = problem.projection.uv.clone()
                uv[0, problem.compared[shifted], axis] += sign * step
                ends.append(_loss_of_cells(problem, uv, shifts)[row, column].cpu())
            found[shifted, axis] = (ends[0] - ends[1]) / (2 * step)
        rest = torch.ones(len(remaining), dtype=torch.bool)
        rest[together] = False
        remaining = remaining[rest]
    return found.float()


def _loss_of_cells(problem: Problem, uv: Tensor, shifts: int) -> Tensor:
    """Return the loss of the supersampled image in each cell [rows, columns]."""
    total = torch.zeros_like(problem.target)
    for i in range(shifts):
        for j in range(shifts):
            offset = uv.new_tensor([(i + 0.5) / shifts - 0.5, (j + 0.5) / shifts - 0.5])
            total += problem.image(uv + offset, problem.raster)
    squared = 0.5 * (total / shifts**2 - problem.target).double().square().sum(1, keepdim=True)
    height, width = squared.shape[2:]
    return CELL**2 * F.avg_pool2d(F.pad(squared, (0, -width % CELL, 0, -height % CELL)), CELL)[0, 0]


def _autograd(problem: Problem, raster: RasterConfig, ghosts: Tensor | None) -> Tensor:
    uv = problem.projection.uv.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.loss(problem.image(uv, raster, ghosts)), uv)
    return gradient[0, problem.compared].cpu()


def ghost_gradient(problem: Problem) -> Tensor:
    """Return the published gradient [K, 2]: the compared points are ghosts, left out of the image."""
    ghosts = torch.zeros_like(problem.projection.visible)
    ghosts[0, problem.compared] = True
    return _autograd(problem, problem.raster, ghosts)


def bilinear_gradient(problem: Problem) -> Tensor:
    """Return the gradient [K, 2] of points with a bilinear footprint, drawn as one pixel."""
    return _autograd(problem, replace(problem.raster, position_gradient="bilinear"), None)


@torch.no_grad()
def slope_gradient(problem: Problem) -> Tensor:
    """Return the gradient [K, 2] that Gauss-Newton uses: difference from the photo times the slope of the image."""
    image = problem.image(problem.projection.uv, problem.raster)
    mask = torch.ones_like(image[:, :1])
    image, target = masked_blur(image, mask, BLUR), masked_blur(problem.target, mask, BLUR)
    slope = 0.5 * (image_gradient(image) + image_gradient(target))
    column, row = problem.projection.uv[0, problem.compared].long().unbind(1)
    difference = (image - target)[0, :, row, column]
    return -(slope[:, :, row, column] * difference).sum(1).T.cpu()


METHODS: dict[str, Callable[[Problem], Tensor]] = {
    "ghost, as published": ghost_gradient,
    "bilinear footprint": bilinear_gradient,
    "slope of the image": slope_gradient,
}
