"""One argument struct and one way to launch a kernel, for CPU and GPU alike."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch
from torch import Tensor

from adop.backend.compile import cpu_library, cuda_kernel, import_cupy

MAX_LEVELS = 12
PARAMETERS = 36
CHUNK = 4096  # points of one slot of partial sums, as in portable.h
THREADS_PER_BLOCK = 256
SLOTS_ON_GPU = 512

_POINTERS = "world_to_camera intrinsics distortion crop shutter limit bounds field"
_CLOUD = "xyz radius normals block_lower block_upper block_radius block_falling visit"
_LAYOUT: list[tuple[str, str]] = [
    ("pointer", _POINTERS),
    ("integer", "views width height distortion_size"),
    ("double", "near_depth"),
    ("pointer", _CLOUD),
    ("integer", "points block_size blocks"),
    ("pointer", "uv z radius_px visible features ghosts"),
    ("pointers", "image weight depth background"),
    ("integer", "channels levels background_full bilinear"),
    ("double", "depth_tolerance radius_threshold"),
    ("pointers", "grad_image"),
    ("pointer", "grad_features grad_uv grad_z grad_xyz grad_parameters"),
    ("integer", "slots view level"),
    ("pointer", "hits offsets"),
    ("integer", "chunks band_rows"),
    ("pointer", "parameter gradient average square steps"),
    ("double", "rate beta1 beta2 epsilon"),
    ("pointer", "radiance gain curve vignette photo_size photo grad_photo grad_radiance places slopes sums"),
    ("integer", "samples"),
    ("double", "leak"),
    ("pointer", "picture target mask window grey row_sums partial row_partial grad_sums grad_picture"),
    ("double", "stable1 stable2"),
    ("pointers", "colours valid behind surface padded half_way grad_colours grad_shown grad_behind passed"),
    ("integer", "fill_levels occlusion_levels"),
    ("double", "occlusion_tolerance"),
    ("pointer", "texels grad_texels rays"),
    ("pointers", "shown coordinates"),
    ("integer", "map_rows map_columns blur ray_rows ray_columns"),
]
_TYPES: dict[str, Any] = {
    "pointer": ctypes.c_void_p,
    "pointers": ctypes.c_void_p * MAX_LEVELS,
    "integer": ctypes.c_int64,
    "double": ctypes.c_double,
}


class Arguments(ctypes.Structure):
    """The struct of `kernels/arguments.h`, field by field."""

    _fields_ = tuple((name, _TYPES[kind]) for kind, names in _LAYOUT for name in names.split())


STRUCT = np.dtype(
    (np.void, ctypes.sizeof(Arguments))
)  # bytes by value: CuPy would describe named fields at each call

Value = Tensor | Sequence[Tensor | None] | int | float | None


def pack(values: dict[str, Value]) -> Arguments:
    """Fill the struct; the caller keeps the tensors alive until the launch returns."""
    arguments = Arguments()
    for name, value in values.items():
        if isinstance(value, Tensor):
            setattr(arguments, name, _address(name, value))
        elif isinstance(value, (list, tuple)):
            addresses = (
                None if tensor is None else _address(f"{name}[{i}]", tensor) for i, tensor in enumerate(value)
            )
            setattr(arguments, name, _TYPES["pointers"](*addresses))
        elif value is not None:
            setattr(arguments, name, value)
    return arguments


def _address(name: str, tensor: Tensor) -> int:
    if not tensor.is_contiguous():
        raise ValueError(f"{name}: expected a contiguous tensor, got strides {tensor.stride()}")
    return tensor.data_ptr()


@dataclass(frozen=True)
class Launch:
    """One kernel over `count` indices, and the integers of the arguments that change for it."""

    kernel: str
    count: int
    numbers: dict[str, int] = field(default_factory=dict)


def each_view(kernel: str, views: int, count: int) -> list[Launch]:
    """Return one launch over `count` indices for each view."""
    return [Launch(kernel, count, {"view": view}) for view in range(views)]


def launch(kernel: str, count: int, values: dict[str, Value], like: Tensor) -> None:
    """Run `kernel` over `count` indices on the device and in the precision of `like`.

    On a GPU it is queued on torch's current stream, without waiting; on a CPU torch's number of threads
    share it.
    """
    launch_series([Launch(kernel, count)], values, like)


def launch_series(
    series: Sequence[Launch], values: dict[str, Value], like: Tensor, threads: int | None = None
) -> None:
    """Run kernels one after the other on the same arguments.

    Args:
        threads: of the CPU; None is torch's number.
    """
    arguments = pack(values)
    real = {torch.float32: "float", torch.float64: "double"}[like.dtype]
    if like.device.type != "cpu":
        _launch_cuda(series, arguments, real, like.device)
        return
    library, address = cpu_library(real), ctypes.byref(arguments)
    workers = ctypes.c_int(threads or torch.get_num_threads())
    for launch in series:
        _set_numbers(arguments, launch)
        getattr(library, f"launch_{launch.kernel}")(address, ctypes.c_int64(launch.count), workers)


def _set_numbers(arguments: Arguments, launch: Launch) -> None:
    for name, number in launch.numbers.items():
        setattr(arguments, name, number)


@dataclass(frozen=True)
class _Stream:
    """A stream of torch's by CUDA's protocol for streams, which torch itself speaks only from 2.10 on."""

    address: int

    def __cuda_stream__(self) -> tuple[int, int]:
        return 0, self.address


def _launch_cuda(series: Sequence[Launch], arguments: Arguments, real: str, device: torch.device) -> None:
    """Queue kernels on torch's current stream, asked for anew because autograd runs backward in its own thread."""
    cupy = import_cupy()
    index = device.index if device.index is not None else torch.cuda.current_device()
    stream = cupy.cuda.Stream.from_external(_Stream(torch.cuda.current_stream(device).cuda_stream))
    with cupy.cuda.Device(index), stream:
        for launch in series:
            if launch.count == 0:
                continue
            _set_numbers(arguments, launch)
            struct = np.frombuffer(bytes(arguments), STRUCT).reshape(())
            grid = min(-(-launch.count // THREADS_PER_BLOCK), 4096)
            cuda_kernel(launch.kernel, real, index)((grid,), (THREADS_PER_BLOCK,), (struct,))


def slots_for(count: int, device: torch.device) -> int:
    """Return how many places partial sums over `count` indices need."""
    return max(1, -(-count // CHUNK)) if device.type == "cpu" else SLOTS_ON_GPU
