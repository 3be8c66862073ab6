"""Position gradients against central differences of the picture that sub-pixel shifts of the raster average to."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
import tyro
from torch import Tensor

from adop.config.config import TrainConfig
from adop.geometry.camera import Camera
from adop.initialisation.grow import first_of_each
from adop.model.tonemapper import srgb_encode
from adop.ops import Points, Projection, RasterConfig, project, rasterize
from adop.refine.alignment_equations import image_gradient, masked_blur
from adop.run.run import open_scene, split_photos
from adop.scene.scene import demo_scene_folder

CELL = 12  # pixels: points in different cells are moved at once
MARGIN = 3  # pixels between a compared point and its cell's border


@dataclass(frozen=True)
class BenchGradientsConfig:
    """Compare gradients of the loss to single points' positions with central differences of a supersampled render.

    The supersampled picture is the mean over a grid of sub-pixel shifts of the raster: what one-pixel points show
    on average, and smooth in their positions.
    """

    scene: tyro.conf.Positional[Path | None] = None
    """Scene folder; without it, the demo scene."""
    levels: int = 4
    """Levels of the pyramid that are compared, each for itself."""
    points: int = 600
    """Points whose gradient is compared at each level."""
    shifts: int = 8
    """Sub-pixel shifts along each axis; their square is the number of renders in a mean."""
    step: float = 0.5
    """Half the central difference, pixels."""
    photo: int = 1
    """Photo that the loss compares with."""
    json: Path | None = None
    """Write all figures here."""
    seed: int = 0


@dataclass(frozen=True)
class Problem:
    """Projected points, their colours and the photo at one level."""

    projection: Projection
    colours: Tensor  # [N, 3]
    target: Tensor  # [1, 3, h, w]
    config: RasterConfig
    chosen: Tensor  # [K] index of the compared points

    def picture(self, uv: Tensor, config: RasterConfig, ghosts: Tensor | None = None) -> Tensor:
        """Return the picture [1, 3, h, w] of points at `uv` [1, N, 2]; empty pixels show the photo, so cost nothing."""
        projection = dataclasses.replace(self.projection, uv=uv)
        height, width = self.target.shape[2:]
        return rasterize(projection, self.colours, width, height, config, [self.target], ghosts).features[0]

    def loss(self, picture: Tensor) -> Tensor:
        """Return half the summed squared difference from the photo."""
        return 0.5 * (picture - self.target).square().sum()


def bench_gradients(config: BenchGradientsConfig) -> int:
    """Run the comparison, print the table, write JSON; return 0."""
    scene_folder = config.scene or demo_scene_folder()
    pipeline, scene, cache = open_scene(scene_folder, TrainConfig(), lambda _: None)
    photo = split_photos(len(scene.photos), 8)["train"][config.photo]
    camera = pipeline.camera(torch.tensor([photo]))
    colours = srgb_encode(pipeline.points.features[:, :3].detach().exp()).clamp(0, 1)
    target = cache.image(photo, pipeline.device)
    methods: dict[str, Callable[[Problem], Tensor]] = {
        "ghost, as published": ghost_gradient,
        "bilinear footprint": bilinear_gradient,
        "slope of the picture": slope_gradient,
    }
    rows = []
    print(f"{'level':8}{'method':24}{'cosine':>8}{'of each point':>14}{'sign agrees':>14}")
    for level in range(config.levels):
        problem = _problem(config, camera, pipeline.points(), colours, target, level)
        truth = supersampled_gradient(problem, config.shifts, config.step)
        for name, method in methods.items():
            found = method(problem)
            cosine, each, sign = agreement(found, truth)
            rows.append({"level": level, "method": name, "cosine": cosine, "cosine_each": each, "sign": sign})
            print(f"{level:<8}{name:24}{cosine:8.3f}{each:14.3f}{100 * sign:12.0f} %")
    if config.json is not None:
        config.json.write_text(json.dumps({"scene": str(scene_folder), "rows": rows}, indent=2) + "\n")
    return 0


def agreement(found: Tensor, truth: Tensor) -> tuple[float, float, float]:
    """Return the cosine of all gradients [K, 2] laid end to end, the mean cosine of each with its truth where that is
    clear, and the share of clear components of equal sign."""
    cosine = float(F.cosine_similarity(found.flatten(), truth.flatten(), dim=0))
    lengths = truth.norm(dim=1)
    each = F.cosine_similarity(found, truth, dim=1)[lengths > 0.2 * lengths.mean()].mean()
    clear = truth.abs() > 0.2 * truth.abs().mean()
    return cosine, float(each), float((found.sign() == truth.sign())[clear].float().mean())


def _problem(
    config: BenchGradientsConfig, camera: Camera, points: Points, colours: Tensor, target: Tensor, level: int
) -> Problem:
    """Make level `l` of the pyramid the finest of a picture 1/2^l as large: the same points fall into the same pixels."""
    scale = 2**level
    height, width = target.shape[2] // scale, target.shape[3] // scale
    view = camera.reduced(scale)
    raster = RasterConfig(levels=1, near=1e-6)
    projection = project(view, points, raster.near)
    small = F.avg_pool2d(target, scale)[..., :height, :width]
    uv = projection.uv[0]
    inner = (uv > 4).all(1) & (uv < uv.new_tensor([width - 4, height - 4])).all(1)
    drawn = projection.visible[0] & (projection.radius_px[0] >= raster.radius_threshold) & inner
    # Points on the surface: those that the picture's depth test lets through.
    depth = rasterize(projection, colours, width, height, raster).depth[0][0, 0]
    near = torch.nonzero(drawn)[:, 0]
    column, row = uv[near].long().unbind(1)
    near = near[projection.z[0, near] <= (1 + raster.depth_tolerance) * depth[row, column]]
    # Not at the border of a cell: a point's cell has to hold all that it changes.
    within = uv[near] % CELL
    near = near[((within > MARGIN) & (within < CELL - MARGIN)).all(1)]
    order = torch.randperm(len(near), generator=torch.Generator().manual_seed(config.seed))
    return Problem(projection, colours, small, raster, near[order[: config.points]])


@torch.no_grad()
def supersampled_gradient(problem: Problem, shifts: int, step: float) -> Tensor:
    """Return central differences [K, 2] of the loss of the mean picture over sub-pixel shifts of the raster.

    Points in different cells of the picture move at once: each is judged by the loss of its own cell.
    """

    def loss_of_cells(uv: Tensor) -> Tensor:
        total = torch.zeros_like(problem.target)
        for i in range(shifts):
            for j in range(shifts):
                offset = uv.new_tensor([(i + 0.5) / shifts - 0.5, (j + 0.5) / shifts - 0.5])
                total += problem.picture(uv + offset, problem.config)
        squared = 0.5 * (total / shifts**2 - problem.target).double().square().sum(1, keepdim=True)
        height, width = squared.shape[2:]
        return CELL**2 * F.avg_pool2d(F.pad(squared, (0, -width % CELL, 0, -height % CELL)), CELL)[0, 0]

    found = torch.zeros(len(problem.chosen), 2, dtype=torch.float64)
    cell = (problem.projection.uv[0, problem.chosen] / CELL).long().cpu()
    left = torch.arange(len(problem.chosen))
    while len(left):
        together = first_of_each(cell[left])
        moved, (column, row) = left[together], cell[left[together]].unbind(1)
        for axis in range(2):
            ends = []
            for sign in (1, -1):
                uv = problem.projection.uv.clone()
                uv[0, problem.chosen[moved], axis] += sign * step
                ends.append(loss_of_cells(uv)[row, column].cpu())
            found[moved, axis] = (ends[0] - ends[1]) / (2 * step)
        rest = torch.ones(len(left), dtype=torch.bool)
        rest[together] = False
        left = left[rest]
    return found.float()


def _gradient(problem: Problem, config: RasterConfig, ghosts: Tensor | None) -> Tensor:
    uv = problem.projection.uv.clone().requires_grad_()
    (gradient,) = torch.autograd.grad(problem.loss(problem.picture(uv, config, ghosts)), uv)
    return gradient[0, problem.chosen].cpu()


def ghost_gradient(problem: Problem) -> Tensor:
    """Return the published gradient [K, 2]: the compared points are left out and look at what they would change."""
    ghosts = torch.zeros_like(problem.projection.visible)
    ghosts[0, problem.chosen] = True
    return _gradient(problem, problem.config, ghosts)


def bilinear_gradient(problem: Problem) -> Tensor:
    """Return the gradient [K, 2] of points as bilinear footprints, drawn as they are."""
    return _gradient(problem, dataclasses.replace(problem.config, position_gradient="bilinear"), None)


@torch.no_grad()
def slope_gradient(problem: Problem) -> Tensor:
    """Return [K, 2], what Gauss-Newton on the picture takes: difference from the photo times the picture's slope."""
    picture = problem.picture(problem.projection.uv, problem.config)
    mask = torch.ones_like(picture[:, :1])
    picture, target = masked_blur(picture, mask, 0.7), masked_blur(problem.target, mask, 0.7)
    slope = 0.5 * (image_gradient(picture) + image_gradient(target))
    column, row = problem.projection.uv[0, problem.chosen].long().unbind(1)
    difference = (picture - target)[0, :, row, column]
    return -(slope[:, :, row, column] * difference).sum(1).T.cpu()
