"""`adop doctor`: what runs on this machine, and what to install where something does not."""

import importlib.metadata
import platform
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from adop.backend.compile import cache_folder, cpu_target, find_compiler, library_path
from adop.errors import UserError
from adop.files import OutputFile

PACKAGES = {
    "open3d": "normals of imported points that have none",
    "scipy": "nearest neighbours",
    "av": "videos",
    "OpenEXR": "EXR images",
    "websockets": "the viewer",
    "tensorboard": "curves of a training run: pip install 'adop[tensorboard]'",
    "cupy-cuda13x": "the CUDA kernels: pip install 'adop[cuda]'",
    "cuda-bindings": "the compile matrix: pip install 'adop[cuda-compile]'",
}


@dataclass(frozen=True)
class DoctorConfig:
    """Say what runs on this machine, or check the kernels."""

    compile_matrix: bool = False
    """Compile every kernel for every supported GPU, which needs no GPU; fails if a kernel spills registers."""
    gpu_check: bool = False
    """Compare every value that a CUDA GPU computes with the torch reference, and time both."""
    gpu_bench: bool = False
    """Time drawing, views and training steps on a CUDA GPU, on a made-up scene, in some five minutes."""
    json: OutputFile | None = None
    """Write the check's numbers to this JSON file; needs exactly one check."""


def doctor(config: DoctorConfig) -> int:
    """Run the chosen checks and return the exit status; without any, say what runs on this machine."""
    # Each loads what it measures; a plain `adop doctor` must answer even where training cannot be loaded.
    checks: list[Callable[[Path | None], int]] = []
    if config.compile_matrix:
        from adop.doctor.compile_matrix import compile_matrix

        checks.append(compile_matrix)
    if config.gpu_check:
        from adop.doctor.gpu_check import gpu_check

        checks.append(gpu_check)
    if config.gpu_bench:
        from adop.doctor.gpu_bench import gpu_bench

        checks.append(gpu_bench)
    if config.json is not None and len(checks) != 1:
        raise UserError("--json: needs exactly one of --compile-matrix, --gpu-check and --gpu-bench")
    return max(check(config.json) for check in checks) if checks else describe_machine()


def describe_machine() -> int:
    """Print versions, devices and backends; return 1 if neither CPU nor CUDA kernels can run, else 0."""
    _print("adop", f"Python {platform.python_version()}, torch {torch.__version__}, {platform.platform()}")
    _print("CPU", f"{torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    cpu, cuda = _describe_cpu_kernels(), _describe_cuda()
    for name, purpose in PACKAGES.items():
        try:
            _print(name, importlib.metadata.version(name))
        except importlib.metadata.PackageNotFoundError:
            _print(name, f"not installed ({purpose})")
    _print("backends", ", ".join(["reference", *["cpu"] * cpu, *["cuda"] * cuda]))
    return 0 if cpu or cuda else 1


def _print(name: str, value: str) -> None:
    print(f"{name:<14}{value}")


def _describe_cpu_kernels() -> bool:
    try:
        library = library_path("float")
    except (UserError, RuntimeError) as error:
        _print("CPU kernels", f"cannot run: {error}")
        return False
    installed = library.parent == Path(__file__).parents[1] / "backend"
    _print("CPU kernels", f"{'installed with the package' if installed else 'built here'}: {library}")
    _print("compiler", f"{find_compiler() or 'none'}, for {' '.join(cpu_target()) or 'any CPU of this kind'}")
    _print("cache", str(cache_folder()))
    return True


def _describe_cuda() -> bool:
    if not torch.cuda.is_available():
        build = torch.version.cuda or "none, a CPU build"
        _print("GPU", f"none that torch can use (its CUDA: {build})")
        return False
    for i in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(i)
        _print(f"GPU {i}", f"{torch.cuda.get_device_name(i)}, sm_{major}{minor}")
    try:
        import cupy  # noqa: F401
    except ImportError:
        _print("CUDA kernels", "cannot run without CuPy: pip install 'adop[cuda]'")
        return False
    return True
