"""Finds operations for which a GPU would have to be waited for, and which no CUDA graph can hold."""

from __future__ import annotations

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

# They read a number on the host, or return as many elements as a tensor's numbers say.
WAITING = {
    "aten._local_scalar_dense",
    "aten.item",
    "aten.nonzero",
    "aten.masked_select",
    "aten.equal",
    "aten.is_nonzero",
    "aten._unique2",
    "aten.unique_dim",
    "aten.repeat_interleave",
    "aten.bincount",
    "aten._linalg_check_errors",
    "aten.lift_fresh",  # torch.tensor: a copy from the host
}


class _Watch(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, operation: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = str(operation.overloadpacket)
        indices = args[1] if name.startswith("aten.index") and isinstance(args[1], list | tuple) else ()
        by_mask = any(getattr(index, "dtype", None) in (torch.bool, torch.uint8) for index in indices)
        if name in WAITING or by_mask:
            calls = [call for call in traceback.extract_stack() if "adop" in Path(call.filename).parts]
            self.found.append(f"{name} at {calls[-1].filename}:{calls[-1].lineno}" if calls else name)
        return operation(*args, **(kwargs or {}))


@contextmanager
def waits() -> Iterator[list[str]]:
    """Yield the list of the operations to wait for, filled in while the context lasts."""
    with _Watch() as watch:
        yield watch.found


def draw_as_on_a_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a CPU draw by the operators that a GPU draws by."""
    monkeypatch.setattr("adop.ops.choose_backend", lambda backend, device: "cuda")
