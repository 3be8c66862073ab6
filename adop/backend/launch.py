"""How a kernel is launched, on a CPU and on a GPU alike."""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from adop.backend.arguments import Values, pack
from adop.backend.compile import cpu_kernel, cuda_kernel, import_cupy

CHUNK = 4096  # indices that share one slot of partial sums, as in portable.h
THREADS_PER_BLOCK = 256
BLOCKS_ON_GPU = 4096  # a grid has no more; its threads go on from index to index
SLOTS_ON_GPU = 512


@dataclass(frozen=True)
class Launch:
    """One kernel over `count` indices, and the integers of the arguments that change for it."""

    kernel: str
    count: int
    integers: dict[str, int] = field(default_factory=dict)


def each_view(kernel: str, views: int, count: int) -> list[Launch]:
    """Return one launch over `count` indices for each view."""
    return [Launch(kernel, count, {"view": view}) for view in range(views)]


_counters: list[Counter[str]] = []  # those of the `count_launches` that are open


@contextmanager
def count_launches() -> Iterator[Counter[str]]:
    """Count the launches of each kernel by its name while the context is open, on all threads.

    >>> with count_launches() as launches:
    ...     pass
    >>> launches.total()
    0
    """
    counter: Counter[str] = Counter()
    _counters.append(counter)
    try:
        yield counter
    finally:
        _counters[:] = [other for other in _counters if other is not counter]


def launch(
    structure: type[ctypes.Structure],
    series: Sequence[Launch],
    values: Values,
    like: Tensor,
    threads: int = 0,
) -> None:
    """Run kernels one after the other on the same arguments, on the device and in the precision of `like`.

    On a GPU they are queued on torch's current stream, without waiting.

    Args:
        structure: the kernels' argument struct, see `adop.backend.arguments`.
        values: of the struct's fields by name.
        threads: that share a kernel's indices on a CPU; 0 is torch's number.

    Raises:
        RuntimeError: a CPU kernel failed.
    """
    arguments = pack(structure, values)
    real = {torch.float32: "float", torch.float64: "double"}[like.dtype]
    for counter in _counters:
        counter.update(launch.kernel for launch in series)
    if like.device.type != "cpu":
        _launch_cuda(series, arguments, real, like.device)
        return
    address, workers = ctypes.byref(arguments), ctypes.c_int(threads or torch.get_num_threads())
    for launch in series:
        _set_integers(arguments, launch)
        error = cpu_kernel(launch.kernel, real)(address, ctypes.c_int64(launch.count), workers)
        if error is not None:
            raise RuntimeError(f"{launch.kernel}: {error.decode()}")


def _set_integers(arguments: ctypes.Structure, launch: Launch) -> None:
    for name, value in launch.integers.items():
        setattr(arguments, name, value)


@dataclass(frozen=True)
class _Stream:
    """A stream of torch's, described by CUDA's stream protocol, which torch itself implements only from 2.10 on."""

    address: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


def _launch_cuda(
    series: Sequence[Launch], arguments: ctypes.Structure, real: str, device: torch.device
) -> None:
    """Queue kernels on torch's current stream, asked for at each launch because autograd has its own threads."""
    cupy = import_cupy()
    index = device.index if device.index is not None else torch.cuda.current_device()
    stream = cupy.cuda.Stream.from_external(_Stream(torch.cuda.current_stream(device).cuda_stream))
    # Plain bytes: of a type with named fields, CuPy would write a description at each launch.
    by_value = np.dtype((np.void, ctypes.sizeof(arguments)))
    with cupy.cuda.Device(index), stream:
        for launch in series:
            if launch.count == 0:
                continue
            _set_integers(arguments, launch)
            struct = np.frombuffer(bytes(arguments), by_value).reshape(())
            grid = min(-(-launch.count // THREADS_PER_BLOCK), BLOCKS_ON_GPU)
            cuda_kernel(launch.kernel, real, index)((grid,), (THREADS_PER_BLOCK,), (struct,))


def slots_for(count: int, device: torch.device) -> int:
    """Return how many slots the partial sums over `count` indices need."""
    return max(1, -(-count // CHUNK)) if device.type == "cpu" else SLOTS_ON_GPU
