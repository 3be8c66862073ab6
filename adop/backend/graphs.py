"""Work on a GPU replayed as CUDA graphs: launching hundreds of small operations takes longer than running them."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Hashable, Iterator, Sequence
from typing import Any, Generic, Protocol, TypeVar

import torch
from torch import Tensor

WARM_UP = 3  # runs before a capture, in which libraries choose their kernels and modules are loaded

Inputs = TypeVar("Inputs")
Outputs = TypeVar("Outputs")
Value = TypeVar("Value")


class Replayed(Protocol):
    """Work that was captured: it reads its inputs where they were, and writes its outputs where they were."""

    def replay(self) -> None:
        """Do the work again."""


# Captures work, and returns it with its outputs.
Capture = Callable[[Callable[[], Any]], tuple[Replayed, Any]]


@dataclasses.dataclass(frozen=True)
class Captured(Generic[Outputs]):
    """A graph, the tensors that it reads, and the outputs that it writes."""

    graph: Replayed
    inputs: list[Tensor]
    outputs: Outputs


class Graphs(Generic[Inputs, Outputs]):
    """Do one kind of work on a GPU: capture it once for each kind of inputs, then replay it.

    Inputs are dataclasses of tensors, numbers, names and further dataclasses. They are of one kind if they differ in
    nothing but the numbers in their tensors.

    Args:
        work: asks the device for nothing, and reads only its inputs and what stays where it is.
        begin: returns what captures work, with memory of its own; see `capture_on`.
        most: kinds that are captured; a scene with photos of many sizes would otherwise fill the memory with them.
        renews: whether one more kind replaces all others; else it is not captured.
        say: called where inputs can no longer be captured, with the reason.
    """

    def __init__(
        self,
        work: Callable[[Inputs], Outputs],
        begin: Callable[[], Capture],
        say: Callable[[str], None],
        most: int,
        renews: bool = False,
    ) -> None:
        self.replayed = 0  # times so far
        self._work, self._begin, self._say = work, begin, say
        self._most, self._renews = most, renews
        self._capture = begin()
        self._graphs: dict[Hashable, Captured[Outputs]] = {}
        self._read: tuple[object, ...] = ()
        self._failed = False

    def replay(self, inputs: Inputs, read: Sequence[object]) -> Outputs | None:
        """Return the work's outputs, valid until the next call; None where these inputs cannot be captured.

        Args: read: what the work reads besides its inputs; where one is another object than before, it has moved.
        """
        if self._failed:
            return None
        if len(read) != len(self._read) or any(a is not b for a, b in zip(read, self._read, strict=True)):
            self._read = tuple(read)
            self._forget()
        kind = kind_of(inputs)
        if kind not in self._graphs and not self._captures(kind, inputs):
            return None
        captured = self._graphs[kind]
        for target, tensor in zip(captured.inputs, tensors_in(inputs), strict=True):
            target.copy_(tensor, non_blocking=True)
        captured.graph.replay()
        self.replayed += 1
        return captured.outputs

    def _captures(self, kind: Hashable, inputs: Inputs) -> bool:
        """Capture the work for a kind of inputs, and return whether that succeeded."""
        if len(self._graphs) == self._most:
            if not self._renews:
                return False
            self._forget()
        own = copied(inputs)
        try:
            graph, outputs = self._capture(lambda: self._work(own))
        except RuntimeError as error:
            self._failed = True
            self._forget()
            self._say(f"CUDA graphs are off: a capture failed ({str(error).splitlines()[0]})")
            return False
        self._graphs[kind] = Captured(graph, tensors_in(own), outputs)
        if len(self._graphs) == self._most and not self._renews:
            self._say(f"{self._most} kinds of work are replayed as CUDA graphs; any other kind runs without")
        return True

    def _forget(self) -> None:
        if self._graphs:
            self._graphs.clear()
            self._capture = self._begin()  # memory whose graphs are gone cannot be captured in again


def tensors_in(value: object) -> list[Tensor]:
    """Return every tensor in a tree of dataclasses, lists and tuples once, always in one order."""
    return list({id(tensor): tensor for tensor in _leaves(value) if isinstance(tensor, Tensor)}.values())


def kind_of(value: object) -> Hashable:
    """Return all in a tree of dataclasses, lists and tuples but the numbers in its tensors."""
    number: dict[int, int] = {}  # of each tensor: which of them are one
    return tuple(
        (leaf.shape, leaf.dtype, number.setdefault(id(leaf), len(number)))
        if isinstance(leaf, Tensor)
        else leaf
        for leaf in _leaves(value)
    )


def copied(value: Value) -> Value:
    """Return a tree of dataclasses, lists and tuples with a copy of each tensor, contiguous."""
    return _replaced(
        value, {id(t): t.clone(memory_format=torch.contiguous_format) for t in tensors_in(value)}
    )


def _leaves(value: object) -> Iterator[Any]:
    if dataclasses.is_dataclass(value):
        yield type(value)
        for field in dataclasses.fields(value):
            yield from _leaves(getattr(value, field.name))
    elif isinstance(value, list | tuple):
        yield len(value)
        for item in value:
            yield from _leaves(item)
    else:
        yield value


def _replaced(value: Any, tensors: dict[int, Tensor]) -> Any:
    """Return a tree with other tensors, by the identity of those that they replace."""
    if isinstance(value, Tensor):
        return tensors[id(value)]
    if dataclasses.is_dataclass(value):
        names = [field.name for field in dataclasses.fields(value) if field.init]
        parts = {name: _replaced(getattr(value, name), tensors) for name in names}
        return dataclasses.replace(value, **parts)  # type: ignore[type-var]
    if isinstance(value, list | tuple):
        return type(value)(_replaced(item, tensors) for item in value)
    return value


def capture_on(device: torch.device) -> Capture:
    """Return what captures work on a GPU. All that it captures shares memory, and is replayed one after the other."""
    stream, pool = torch.cuda.Stream(device), torch.cuda.graph_pool_handle()

    def capture(work: Callable[[], Any]) -> tuple[Replayed, Any]:
        graph, own = torch.cuda.CUDAGraph(), torch.cuda.current_stream(device)
        stream.wait_stream(own)
        # A failed capture leaves the stream that it ran on current; this context restores ours in any case.
        with torch.cuda.device(device), torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                work()
            # Another thread may allocate pinned memory meanwhile, which other modes forbid.
            with torch.cuda.graph(graph, pool, stream, capture_error_mode="thread_local"):
                outputs = work()
        own.wait_stream(stream)
        return graph, outputs

    return capture
