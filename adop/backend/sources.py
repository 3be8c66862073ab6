"""The kernel sources and their compiler flags. Imports the standard library only: the package's build uses it too."""

import hashlib
import platform
from pathlib import Path

# No contraction, so that every compiler rounds alike; no errno and no traps, so that loops vectorise.
CPU_FLAGS = ["-std=c++17", "-O3", "-fPIC", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"]
REALS = ("float", "double")


def kernel_folder() -> Path:
    """Return the folder of the kernel sources, in a checkout or in an installed package."""
    checkout = Path(__file__).resolve().parents[2] / "kernels"
    return checkout if checkout.is_dir() else Path(__file__).resolve().parents[1] / "kernels"


def read_sources(folder: Path | None = None) -> dict[str, str]:
    """Return the text of every kernel file by its name."""
    files = sorted(p for p in (folder or kernel_folder()).iterdir() if p.suffix in (".h", ".cu", ".cpp"))
    return {file.name: file.read_text(encoding="utf-8") for file in files}


def source_hash(folder: Path | None = None) -> str:
    """Return a short hash of all kernel sources."""
    text = "\0".join(f"{name}\0{body}" for name, body in read_sources(folder).items())
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def target_flags(modern: bool = True) -> list[str]:
    """Return the flags of the instruction set to compile for: x86-64-v3 (AVX2, from 2013) on `modern` x86 machines."""
    # Tuned for Skylake, for which compilers avoid gathers: on most CPUs they are slower than single loads.
    is_x86 = platform.machine().lower() in ("x86_64", "amd64")
    return ["-march=x86-64-v3", "-mtune=skylake"] if is_x86 and modern else []


def build_name(flags: list[str], folder: Path | None = None) -> str:
    """Return the text by which a library names its sources and flags; one with another text is not loaded."""
    return " ".join([source_hash(folder), *flags])
