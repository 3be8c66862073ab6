"""From kernel sources to loaded kernels, cached by hash: the CPU library by the C++ compiler, the GPU module by CuPy."""

import ctypes
import functools
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from adop.backend.arguments import check_layouts
from adop.backend.sources import CPU_FLAGS, build_name, kernel_folder, read_sources, source_hash, target_flags
from adop.errors import UserError

CUDA_OPTIONS = ("--std=c++17", "--fmad=false", "--prec-div=true", "--prec-sqrt=true")
CUDA_FILES = (
    "lens.cu",
    "project.cu",
    "rasterize.cu",
    "adam.cu",
    "tonemap.cu",
    "image_loss.cu",
    "hole_filling.cu",
    "renderer.cu",
    "environment.cu",
    "crops.cu",
    "reproject.cu",
    "patch_match.cu",
)


def cache_folder() -> Path:
    """Return the folder for compiled kernels: ADOP_CACHE, else the user's cache, else a temporary folder."""
    chosen = os.environ.get("ADOP_CACHE")
    home = os.environ.get("XDG_CACHE_HOME") or os.path.join(os.path.expanduser("~"), ".cache")
    for folder in [Path(chosen)] if chosen else [Path(home) / "adop"]:
        try:
            folder.mkdir(parents=True, exist_ok=True)
            if os.access(folder, os.W_OK):
                return folder
        except OSError:
            continue
    user = os.getuid() if hasattr(os, "getuid") else "user"
    fallback = Path(tempfile.gettempdir()) / f"adop-{user}"
    fallback.mkdir(mode=0o700, exist_ok=True)
    return fallback


def find_compiler() -> str | None:
    """Return the C++ compiler: CXX, else the first of g++, clang++ and c++ on the path."""
    names = [os.environ["CXX"]] if os.environ.get("CXX") else ["g++", "clang++", "c++"]
    return next((path for path in map(shutil.which, names) if path), None)


def cpu_target() -> list[str]:
    """Return the instruction-set flags that this machine's CPU can run."""
    return target_flags(torch.backends.cpu.get_cpu_capability() not in ("DEFAULT", "NO AVX"))


def compile_cpu(output: Path, flags: list[str], real: str) -> None:
    """Compile the CPU library to `output`; raise with the compiler's log and leave no file where that fails."""
    compiler = find_compiler()
    if compiler is None:
        raise UserError(
            "the CPU kernels need a C++ compiler: install g++ (Debian, Ubuntu: apt install g++) or "
            "clang++, or choose the slow torch version with --render.backend reference"
        )
    source = kernel_folder() / "cpu.cpp"
    name = build_name(flags)
    threads = ["-fopenmp"] if sys.platform.startswith("linux") else ["-pthread"]
    handle, partial = tempfile.mkstemp(suffix=".so", dir=output.parent)
    os.close(handle)
    command = [compiler, *CPU_FLAGS, *flags, *threads, "-shared", f"-DADOP_REAL={real}"]
    command += [f'-DADOP_SOURCE_HASH="{name}"', str(source), "-o", partial]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            raise RuntimeError(f"building the CPU kernels failed:\n{' '.join(command)}\n{done.stderr}")
        os.chmod(partial, 0o755)
        os.replace(partial, output)
    finally:
        if os.path.exists(partial):
            os.unlink(partial)


def library_path(real: str, extra: tuple[str, ...] = ()) -> Path:
    """Return the CPU library for this machine: the installed one, else the cached one, which is built if missing."""
    flags = [*cpu_target(), *extra]
    wanted = build_name(flags)
    for file in Path(__file__).parent.glob(f"_kernels_{real}*.so"):
        if built_from(file) == wanted:
            return file
    compiler = find_compiler() or "none"
    key = hashlib.sha256("\0".join([wanted, compiler, real, *CPU_FLAGS]).encode()).hexdigest()[:20]
    output = cache_folder() / f"cpu-{real}-{key}.so"
    if not output.exists():
        compile_cpu(output, flags, real)
    return output


def built_from(file: Path) -> str | None:
    """Return the sources and flags that a library was built from, see `build_name`; None if it does not load."""
    try:
        answer = ctypes.CDLL(str(file)).adop_source_hash
    except (OSError, AttributeError):
        return None
    answer.restype = ctypes.c_char_p
    return answer().decode()


@functools.lru_cache(maxsize=4)
def cpu_library(real: str) -> ctypes.CDLL:
    """Load the CPU kernels for `real` "float" or "double"; raise where their argument structs are not Python's."""
    library = ctypes.CDLL(str(library_path(real)))
    check_layouts(library)
    return library


@functools.cache
def cpu_kernel(name: str, real: str) -> Any:
    """Return the entry point of one CPU kernel, which returns None or the text of an error as bytes."""
    kernel = getattr(cpu_library(real), f"launch_{name}")
    kernel.restype = ctypes.c_char_p
    return kernel


def cuda_source(real: str) -> str:
    """Return the translation unit that holds every GPU kernel."""
    # CuPy caches by this text alone, so that it must change whenever an included file does.
    return f"// {source_hash()}\n#define ADOP_REAL {real}\n" + "".join(
        f'#include "{name}"\n' for name in CUDA_FILES
    )


def kernel_names() -> list[str]:
    """Return the names of all kernels that run on a GPU, in the order of the sources."""
    sources = read_sources()
    lines = [line for file in CUDA_FILES for line in sources[file].splitlines()]
    return [line.split("(")[1].split(",")[0] for line in lines if line.startswith("KERNEL(")]


def import_cupy() -> Any:
    """Return CuPy; raise UserError where it is not installed."""
    try:
        import cupy
    except ImportError as error:
        raise UserError(
            "the CUDA kernels need CuPy: pip install 'adop[cuda]', or choose --render.backend reference"
        ) from error
    return cupy


@functools.lru_cache(maxsize=16)
def cuda_module(real: str, device: int) -> Any:
    """Compile the kernels for one GPU by CuPy and NVRTC; CuPy caches the result on disk."""
    cupy = import_cupy()
    with cupy.cuda.Device(device):
        options = (*CUDA_OPTIONS, f"-I{kernel_folder()}")
        module = cupy.RawModule(code=cuda_source(real), options=options, backend="nvrtc")
        module.compile()
    return module


@functools.cache
def cuda_kernel(name: str, real: str, device: int) -> Any:
    """Return one kernel for a GPU."""
    return cuda_module(real, device).get_function(name)
