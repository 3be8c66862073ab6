"""The part of the GPU check that looks at pictures: base picture, environment, physical camera and loss."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adop.bench.raster_scene import bench_camera, make_bench_scene
from adop.config.config import EnvironmentConfig
from adop.model.environment import Environment
from adop.model.hole_filling import fill_holes
from adop.model.tonemapper import Tonemapper
from adop.ops import Backend, Levels, RasterConfig, draw
from adop.ops.environment import RayGrid
from adop.ops.image_loss import image_loss_sums

POINTS = 20_000


def _levels(device: str) -> Levels:
    """Return a sparse pyramid, so that there are holes, whose images are leaves."""
    scene = make_bench_scene(POINTS)
    levels = draw(
        scene.camera.scaled(0.25), scene.points, scene.features, RasterConfig(), backend="reference"
    )
    images = [image.to(device).requires_grad_() for image in levels.features]
    return Levels(images, [w.to(device) for w in levels.weight], [d.to(device) for d in levels.depth])


def _with_gradients(pictures: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    """Return pictures and the gradients of a fixed weighting of them, on the CPU."""
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(p.shape, generator=generator).to(p.device) for p in pictures]
    gradients = torch.autograd.grad(pictures, leaves, weights, allow_unused=True, materialize_grads=True)
    return [t.detach().cpu() for t in (*pictures, *gradients)]


def base(device: str, backend: Backend) -> list[Tensor]:
    """Return the base picture and its gradients."""
    levels = _levels(device)
    return _with_gradients(fill_holes(levels, None, 3, 0.05, backend).colours, levels.features)


def environment(device: str, backend: Backend) -> list[Tensor]:
    """Return what lies behind the points, and its gradients."""
    levels, camera = _levels(device), bench_camera().scaled(0.25)
    model = Environment(EnvironmentConfig(height=32), 4)
    generator = torch.Generator().manual_seed(6)
    model.map.data.copy_(torch.randn(model.map.shape, generator=generator))
    model = model.to(device)
    if backend == "reference":
        behind = model([camera.rays(level) for level in range(4)], 0.005)
        triples = zip(levels.weight, levels.features, behind, strict=True)
        shown = [torch.where(weight > 0, image, b) for weight, image, b in triples]
    else:
        whole, size = torch.tensor([[1.0, 0.0, 0.0]]), torch.tensor([[camera.width, camera.height]]).float()
        parts = (camera.ray_grid(129), size, whole, camera.world_to_camera)
        grid, blurs = RayGrid(*(part.to(device) for part in parts)), model.blurs(0.005, len(levels.features))
        shown = model.show_behind(levels, grid, blurs).features
    return _with_gradients(shown, [*levels.features, model.map])


def photo(device: str, backend: Backend) -> list[Tensor]:
    """Return a photo and its gradients."""
    generator = torch.Generator().manual_seed(7)
    model = Tonemapper(torch.zeros(2), torch.zeros(2).long(), torch.ones(2).bool())
    for parameter in model.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.1
    model = model.to(device)
    radiance = (torch.rand(2, 3, 120, 160, generator=generator) * 1.5).to(device).requires_grad_()
    photometry, lens = model.photometry(torch.arange(2, device=device)), model.lens
    v, u = torch.meshgrid(torch.arange(120) + 0.5 - 60, torch.arange(160) + 0.5 - 80, indexing="ij")
    position = (torch.stack((u, v)) / 100)[None].expand(2, -1, -1, -1).to(device)
    if backend == "reference":
        image = model(radiance, photometry, position, lens, True)
    else:
        crop, size = torch.tensor([[1.0, 0.0, 0.0]] * 2), torch.tensor([[160.0, 120.0]] * 2)
        image = model.take(radiance, photometry, crop.to(device), size.to(device), lens, True)
    return _with_gradients([image], [radiance, *model.parameters()])


def loss(device: str, backend: Backend) -> list[Tensor]:
    """Return the sums of a comparison and their gradient."""
    generator = torch.Generator().manual_seed(8)
    image, target = (torch.rand(2, 3, 120, 160, generator=generator).to(device) for _ in range(2))
    mask = (torch.rand(2, 1, 120, 160, generator=generator) > 0.1).float().to(device)
    image.requires_grad_()
    return _with_gradients([image_loss_sums(image, target, mask, True, backend)], [image])


PICTURES: dict[str, Callable[[str, Backend], list[Tensor]]] = {
    "base picture": base,
    "environment": environment,
    "physical camera": photo,
    "loss": loss,
}


def picture_errors(device: str) -> dict[str, float]:
    """Return the largest relative error of each kind of picture and its gradients, against the oracle."""
    errors = {}
    for name, run in PICTURES.items():
        pairs = zip(run(device, device), run("cpu", "reference"), strict=True)  # type: ignore[arg-type]
        errors[name] = max(float((got - e).norm() / e.norm().clamp_min(1e-6)) for got, e in pairs)
    return errors
