"""The GPU check of the rasterizer: images and gradients against the torch reference, and the time of each."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from adop.bench.raster.benchmark import median_ms
from adop.bench.raster.scene import BenchScene
from adop.geometry.camera import Camera
from adop.ops import Backend, Points, RasterConfig, draw, make_blocks

DISTORTION = {  # of each camera model
    "opencv": [-0.05, 0.01, 0.001, -0.001, 0.002, 0.0, 0.0, 0.0],
    "fisheye": [0.01, -0.005, 0.001, 0.0],
    "ocam": [1.0, 0.001, -0.001, 0.3, 1256.637, 800.0, *[0.0] * 14],
}
# Relative. Single precision rounds a few points across a pixel's edge, and on a GPU not the same ones as on a CPU.
ALLOWED = {torch.float32: 0.02, torch.float64: 1e-9}
GHOST_FRACTION = 0.25


@dataclass(frozen=True)
class RasterCase:
    """A camera model, a precision and a raster configuration to compare in."""

    model: str
    dtype: torch.dtype = torch.float32
    raster: RasterConfig = field(default_factory=RasterConfig)

    @property
    def name(self) -> str:
        """The case in words."""
        return f"{self.model}, {self.raster.position_gradient}, {str(self.dtype).removeprefix('torch.')}"


def camera_and_leaves(scene: BenchScene, case: RasterCase, device: str) -> tuple[Camera, dict[str, Tensor]]:
    """Return the scene's camera with the case's lens, and all tensors that gradients are taken of, on a device."""
    camera = scene.camera
    values = {
        "features": scene.features,
        "background": torch.full((4,), 0.5),
        "xyz": scene.points.xyz,
        "pose": camera.world_to_camera,
        "intrinsics": camera.intrinsics,
        "distortion": torch.tensor([DISTORTION[case.model]]),
    }
    leaves = {
        name: value.to(device, case.dtype, copy=True).requires_grad_() for name, value in values.items()
    }
    lens = (leaves["intrinsics"], leaves["distortion"], leaves["pose"])
    return Camera(case.model, camera.width, camera.height, *lens), leaves  # type: ignore[arg-type]


def draw_with_gradients(
    scene: BenchScene, case: RasterCase, device: str, backend: Backend
) -> dict[str, Tensor]:
    """Return all images and all gradients of a case, by name, on the CPU."""
    camera, leaves = camera_and_leaves(scene, case, device)
    radius = scene.points.radius.to(device, case.dtype)
    blocks = None
    if scene.points.blocks is not None and backend != "reference":
        blocks = make_blocks(leaves["xyz"].detach(), radius, scene.points.blocks.size)
    points = Points(leaves["xyz"], radius, None, blocks)
    ghosts = torch.rand(1, len(scene.features), generator=torch.Generator().manual_seed(1)) < GHOST_FRACTION
    features, background = leaves["features"], leaves["background"]
    levels = draw(camera, points, features, case.raster, background, ghosts.to(device), backend)
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(image.shape, generator=generator).to(image) for image in levels.features]
    gradients = torch.autograd.grad(levels.features, list(leaves.values()), weights)
    values = {}
    for level in range(len(levels.features)):
        values[f"level {level} features"] = levels.features[level]
        values[f"level {level} weight"] = levels.weight[level]
        values[f"level {level} depth"] = levels.depth[level].nan_to_num(posinf=0.0)
    values |= {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}
    return {name: value.detach().cpu() for name, value in values.items()}


def raster_errors(scene: BenchScene, case: RasterCase, device: Backend) -> dict[str, float]:
    """Return the relative error of each image and gradient of the kernels on a device, in the Euclidean norm."""
    found = draw_with_gradients(scene, case, device, device)
    expected = draw_with_gradients(scene, case, "cpu", "reference")
    return {
        name: float((found[name] - value).norm() / value.norm().clamp_min(1e-12))
        for name, value in expected.items()
    }


def raster_times(scene: BenchScene, backend: Backend, repeats: int) -> dict[str, float]:
    """Return median milliseconds of drawing on the GPU, by pass."""
    camera, leaves = camera_and_leaves(scene, RasterCase("opencv"), "cuda")
    points = Points(leaves["xyz"], scene.points.radius.cuda())
    all_ghosts = torch.rand(1, len(scene.features), device="cuda") < GHOST_FRACTION
    features, raster = leaves["features"], RasterConfig()

    def forward() -> None:
        with torch.no_grad():
            draw(camera, points, features, raster, backend=backend)

    def backward(inputs: list[Tensor], ghosts: Tensor | None) -> None:
        levels = draw(camera, points, features, raster, None, ghosts, backend)
        torch.autograd.grad(levels.features, inputs, [torch.ones_like(image) for image in levels.features])

    every_leaf = [features, leaves["xyz"], leaves["pose"], leaves["intrinsics"]]
    return {
        "forward": median_ms(forward, repeats),
        "forward, feature gradient": median_ms(lambda: backward([features], None), repeats),
        "forward, all gradients": median_ms(lambda: backward(every_leaf, all_ghosts), repeats),
    }
