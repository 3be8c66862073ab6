"""Which implementation of the ops runs, kernels on a CPU or a GPU or plain torch, and on which device."""

import platform
import re
from pathlib import Path
from typing import Literal

import torch

from adop.errors import UserError

Backend = Literal["auto", "reference", "cpu", "cuda"]


def choose_backend(backend: Backend, device: torch.device) -> Backend:
    """Return the backend that runs on a device: "reference", "cpu" or "cuda", never "auto".

    A renderer chooses once and passes the result as `backend=` to every op. The result is a `Backend` itself, so that
    choosing again changes nothing.

    Args:
        backend: "auto" is the kernels of `device`; "cpu" and "cuda" are those too, but insist on the device;
            "reference" is plain torch, slow, on any device.

    Raises:
        UserError: the device has no kernels, or is not the one that `backend` insists on.
    """
    if backend == "reference":
        return backend
    if device.type not in ("cpu", "cuda"):
        raise UserError(
            f"there are no kernels for {device.type}: move the tensors to a CPU or a CUDA GPU, or choose "
            "backend='reference' (--render.backend reference)"
        )
    if backend not in ("auto", device.type):
        raise UserError(
            f"backend={backend!r}: the points are on {device.type}; move them, or choose backend='auto'"
        )
    return "cuda" if device.type == "cuda" else "cpu"


def choose_device(name: str) -> torch.device:
    """Return the device of that name; `auto` is a CUDA GPU where torch finds one, else the CPU.

    Raises: UserError for a device that no kernels run on, or that is not there.
    """
    if name == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        device = torch.device(name)
    except RuntimeError:
        device = torch.device("meta")
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"device {name!r}: kernels run on cpu, cuda, cuda:1 and so on; choose one, or auto")
    if device.type == "cuda" and not torch.cuda.is_available():
        raise UserError(f"device {name!r}: torch finds no CUDA GPU on this machine; use --device cpu")
    count = torch.cuda.device_count() if device.type == "cuda" else 1
    if (device.index or 0) >= count:
        raise UserError(f"device {name!r}: there are only {count}, counted from 0")
    return device


def machine_name(device: torch.device) -> str:
    """Return the name of the GPU, or of the CPU with the number of threads."""
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{_processor_name()}, {torch.get_num_threads()} threads"


def _processor_name() -> str:
    """Return the model of the CPU where Linux tells it, else its kind."""
    try:
        text = Path("/proc/cpuinfo").read_text(encoding="utf-8", errors="replace")
    except OSError:
        text = ""
    found = re.search(r"^model name\s*:\s*(.+)$", text, flags=re.MULTILINE)
    return found[1].strip() if found else platform.processor() or platform.machine()
