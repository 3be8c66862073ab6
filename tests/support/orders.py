"""The rasterizer run in each order that its kernels have: by point, by band, and through autograd."""

from dataclasses import replace

import torch
from torch import Tensor

from adop.ops import Levels, Projection, rasterize
from adop.ops.projection import ProjectedTensors
from adop.ops.rasterization import (
    RasterizeGradientInputs,
    RasterizeInputs,
    pyramid_settings,
    rasterize_backward_by_point,
    rasterize_by_point,
)
from support.strategies import Scene


def rasterize_inputs(scene: Scene, projection: Projection) -> RasterizeInputs:
    """Return what the kernels take of a scene whose points are projected."""
    parts = (projection.uv, projection.z, projection.radius_px, projection.visible)
    projected = ProjectedTensors(*(part.detach().contiguous() for part in parts))
    background = [scene.background.reshape(1, -1, 1, 1)] * scene.config.levels
    size = (scene.camera.width, scene.camera.height)
    settings = pyramid_settings(scene.config)
    seen = (projection.xyz, projection.centres) if scene.config.harmonics else (None, None)
    return RasterizeInputs(projected, scene.features, background, scene.ghosts, *size, settings, *seen)


def by_point(scene: Scene, projection: Projection, grads: list[Tensor]) -> tuple[Levels, dict[str, Tensor]]:
    """Run the kernels of a GPU, one thread per point, with the CPU's atomics."""
    inputs = rasterize_inputs(scene, projection)
    drawn = rasterize_by_point(inputs)
    drawn_from = (inputs.projected, inputs.features, inputs.ghosts, inputs.settings)
    sources = RasterizeGradientInputs(grads, drawn, *drawn_from, inputs.xyz, inputs.centres, spatial=True)
    gradients = rasterize_backward_by_point(sources)
    return Levels(drawn.images, drawn.weights, drawn.depths), gradients._asdict()


def by_band(scene: Scene, projection: Projection, grads: list[Tensor]) -> tuple[Levels, dict[str, Tensor]]:
    """Run the kernels of a CPU, one thread per band of rows."""
    return through_autograd(scene, projection, grads, "cpu")


def through_autograd(
    scene: Scene, projection: Projection, grads: list[Tensor], backend: str
) -> tuple[Levels, dict[str, Tensor]]:
    """Run the op of a backend, and autograd on the gradients of its images."""
    features, uv = scene.features.clone().requires_grad_(), projection.uv.detach().clone().requires_grad_()
    moved = replace(projection, uv=uv, z=projection.z.detach())
    size = (scene.camera.width, scene.camera.height)
    levels = rasterize(moved, features, *size, scene.config, scene.background, scene.ghosts, backend)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(levels.features, (features, uv), grads)
    return levels, dict(zip(("features", "uv"), gradients, strict=True))
