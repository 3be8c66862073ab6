"""`adop doctor --compile-matrix`: every kernel compiled for every supported GPU, without a GPU; registers and spills."""

import json
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from adop.backend.compile import CUDA_OPTIONS, cuda_source, kernel_names
from adop.backend.sources import read_sources
from adop.errors import UserError
from adop.files import write_text

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)  # compute capabilities, times ten
REALS = ("float", "double")


@dataclass(frozen=True)
class KernelReport:
    """What the assembler says of one kernel on one architecture."""

    name: str
    real: str
    arch: str
    registers: int
    spill_bytes: int
    stack_bytes: int


def compile_kernels(architecture: int, real: str = "float") -> list[KernelReport]:
    """Compile all kernels with NVRTC and return a report on each.

    Raises: RuntimeError with the compiler's log if it fails; UserError without NVRTC.
    """
    nvrtc = _nvrtc()
    headers = {name: text for name, text in read_sources().items() if not name.endswith(".cpp")}
    texts, names = [t.encode() for t in headers.values()], [n.encode() for n in headers]
    source = cuda_source(real).encode()
    _, program = nvrtc.nvrtcCreateProgram(source, b"adop.cu", len(names), texts, names)
    options = [f"-arch=sm_{architecture}", "--ptxas-options=-v", *CUDA_OPTIONS]
    encoded = [option.encode() for option in options]
    (status,) = nvrtc.nvrtcCompileProgram(program, len(encoded), encoded)
    _, size = nvrtc.nvrtcGetProgramLogSize(program)
    buffer = b" " * size
    nvrtc.nvrtcGetProgramLog(program, buffer)
    log = buffer.decode(errors="replace")
    nvrtc.nvrtcDestroyProgram(program)
    if status != nvrtc.nvrtcResult.NVRTC_SUCCESS:
        raise RuntimeError(f"NVRTC failed for sm_{architecture}, {real}:\n{log}")
    return read_report(log, architecture, real)


def read_report(log: str, architecture: int, real: str) -> list[KernelReport]:
    """Return registers, spills and stack of each kernel from the assembler's log.

    Raises: RuntimeError if the log does not mention a kernel.
    """
    reports = []
    for name in kernel_names():
        found = re.search(
            rf"Compiling entry function '{name}'.*?(\d+) bytes stack frame, (\d+) bytes spill stores, "
            r"(\d+) bytes spill loads.*?Used (\d+) registers",
            log,
            re.DOTALL,
        )
        if found is None:
            raise RuntimeError(f"the assembler's log does not mention the kernel {name}:\n{log}")
        stack, stores, loads, registers = (int(group) for group in found.groups())
        reports.append(KernelReport(name, real, f"sm_{architecture}", registers, stores + loads, stack))
    return reports


def compile_matrix(
    json_file: Path | None = None,
    compile_all: Callable[[int, str], list[KernelReport]] = compile_kernels,
) -> int:
    """Compile everything, print a table and return 1 if a kernel spills registers, else 0."""
    reports = [report for real in REALS for arch in ARCHITECTURES for report in compile_all(arch, real)]
    architectures = [f"sm_{architecture}" for architecture in ARCHITECTURES]
    by_key = {(report.name, report.real, report.arch): report for report in reports}
    print("registers of each kernel, float / double; ! marks a spill")
    print(f"{'kernel':<26}" + "".join(f"{arch:>11}" for arch in architectures))
    for name in kernel_names():
        row = ""
        for arch in architectures:
            pair = [by_key[name, real, arch] for real in REALS]
            row += f"{' / '.join(str(r.registers) + '!' * (r.spill_bytes > 0) for r in pair):>11}"
        print(f"{name:<26}{row}")
    spilling = [report for report in reports if report.spill_bytes]
    if json_file:
        write_text(
            json_file, json.dumps({"kernels": [asdict(report) for report in reports]}, indent=1) + "\n"
        )
    for report in spilling:
        print(f"SPILL: {report.name} ({report.real}, {report.arch}): {report.spill_bytes} bytes")
    print(f"{len(reports)} kernels compiled, {len(spilling)} spill")
    return 1 if spilling else 0


def _nvrtc() -> Any:
    try:
        from cuda.bindings import nvrtc
    except ImportError as error:
        raise UserError("the compile matrix needs NVRTC: pip install 'adop[cuda-compile]'") from error
    return nvrtc
