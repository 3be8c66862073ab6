"""The environment: kernels against plain torch, the adjoint against finite differences."""

import pytest
import torch

from adop.backend.operator import flatten
from adop.config import EnvironmentConfig
from adop.geometry.camera import Camera
from adop.model.environment import Environment
from adop.ops import Backend, Levels, RasterConfig, draw
from adop.ops.environment import (
    EnvironmentInputs,
    RayGrid,
    RayTensors,
    composite_environment,
    composite_operator,
)
from support.compare import mismatch_fraction, relative_error
from support.strategies import LENSES, make_camera, make_scene

BACKENDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def grid_of(camera: Camera, points: int = 129) -> RayGrid:
    whole = torch.tensor([[1.0, 0.0, 0.0]]).to(camera.crop).expand(len(camera), 3)
    size = whole.new_tensor([[camera.width, camera.height]]).expand(len(camera), 2)
    return RayGrid(camera.ray_grid(points), size, whole, camera.world_to_camera)


def to(grid: RayGrid, device: str) -> RayGrid:
    return RayGrid(*(t.to(device) for t in (grid.local, grid.size, grid.crop, grid.world_to_camera)))


@pytest.mark.parametrize("model", sorted(LENSES))
def test_rays_interpolated_on_the_grid_are_nearly_exact(model: str) -> None:
    camera = make_camera(model, 2, 96, 64)
    grid = camera.ray_grid(129)
    rows, columns = grid.shape[2:]
    assert (rows, columns) == (86, 129)
    v, u = torch.meshgrid((torch.arange(64) + 0.5) / 64, (torch.arange(96) + 0.5) / 96, indexing="ij")
    place = torch.stack((2 * u - 1, 2 * v - 1), -1)[None].expand(2, -1, -1, -1)
    local = torch.nn.functional.grid_sample(grid, place, align_corners=True)
    world = torch.einsum("bji,bjhw->bihw", camera.world_to_camera[:, :3, :3], local)
    error = (torch.nn.functional.normalize(world, dim=1) - camera.rays(0)).norm(dim=1)
    pixel = 1 / float(camera.crop[0, 0] * camera.intrinsics[0, 0])
    assert float(error.quantile(0.99)) < 0.02 * pixel


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("model", sorted(LENSES))
def test_empty_pixels_show_the_environment_along_their_rays(model: str, backend: str) -> None:
    scene = make_scene(model, views=2, points=400, width=70, height=45)
    levels = draw(scene.camera, scene.points, scene.features, RasterConfig())
    environment = Environment(EnvironmentConfig(height=64), 4)
    generator = torch.Generator().manual_seed(0)
    # Smooth, so that interpolating the rays changes little.
    coarse = torch.randn(1, 4, 8, 16, generator=generator)
    environment.map.data = torch.nn.functional.interpolate(coarse, size=(64, 128), mode="bilinear")
    directions = [scene.camera.rays(level) for level in range(4)]
    behind = environment(directions, 0.02)
    weights = [torch.randn(image.shape, generator=generator) for image in behind]
    pairs = zip(levels.weight, levels.features, behind, strict=True)
    expected = [torch.where(weight > 0, image, b) for weight, image, b in pairs]
    loss = sum((e * w).sum() for e, w in zip(expected, weights, strict=True))
    (slope,) = torch.autograd.grad(loss, environment.map)  # type: ignore[arg-type]
    moved = environment.to(backend)
    images = [image.to(backend).requires_grad_() for image in levels.features]
    there = [[t.to(backend) for t in part] for part in (levels.weight, levels.depth)]
    grid, blurs = to(grid_of(scene.camera), backend), moved.mip_levels(0.02, len(images))
    shown = moved.composite(Levels(images, *there), grid, blurs).features
    loss = sum((s * w.to(backend)).sum() for s, w in zip(shown, weights, strict=True))
    got, *below = torch.autograd.grad(loss, [moved.map, *images])  # type: ignore[arg-type, list-item]
    for image, e, weight in zip(shown, expected, levels.weight, strict=True):
        # Coarse pixels at the border extend beyond the photo, where the grid ends.
        inner = (slice(None), slice(None), slice(0, image.shape[2] - 1), slice(0, image.shape[3] - 1))
        assert float((image.detach().cpu() - e.detach())[inner].abs().max()) < 0.02
        drawn = (weight > 0).expand_as(e)
        assert torch.equal(image.detach().cpu()[drawn], e.detach()[drawn])
    assert float((got.cpu() - slope).norm() / slope.norm()) < 0.05
    for g, w, weight in zip(below, weights, levels.weight, strict=True):
        assert torch.equal(g.cpu(), w * (weight > 0))


def small() -> tuple[list[torch.Tensor], torch.Tensor, list[torch.Tensor], list[torch.Tensor], list[int]]:
    """Return a pyramid of two views with empty pixels, a map, and the cameras, in double precision."""
    scene = make_scene(views=2, points=60, width=9, height=7, levels=3, dtype=torch.float64)
    levels = draw(scene.camera, scene.points, scene.features, RasterConfig(levels=3))
    generator = torch.Generator().manual_seed(1)
    map = torch.randn(8, 16, 4, generator=generator, dtype=torch.float64).requires_grad_()
    grid = grid_of(scene.camera)
    camera = [grid.local, grid.world_to_camera.contiguous(), grid.crop.contiguous(), grid.size.contiguous()]
    return [i.requires_grad_() for i in levels.features], map, levels.weight, camera, [0, 1, 2]


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_gradients_are_exact(backend: Backend) -> None:
    images, map, weights, camera, blurs = small()
    assert all((w == 0).any() for w in weights) and any((w > 0).any() for w in weights)
    grid = RayGrid(camera[0], camera[3], camera[2], camera[1])

    def run(*leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return tuple(composite_environment(list(leaves[:3]), weights, leaves[3], blurs, grid, backend))

    assert torch.autograd.gradcheck(run, (*images, map))


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_the_seam_and_the_poles(backend: Backend) -> None:
    """A ray to the back is interpolated across the seam; one straight up meets the first row."""
    map = torch.arange(32.0).reshape(4, 8, 1)
    pose = torch.eye(4)[None]
    for direction, expected in (((0.0, 0.0, -1.0), 0.5 * (8 + 15 + 16 + 23) / 2), ((0.0, -1.0, 1e-9), 3.5)):
        local = torch.tensor(direction).reshape(1, 3, 1, 1).expand(1, 3, 2, 2).contiguous()
        grid = RayGrid(local, torch.ones(1, 2), torch.tensor([[1.0, 0.0, 0.0]]), pose)
        empty = [torch.zeros(1, 1, 1, 1)]
        shown = composite_environment(empty, empty, map, [0], grid, backend)
        assert float(shown[0]) == pytest.approx(expected, abs=1e-3)


def test_operator_is_registered_right() -> None:
    images, map, weights, camera, blurs = small()
    rays, pose, crop, size = camera
    inputs = EnvironmentInputs(images, map, weights, RayTensors(rays, size, crop, pose), blurs)
    torch.library.opcheck(composite_operator.registered, flatten(inputs))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("model", sorted(LENSES))
def test_kernels_and_plain_torch_agree(model: str, backend: str) -> None:
    scene = make_scene(model, views=2, points=300, width=70, height=45)
    levels = draw(scene.camera, scene.points, scene.features, RasterConfig())
    generator = torch.Generator().manual_seed(2)
    map = torch.randn(64, 128, 4, generator=generator)
    weights = [torch.randn(image.shape, generator=generator) for image in levels.features]
    results = []
    for which in ("reference", backend):
        device = "cpu" if which == "reference" else which
        images = [image.to(device).requires_grad_() for image in levels.features]
        texels, covered = map.to(device).requires_grad_(), [w.to(device) for w in levels.weight]
        shown = composite_environment(
            images,
            covered,
            texels,
            [0, 1, 1, 2],
            to(grid_of(scene.camera, 33), device),
            which,  # type: ignore[arg-type]
        )
        loss = sum((s * w.to(device)).sum() for s, w in zip(shown, weights, strict=True))
        gradients = torch.autograd.grad(loss, [*images, texels])  # type: ignore[arg-type]
        results.append([t.detach().cpu() for t in (*shown, *gradients)])
    for expected, got in zip(*results, strict=True):
        # Beside the poles a rounded direction is far away on the map: there few values may differ.
        assert mismatch_fraction(got, expected, 2e-3) < 1e-3
        assert relative_error(got, expected) < 1e-3


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pose_without_numbers_shows_none_and_harms_no_other_view(backend: str) -> None:
    scene = make_scene("opencv", views=2, points=400, width=70, height=45)
    device = "cuda" if backend == "cuda" else "cpu"
    levels = draw(scene.camera, scene.points, scene.features, RasterConfig())
    environment = Environment(EnvironmentConfig(height=64), 4)
    grid = grid_of(scene.camera)
    pose = grid.world_to_camera.clone()
    pose[1] = torch.nan
    images, weights = ([t.to(device) for t in part] for part in (levels.features, levels.weight))
    blurs, moved = environment.mip_levels(0.02, len(images)), environment.to(device)
    right, broken = (
        moved.composite(
            Levels(images, weights, levels.depth),
            to(RayGrid(grid.local, grid.size, grid.crop, poses), device),
            blurs,
        ).features
        for poses in (grid.world_to_camera, pose)
    )
    for expected, got in zip(right, broken, strict=True):
        assert torch.equal(expected[0], got[0])
