"""The full check to run on a GPU: every output and gradient against the oracle, and the time of each."""

import itertools
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from adop.bench.raster import median_ms
from adop.bench.raster_scene import BenchScene, make_bench_scene
from adop.doctor.gpu_pictures import picture_errors
from adop.doctor.gpu_step import replay_error
from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.ops import Backend, Points, RasterConfig, draw, make_blocks
from adop.run.run import has_bf16
from adop.training.sparse_adam import AdamSettings, RowMoments, sparse_adam_

POINTS = 1_000_000
MODELS = {
    "opencv": [-0.05, 0.01, 0.001, -0.001, 0.002, 0.0, 0.0, 0.0],
    "fisheye": [0.01, -0.005, 0.001, 0.0],
    "ocam": [1.0, 0.001, -0.001, 0.3, 1256.637, 800.0, *[0.0] * 14],
}
# Single precision rounds a few points across a pixel's edge, on a GPU others than in the oracle.
ALLOWED = {torch.float32: 0.02, torch.float64: 1e-9}


@dataclass(frozen=True)
class Check:
    """One value that the GPU computed."""

    name: str
    error: float  # relative, in the Euclidean norm
    allowed: float

    @property
    def passed(self) -> bool:
        return self.error <= self.allowed


def gpu_check(json_file: Path | None) -> int:
    """Print a table of parity and one of speed; return 1 where a value is off, else 0."""
    if not torch.cuda.is_available():
        build = torch.version.cuda or "none, a CPU build"
        raise UserError(
            f"--gpu-check needs a CUDA GPU, and torch finds none (its CUDA: {build}); "
            "--compile-matrix checks the kernels without one"
        )
    scene = make_bench_scene(POINTS)
    checks = [check_adam()]
    for model, dtype in itertools.product(MODELS, ALLOWED):
        checks += check_model(scene, model, dtype)
    checks += check_model(scene, "opencv", config=RasterConfig(position_gradient="bilinear"))
    # The environment's rays are interpolated by the kernels and not by the oracle.
    checks += [Check(f"{name}, gradients", error, 0.001) for name, error in picture_errors("cuda").items()]
    for name, bf16, allowed in (("float32", False, 0.01), ("bfloat16", True, 0.05)):
        if not bf16 or has_bf16(torch.device("cuda")):
            error = replay_error("cuda", bf16)
            checks.append(Check(f"training step as a CUDA graph, {name}, gradients", error, allowed))
    print(f"{torch.cuda.get_device_name()}, {POINTS} points")
    for check in checks:
        verdict = "ok  " if check.passed else "FAIL"
        print(f"{verdict} {check.name:<46} relative error {check.error:.1e} of {check.allowed:.0e}")
    times, slow = measure(scene, "cuda", 15), measure(scene, "reference", 5)
    for name, milliseconds in times.items():
        print(
            f"{name:<40} {milliseconds:8.3f} ms, {milliseconds * 1e6 / POINTS:.3f} ns per point, "
            f"{slow[name] / milliseconds:.0f} times as fast as torch on this GPU"
        )
    failed = [check for check in checks if not check.passed]
    if json_file:
        result = {
            "checks": [asdict(c) | {"passed": c.passed} for c in checks],
            "milliseconds": {"ours": times, "reference": slow},
        }
        json_file.write_text(json.dumps(result, indent=1) + "\n")
    print(f"{len(checks) - len(failed)} of {len(checks)} values agree with the oracle")
    return 1 if failed else 0


def view(
    scene: BenchScene, model: str, device: str, dtype: torch.dtype = torch.float32
) -> tuple[Camera, dict[str, Tensor]]:
    """Return the benchmark's camera with another lens on a device, and its leaves."""
    base = scene.camera
    values = {
        "features": scene.features,
        "background": torch.full((4,), 0.5),
        "xyz": scene.points.xyz,
        "pose": base.world_to_camera,
        "intrinsics": base.intrinsics,
        "distortion": torch.tensor([MODELS[model]]),
    }
    leaves = {name: value.to(device, dtype, copy=True).requires_grad_() for name, value in values.items()}
    lens = (leaves["intrinsics"], leaves["distortion"], leaves["pose"])
    return Camera(model, base.width, base.height, *lens), leaves  # type: ignore[arg-type]


def evaluate(
    scene: BenchScene, model: str, device: str, backend: str, config: RasterConfig, dtype: torch.dtype
) -> dict[str, Tensor]:
    """Return all pictures and all gradients, on the CPU."""
    camera, leaves = view(scene, model, device, dtype)
    table, radius = scene.points.blocks, scene.points.radius.to(device, dtype)
    blocks = None
    if table is not None and backend != "reference":
        blocks = make_blocks(leaves["xyz"].detach(), radius, table.size)
    points = Points(leaves["xyz"], radius, None, blocks)
    ghosts = torch.rand(1, len(scene.features), generator=torch.Generator().manual_seed(1)) < 0.25
    arguments = (config, leaves["background"], ghosts.to(device), backend)
    levels = draw(camera, points, leaves["features"], *arguments)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(2)
    weights = [torch.randn(image.shape, generator=generator).to(image) for image in levels.features]
    gradients = torch.autograd.grad(levels.features, list(leaves.values()), weights)
    pictures = {}
    for level in range(len(levels.features)):
        pictures[f"level {level} features"] = levels.features[level]
        pictures[f"level {level} weight"] = levels.weight[level]
        pictures[f"level {level} depth"] = levels.depth[level].nan_to_num(posinf=0.0)
    pictures |= {f"gradient of {name}": g for name, g in zip(leaves, gradients, strict=True)}
    return {name: value.detach().cpu() for name, value in pictures.items()}


def check_model(
    scene: BenchScene,
    model: str,
    dtype: torch.dtype = torch.float32,
    device: str = "cuda",
    config: RasterConfig | None = None,
) -> list[Check]:
    """Compare the kernels' values with the oracle's."""
    config = config or RasterConfig()
    got = evaluate(scene, model, device, device, config, dtype)
    expected = evaluate(scene, model, "cpu", "reference", config, dtype)
    where = f"{model}, {config.position_gradient}, {str(dtype).removeprefix('torch.')}"
    checks = []
    for name, value in expected.items():
        error = float((got[name] - value).norm() / value.norm().clamp_min(1e-12))
        checks.append(Check(f"{where}: {name}", error, ALLOWED[dtype]))
    return checks


def check_adam(device: str = "cuda") -> Check:
    """Compare one step of the sparse optimiser."""
    generator = torch.Generator().manual_seed(0)
    start, gradient = (torch.randn(10000, 4, generator=generator) for _ in range(2))
    gradient[::3] = 0
    results = []
    for place, backend in ((device, device), ("cpu", "reference")):
        parameter = start.to(place, copy=True)
        moments = torch.zeros(2, 10000, 4, device=place)
        steps = torch.zeros(10000, dtype=torch.int32, device=place)
        gradient = gradient.to(place)
        state = RowMoments(moments[0], moments[1], steps)
        sparse_adam_(parameter, gradient, state, AdamSettings(0.1), backend)  # type: ignore[arg-type]
        results.append(parameter.cpu())
    return Check("sparse Adam", float((results[0] - results[1]).norm() / results[1].norm()), 1e-5)


def measure(scene: BenchScene, backend: Backend, repeats: int) -> dict[str, float]:
    """Return median milliseconds on the GPU."""
    camera, leaves = view(scene, "opencv", "cuda")
    points = Points(leaves["xyz"], scene.points.radius.cuda())
    ghosts = torch.rand(1, POINTS, device="cuda") < 0.25
    features, config = leaves["features"], RasterConfig()

    def forward() -> None:
        with torch.no_grad():
            draw(camera, points, features, config, backend=backend)

    def backward(wanted: list[Tensor], seen: Tensor | None) -> None:
        levels = draw(camera, points, features, config, None, seen, backend)
        torch.autograd.grad(levels.features, wanted, [torch.ones_like(i) for i in levels.features])

    everything = [features, leaves["xyz"], leaves["pose"], leaves["intrinsics"]]
    return {
        "forward": median_ms(forward, repeats),
        "forward, feature gradient": median_ms(lambda: backward([features], None), repeats),
        "forward, all gradients": median_ms(lambda: backward(everything, ghosts), repeats),
    }
