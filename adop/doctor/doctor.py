"""`adop doctor`: what runs on this machine, and what to install where something does not."""

import importlib.metadata
import platform
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
    json: OutputFile | None = None
    """Write the check's numbers to this JSON file; with both checks, those of the GPU check."""


def doctor(config: DoctorConfig) -> int:
    """Run the chosen checks and return the exit status; without any, say what runs on this machine."""
    if not config.compile_matrix and not config.gpu_check:
        return describe_machine()
    status = 0
    if config.compile_matrix:
        from adop.doctor.compile_matrix import compile_matrix

        status = compile_matrix(config.json if not config.gpu_check else None)
    if config.gpu_check:
        # Loads all of training; a plain `adop doctor` must answer even where that cannot be loaded.
        from adop.doctor.gpu_check import gpu_check

        status = max(status, gpu_check(config.json))
    return status


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
