"""The GPU check of image operations, such as hole filling, loss and stereo, and of points that come block by block."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.bench.raster.scene import bench_camera, make_bench_scene
from adop.config import EnvironmentConfig
from adop.geometry.camera import Camera
from adop.model.block_cache import BlockCache
from adop.model.environment import Environment
from adop.model.hole_filling import fill_holes
from adop.model.point_store import StoredPoints
from adop.model.tonemapper import Tonemapper
from adop.ops import Backend, Levels, RasterConfig, draw, visible_blocks
from adop.ops.environment import RayGrid
from adop.ops.image_loss import image_loss_sums
from adop.ops.renderer.inputs import SHOWN, renderer_inputs
from adop.ops.renderer.output import renderer_output
from adop.ops.tonemap import tonemap_photo
from adop.reprojection.photo_table import PhotoTable, photo_cameras
from adop.reprojection.reproject import Light, reproject
from adop.stereo.patch_match import plane_costs, random_planes, sweep_planes
from adop.stereo.problem import StereoProblem, StereoView, Sweep

POINTS = 20_000  # few, so that there are holes
SCALE = 0.25  # of the benchmark's camera
LEVELS = 4
HEIGHT, WIDTH = 120, 160  # pixels of the photos
PIXEL_ANGLE = 0.005  # radians


def _levels(device: str) -> Levels:
    """Return a sparse pyramid whose feature images are leaves."""
    scene = make_bench_scene(POINTS)
    camera, raster = scene.camera.scaled(SCALE), RasterConfig(levels=LEVELS)
    levels = draw(camera, scene.points, scene.features, raster, backend="reference")
    images = [image.to(device).requires_grad_() for image in levels.features]
    return Levels(images, [w.to(device) for w in levels.weight], [d.to(device) for d in levels.depth])


def _with_gradients(images: list[Tensor], leaves: list[Tensor]) -> list[Tensor]:
    """Return images, and the gradients of a fixed weighting of them, on the CPU."""
    generator = torch.Generator().manual_seed(5)
    weights = [torch.randn(image.shape, generator=generator).to(image.device) for image in images]
    gradients = torch.autograd.grad(images, leaves, weights, allow_unused=True, materialize_grads=True)
    return [tensor.detach().cpu() for tensor in (*images, *gradients)]


def hole_filling(device: str, backend: Backend) -> list[Tensor]:
    """Return hole-filled images and their gradients."""
    levels = _levels(device)
    filled = fill_holes(levels, None, fill_levels=3, tolerance=0.05, backend=backend)
    return _with_gradients(filled.colours, levels.features)


def environment(device: str, backend: Backend) -> list[Tensor]:
    """Return levels over the environment, and their gradients."""
    levels, camera = _levels(device), bench_camera().scaled(SCALE)
    model = Environment(EnvironmentConfig(height=32), 4)
    generator = torch.Generator().manual_seed(6)
    with torch.no_grad():
        model.map.copy_(torch.randn(model.map.shape, generator=generator))
    model = model.to(device)
    if backend == "reference":
        backgrounds = model([camera.rays(level) for level in range(LEVELS)], PIXEL_ANGLE)
        parts = zip(levels.weight, levels.features, backgrounds, strict=True)
        images = [torch.where(weight > 0, image, background) for weight, image, background in parts]
    else:
        crop = torch.tensor([[1.0, 0.0, 0.0]])
        size = torch.tensor([[camera.width, camera.height]]).float()
        rays = (camera.ray_grid(129), size, crop, camera.world_to_camera)
        grid = RayGrid(*(tensor.to(device) for tensor in rays))
        images = model.composite(levels, grid, model.mip_levels(PIXEL_ANGLE, LEVELS)).features
    return _with_gradients(images, [*levels.features, model.map])


def network_ends(device: str, backend: Backend) -> list[Tensor]:
    """Return what a network reads of a pyramid, the radiance that its outputs stand for, and their gradients."""
    levels = _levels(device)
    with torch.no_grad():
        filled = fill_holes(levels, None, fill_levels=3, tolerance=0.05, backend=backend)
    colours = [colour.requires_grad_() for colour in filled.colours]
    generator = torch.Generator().manual_seed(10)
    size, light = colours[0].shape[2:], torch.full((1,), 0.4, device=device)
    shown = torch.randn(1, SHOWN, *size, generator=generator)
    shown[:, 3] = (shown[:, 3] > 0).float()
    outputs = torch.randn(1, 9, *size, generator=generator).to(device).requires_grad_()
    seen = shown.to(device)
    inputs = renderer_inputs(levels, filled._replace(colours=colours), light, seen, True, backend)
    radiance = renderer_output(outputs, colours[0], light, seen, backend)
    return _with_gradients([*inputs, radiance], [*levels.features, *colours, outputs])


def physical_camera(device: str, backend: Backend) -> list[Tensor]:
    """Return photos of a physical camera, and their gradients."""
    generator = torch.Generator().manual_seed(7)
    model = Tonemapper(torch.zeros(2), torch.zeros(2).long(), torch.ones(2).bool())
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.1)
    model = model.to(device)
    radiance = (torch.rand(2, 3, HEIGHT, WIDTH, generator=generator) * 1.5).to(device).requires_grad_()
    photometry, lens = model.photometry(torch.arange(2, device=device)), model.lens
    crop, size = torch.tensor([[1.0, 0.0, 0.0]] * 2), torch.tensor([[float(WIDTH), float(HEIGHT)]] * 2)
    camera = model.physical_camera(photometry, crop.to(device), size.to(device), lens, leak=True)
    image = tonemap_photo(radiance, camera, backend)
    return _with_gradients([image], [radiance, *model.parameters()])


def image_loss(device: str, backend: Backend) -> list[Tensor]:
    """Return the sums that the training loss is made of, and their gradient."""
    generator = torch.Generator().manual_seed(8)
    image, target = (torch.rand(2, 3, HEIGHT, WIDTH, generator=generator).to(device) for _ in range(2))
    mask = (torch.rand(2, 1, HEIGHT, WIDTH, generator=generator) > 0.1).float().to(device)
    image.requires_grad_()
    return _with_gradients([image_loss_sums(image, target, mask, True, backend)], [image])


def stereo(device: str, backend: Backend) -> list[Tensor]:
    """Return costs of random planes in two photos beside a third, then the planes after a sweep, in double precision."""
    generator = torch.Generator().manual_seed(9)
    coarse = torch.rand(1, 1, HEIGHT // 8, WIDTH // 8, generator=generator, dtype=torch.float64)
    image = F.interpolate(coarse, size=(HEIGHT, WIDTH), mode="bicubic")[0, 0].to(device)
    middle = [[WIDTH, 0, WIDTH / 2], [0, WIDTH, HEIGHT / 2], [0, 0, 1]]
    intrinsics = torch.tensor(middle, dtype=torch.float64)
    views = []
    for shift in (0.0, 0.1, -0.2):
        pose = torch.eye(4, dtype=torch.float64)
        pose[0, 3] = shift
        views.append(StereoView(image, intrinsics, pose))
    problem = StereoProblem(views[0], tuple(views[1:]), min_inverse=0.1, max_inverse=1.0)
    planes = random_planes(problem, generator)
    costs = plane_costs(problem, planes, backend)
    planes, lower = sweep_planes(problem, planes, costs, Sweep(0, 0.5), backend)
    return [tensor.cpu() for tensor in (costs, planes, lower)]


def photos(device: str, backend: Backend) -> list[Tensor]:
    """Return what three photos of a wall show of it in another view; smooth, so that rounding chooses no other values."""
    camera = bench_camera().scaled(SCALE)
    size = torch.tensor([camera.width, camera.height])
    cameras = [_moved(camera, shift).to(device) for shift in (-0.1, 0.05, 0.2)]
    row = torch.linspace(40, 200, camera.width).to(torch.uint8)
    pixels = row[None, :, None].expand(camera.height, -1, 3).flatten().repeat(len(cameras))
    halves, rows = (size + 1) // 2, torch.arange(len(cameras))
    numbers = (3 * int(size.prod()), int(halves.prod()))
    places = [*(rows * number for number in numbers), *(torch.full_like(rows, int(n)) for n in (*size, 0))]
    surfaces = torch.full((len(cameras) * numbers[1],), 4.0)
    parts = (pixels, surfaces, torch.stack(places, 1), torch.zeros(1, 3), torch.ones(len(cameras), 1).bool())
    packed, near, begin, samples, seen = (part.to(device) for part in parts)
    lenses = photo_cameras(cameras)
    table = PhotoTable(camera.model, lenses, packed, near, begin, samples, seen, {}, rows.to(device))
    curve, gain = (torch.arange(256.0) / 100).expand(1, 3, 256), torch.zeros(len(cameras), 3)
    light = Light(*(part.contiguous().to(device) for part in (curve, gain, torch.full((1, 5), -0.01))))
    whole = torch.tensor([[1.0, 0.0, 0.0]])
    grid = (camera.ray_grid(129), size[None].float(), whole, camera.world_to_camera)
    rays = RayGrid(*(tensor.to(device) for tensor in grid))
    depth = torch.full((1, 1, camera.height, camera.width), 4.0, device=device)
    chosen = torch.tensor([[2, -1, 0, 1]], device=device)
    return [reproject(table, chosen, camera.to(device), rays, depth, light, 1e5, backend).cpu()]


def points_in_blocks(device: str, backend: Backend) -> list[Tensor]:
    """Return levels of two views of stored points, of which the device has room for those of either view alone."""
    scene = make_bench_scene(POINTS)
    points, blocks = scene.points, scene.points.blocks
    assert blocks is not None
    stored = StoredPoints(points.xyz, points.radius, points.normals, scene.features, blocks)
    left = scene.camera.cropped(1.0, 0.0, 0.0, scene.camera.width // 4, scene.camera.height)
    right = scene.camera.cropped(1.0, 0.75 * scene.camera.width, 0.0, left.width, left.height)
    raster = RasterConfig(levels=LEVELS)
    cameras = (left.to(device), right.to(device))
    needed = [int(visible_blocks(camera, blocks.to(device), raster).sum()) for camera in cameras]
    cache = BlockCache(stored, torch.device(device), max(needed) * blocks.size * stored.bytes_per_point)
    images: list[Tensor] = []
    for camera in cameras:
        cache.bring([camera], raster)
        own = (points, scene.features) if backend == "reference" else (cache.points, cache.features)
        images += draw(camera, *own, raster, backend=backend).features
    return [image.cpu() for image in images]


def _moved(camera: Camera, shift: float) -> Camera:
    """Return a camera (B = 1) that is moved sideways."""
    pose = camera.world_to_camera.clone()
    pose[0, 0, 3] += shift
    return replace(camera, world_to_camera=pose)


OPERATIONS: dict[str, Callable[[str, Backend], list[Tensor]]] = {
    "hole filling": hole_filling,
    "environment": environment,
    "network's ends": network_ends,
    "physical camera": physical_camera,
    "loss": image_loss,
    "stereo": stereo,
    "photos": photos,
    "points in blocks": points_in_blocks,
}


def image_errors(device: Backend) -> dict[str, float]:
    """Return, for each operation, the largest relative error of its images and gradients on a device."""
    errors = {}
    for name, run in OPERATIONS.items():
        pairs = zip(run(device, device), run("cpu", "reference"), strict=True)
        errors[name] = max(float((found - e).norm() / e.norm().clamp_min(1e-6)) for found, e in pairs)
    return errors
