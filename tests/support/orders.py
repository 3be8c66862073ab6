"""The rasterizer run in every order that its kernels have: by point, by band, and through autograd."""

import sys

import torch
from torch import Tensor

from adop.ops import Levels, Projection, rasterize
from support.strategies import Scene

module = sys.modules["adop.ops.rasterize"]  # the package's function of that name hides it


def by_point(scene: Scene, projection: Projection, grads: list[Tensor]) -> tuple[Levels, dict[str, Tensor]]:
    """Run the kernels that a GPU runs, one thread per point, with the CPU's atomics."""
    views = projection.z.shape[0]
    camera, config, features = scene.camera, scene.config, scene.features
    settings = (camera.width, camera.height, *module.config_settings(config))
    size = (camera.height, camera.width)
    images, weights, depths = module.empty_levels(features, views, features.shape[1], size, config.levels)
    parts = [projection.uv, projection.z, projection.radius_px, projection.visible]
    parts = [part.detach().contiguous() for part in parts]
    values = module.projected_values(*parts, scene.ghosts)
    values |= module.pyramid_values(
        settings, features, [scene.background.reshape(1, -1, 1, 1)] * config.levels
    )
    module.forward_by_point(values, (images, weights, depths), parts[1])
    gradients = {"features": torch.zeros_like(features), "uv": torch.zeros_like(parts[0])}
    values |= {"image": images, "weight": weights, "depth": depths, "grad_image": grads}
    values |= {"grad_features": gradients["features"], "grad_uv": gradients["uv"]}
    module.backward_by_point(values, parts[1], True)
    return Levels(images, weights, depths), gradients


def by_band(scene: Scene, projection: Projection, grads: list[Tensor]) -> tuple[Levels, dict[str, Tensor]]:
    return through_autograd(scene, projection, grads, "cpu")


def through_autograd(
    scene: Scene, projection: Projection, grads: list[Tensor], backend: str
) -> tuple[Levels, dict[str, Tensor]]:
    features, uv = scene.features.clone().requires_grad_(), projection.uv.detach().clone().requires_grad_()
    moved = Projection(uv, projection.z.detach(), projection.radius_px, projection.visible)
    size = (scene.camera.width, scene.camera.height)
    levels = rasterize(moved, features, *size, scene.config, scene.background, scene.ghosts, backend)  # type: ignore[arg-type]
    gradients = torch.autograd.grad(levels.features, (features, uv), grads)
    return levels, dict(zip(("features", "uv"), gradients, strict=True))
