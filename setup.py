"""Builds the CPU kernels when the package is installed, where there is a C++ compiler; without one the install
succeeds all the same, and they are built at first use."""

import importlib.util
import sys
from pathlib import Path

from setuptools import Extension, setup
from setuptools.command.bdist_wheel import bdist_wheel
from setuptools.command.build_ext import build_ext

ROOT = Path(__file__).resolve().parent
spec = importlib.util.spec_from_file_location("adop_sources", ROOT / "adop" / "backend" / "sources.py")
assert spec is not None and spec.loader is not None
sources = importlib.util.module_from_spec(spec)
spec.loader.exec_module(sources)

FLAGS = sources.target_flags()
THREADS = ["-fopenmp"] if sys.platform.startswith("linux") else ["-pthread"]


class BuildKernels(build_ext):
    """Compile with exactly the flags of the build at first use, whatever Python itself was built with."""

    def build_extension(self, ext: Extension) -> None:
        output = Path(self.get_ext_fullpath(ext.name))
        output.parent.mkdir(parents=True, exist_ok=True)
        name = sources.build_name(FLAGS, ROOT / "kernels")
        command = ["c++", *sources.CPU_FLAGS, *FLAGS, *THREADS, "-shared"]
        command += [f"-DADOP_REAL={ext.name.rsplit('_', 1)[1]}", f'-DADOP_SOURCE_HASH="{name}"']
        self.spawn([*command, str(ROOT / "kernels" / "cpu.cpp"), "-o", str(output)])


class Wheel(bdist_wheel):
    """A wheel for any Python: the kernels are a plain library, which knows nothing of Python."""

    def get_tag(self) -> tuple[str, str, str]:
        return "py3", "none", super().get_tag()[2]


setup(
    ext_modules=[
        Extension(f"adop.backend._kernels_{real}", ["kernels/cpu.cpp"], optional=True)
        for real in sources.REALS
    ],
    cmdclass={"build_ext": BuildKernels, "bdist_wheel": Wheel},
)
