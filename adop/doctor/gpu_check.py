"""`adop doctor --gpu-check`: every image and gradient that a GPU computes against the torch reference, and its speed."""

from __future__ import annotations

import itertools
import json
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from adop.bench.raster.scene import make_bench_scene
from adop.doctor.gpu_images import image_errors
from adop.doctor.gpu_raster import ALLOWED, DISTORTION, RasterCase, raster_errors, raster_times
from adop.doctor.gpu_step import adam_error, crop_error, picture_error, replay_error
from adop.doctor.wall_scene import make_wall_scene
from adop.errors import UserError
from adop.files import write_text
from adop.ops import Backend, RasterConfig
from adop.run.run import has_bf16

POINTS = 1_000_000
WALL = (200_000, 6, (640, 420))  # points, photos and their size, of the scene that is trained on
ALLOWED_ADAM = 1e-5
ALLOWED_CROPS = 0.0  # integers: not one bit differs
ALLOWED_IMAGES = 0.001  # the kernels interpolate the environment's rays, the reference computes each
ALLOWED_STEP, ALLOWED_STEP_BF16 = 0.01, 0.05


@dataclass(frozen=True)
class Check:
    """One value that the GPU computed."""

    name: str
    error: float  # relative, in the Euclidean norm; of crops the largest difference
    allowed: float

    @property
    def passed(self) -> bool:
        """Whether the error is small enough."""
        return self.error <= self.allowed


def no_gpu(option: str) -> str:
    """Return the sentence that an option needs a GPU where there is none."""
    build = torch.version.cuda or "none, a CPU build"
    return f"{option} needs a CUDA GPU, and torch finds none (its CUDA: {build})"


def gpu_check(json_file: Path | None) -> int:
    """Print errors and times of everything that a GPU computes; return 1 if an error is too large, else 0.

    Raises: UserError without a CUDA GPU.
    """
    if not torch.cuda.is_available():
        raise UserError(f"{no_gpu('--gpu-check')}; --compile-matrix checks the kernels without one")
    scene = make_bench_scene(POINTS)
    checks = [Check("sparse Adam", adam_error("cuda"), ALLOWED_ADAM)]
    checks.append(Check("training crops", crop_error("cuda"), ALLOWED_CROPS))
    cases = [RasterCase(model, dtype) for model, dtype in itertools.product(DISTORTION, ALLOWED)]
    for case in (*cases, RasterCase("opencv", raster=RasterConfig(position_gradient="bilinear"))):
        errors = raster_errors(scene, case, "cuda")
        checks += [
            Check(f"{case.name}: {name}", error, ALLOWED[case.dtype]) for name, error in errors.items()
        ]
    images = image_errors("cuda")
    checks += [
        Check(f"{name}, values and gradients", error, ALLOWED_IMAGES) for name, error in images.items()
    ]
    with tempfile.TemporaryDirectory(prefix="adop-check-") as folder:
        checks += step_checks("cuda", make_wall_scene(Path(folder), *WALL))
    print(f"{torch.cuda.get_device_name()}, {POINTS} points")
    for check in checks:
        verdict = "ok  " if check.passed else "FAIL"
        print(f"{verdict} {check.name:<46} relative error {check.error:.1e} of {check.allowed:.0e}")
    times, reference = raster_times(scene, "cuda", 15), raster_times(scene, "reference", 5)
    for name, ms in times.items():
        print(
            f"{name:<40} {ms:8.3f} ms, {ms * 1e6 / POINTS:.3f} ns per point, "
            f"{reference[name] / ms:.0f} times as fast as torch on this GPU"
        )
    failed = [check for check in checks if not check.passed]
    if json_file:
        result = {
            "checks": [asdict(check) | {"passed": check.passed} for check in checks],
            "milliseconds": {"ours": times, "reference": reference},
        }
        write_text(json_file, json.dumps(result, indent=1) + "\n")
    print(f"{len(checks) - len(failed)} of {len(checks)} values agree with the reference")
    return 1 if failed else 0


def step_checks(device: Backend, scene: Path) -> list[Check]:
    """Compare steps and pictures that are replayed as a CUDA graph with the same run one operation at a time."""
    precisions = [("float32", False, ALLOWED_STEP)]
    if has_bf16(torch.device(device)):
        precisions.append(("bfloat16", True, ALLOWED_STEP_BF16))
    steps = [
        Check(f"training step as a CUDA graph, {name}, gradients", replay_error(device, bf16, scene), allowed)
        for name, bf16, allowed in precisions
    ]
    return [*steps, Check("picture as a CUDA graph", picture_error(device, scene), ALLOWED_STEP)]
