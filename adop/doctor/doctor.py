"""What runs on this machine, and what to install where something does not."""

import importlib.metadata
import platform
from dataclasses import dataclass
from pathlib import Path

import torch

from adop.backend.compile import cache_folder, cpu_target, find_compiler, library_path
from adop.errors import UserError

PACKAGES = {
    "open3d": "normals of imported points that have none",
    "scipy": "neighbour search",
    "av": "video",
    "OpenEXR": "EXR pictures",
    "tensorboard": "TensorBoard files of a run: pip install 'adop[tensorboard]'",
    "cupy-cuda13x": "the CUDA kernels: pip install 'adop[cuda]'",
    "cuda-bindings": "the compile matrix: pip install 'adop[cuda-compile]'",
}


@dataclass(frozen=True)
class DoctorConfig:
    """What to check."""

    compile_matrix: bool = False
    """Compile every kernel for every supported GPU, without a GPU; fails where one spills registers."""
    gpu_check: bool = False
    """Compare GPU and oracle, value by value and in speed; needs a CUDA GPU."""
    json: Path | None = None
    """Write the result of the compile matrix or of the GPU check here."""


def doctor(config: DoctorConfig) -> int:
    """Run the checks that are asked for and return the exit status; without any, say what runs here."""
    if not config.compile_matrix and not config.gpu_check:
        return describe_machine()
    status = 0
    if config.compile_matrix:
        from adop.doctor.compile_matrix import compile_matrix

        status = compile_matrix(config.json if not config.gpu_check else None)
    if config.gpu_check:
        from adop.doctor.gpu_check import gpu_check

        status = max(status, gpu_check(config.json))
    return status


def describe_machine() -> int:
    """Print what was found; return 1 where neither CPU nor GPU kernels can run, else 0."""
    print(f"adop      Python {platform.python_version()}, torch {torch.__version__}, {platform.platform()}")
    print(f"CPU       {torch.get_num_threads()} threads, {torch.backends.cpu.get_cpu_capability()}")
    cpu, cuda = _describe_cpu_kernels(), _describe_cuda()
    for name, purpose in PACKAGES.items():
        try:
            print(f"{name:<14}{importlib.metadata.version(name)}")
        except importlib.metadata.PackageNotFoundError:
            print(f"{name:<14}not installed ({purpose})")
    print("backends  " + ", ".join(["reference", *["cpu"] * cpu, *["cuda"] * cuda]))
    return 0 if cpu or cuda else 1


def _describe_cpu_kernels() -> bool:
    try:
        library = library_path("float")
    except (UserError, RuntimeError) as error:
        print(f"CPU kernels   cannot run: {error}")
        return False
    where = (
        "installed with the package"
        if library.parent == Path(__file__).parents[1] / "backend"
        else "built here"
    )
    print(f"CPU kernels   {where}: {library}")
    print(f"compiler  {find_compiler() or 'none'}, for {' '.join(cpu_target()) or 'any CPU of this kind'}")
    print(f"cache     {cache_folder()}")
    return True


def _describe_cuda() -> bool:
    if not torch.cuda.is_available():
        build = torch.version.cuda or "none: this is a CPU build"
        print(f"GPU       none that torch can use (its CUDA: {build})")
        return False
    for i in range(torch.cuda.device_count()):
        major, minor = torch.cuda.get_device_capability(i)
        print(f"GPU {i}     {torch.cuda.get_device_name(i)}, sm_{major}{minor}")
    try:
        import cupy  # noqa: F401
    except ImportError:
        print("CUDA kernels  cannot run without CuPy: pip install 'adop[cuda]'")
        return False
    return True
