"""Building and finding the CPU library, and clean runs under the compiler's sanitizers."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from adop.backend import compile as build
from adop.backend.sources import CPU_FLAGS, build_name, kernel_folder, source_hash
from adop.errors import UserError

DRIVER = Path(__file__).parent / "sanitize.cpp"


def test_a_library_is_built_once_into_the_cache_and_known_by_its_flags(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ADOP_CACHE", str(tmp_path / "kernels"))
    first = build.library_path("float", ("-O0",))  # which is quick to build
    stamp = first.stat().st_mtime_ns
    assert first.parent == tmp_path / "kernels"
    assert build.library_path("float", ("-O0",)) == first and first.stat().st_mtime_ns == stamp
    assert [f.name for f in first.parent.iterdir()] == [first.name]
    assert (
        build.built_from(first) == build_name([*build.cpu_target(), "-O0"]) != build_name(build.cpu_target())
    )


def test_what_is_no_library_is_built_from_nothing(tmp_path: Path) -> None:
    (tmp_path / "broken.so").write_bytes(b"no library")
    assert build.built_from(tmp_path / "broken.so") is None


def test_a_missing_compiler_says_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "there-is-no-such-compiler")
    with pytest.raises(
        UserError, match=r"need a C\+\+ compiler: install g\+\+ .* --render.backend reference"
    ):
        build.compile_cpu(tmp_path / "x.so", [], "float")


def test_a_failed_build_shows_the_compilers_log(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="no-such-flag"):
        build.compile_cpu(tmp_path / "x.so", ["-fno-such-flag"], "float")
    assert not list(tmp_path.iterdir())


def test_sources_are_found_and_hashed(tmp_path: Path) -> None:
    assert (kernel_folder() / "cpu.cpp").is_file()
    (tmp_path / "a.cu").write_text("x")
    one = source_hash(tmp_path)
    (tmp_path / "a.cu").write_text("y")
    assert source_hash(tmp_path) != one
    assert set(build.CUDA_FILES) == {file.name for file in kernel_folder().glob("*.cu")}


@pytest.mark.parametrize("sanitizer", ["thread", "undefined,address"])
@pytest.mark.parametrize(
    "real", [pytest.param("float", marks=pytest.mark.long), pytest.param("double", marks=pytest.mark.slow)]
)
def test_sanitizers_find_nothing(sanitizer: str, real: str, tmp_path: Path) -> None:
    """Run every kernel on four threads, watched for data races and for accesses out of bounds."""
    if not sys.platform.startswith("linux"):
        pytest.skip("the sanitizers' options are those of Linux")
    program = tmp_path / "program"
    flags = [flag for flag in CPU_FLAGS if flag not in ("-fPIC", "-O3")]
    command = [
        build.find_compiler() or "c++",
        *flags,
        "-O1",
        "-g",
        f"-fsanitize={sanitizer}",
        "-DADOP_STD_THREADS",
    ]
    command += ["-fno-sanitize-recover=all", "-pthread", f"-DADOP_REAL={real}", f"-I{kernel_folder()}"]
    subprocess.run([*command, str(DRIVER), "-o", str(program)], check=True)
    options = {"TSAN_OPTIONS": "halt_on_error=1", "UBSAN_OPTIONS": "print_stacktrace=1"}
    done = subprocess.run(
        [str(program)], env=os.environ | options, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "hits drawn" in done.stdout
