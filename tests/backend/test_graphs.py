"""What is replayed reads the present inputs, and is captured anew where anything else has changed.

Here the work is run again where a GPU would replay it; that it replays the same is checked by `adop doctor --gpu-check`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from adop.backend.graphs import Capture, Graphs, Replayed, copied, kind_of, tensors_in


@dataclass(frozen=True)
class Sums:
    parts: list[Tensor]
    factor: float
    again: Tensor | None = None


@dataclass(frozen=True)
class Again:
    """Runs the work again, and writes its outputs where they were."""

    work: Callable[[], Tensor]
    output: Tensor

    def replay(self) -> None:
        self.output.copy_(self.work())


class Captures:
    """Captures work by running it, and counts."""

    def __init__(self) -> None:
        self.begun, self.count = 0, 0

    def begin(self) -> Capture:
        self.begun += 1
        return self.capture

    def capture(self, work: Callable[[], Any]) -> tuple[Replayed, Any]:
        self.count += 1
        output = work().clone()
        return Again(work, output), output


def summed(inputs: Sums) -> Tensor:
    return inputs.factor * torch.stack([part.sum() for part in inputs.parts]).sum()


def sums(*sizes: int, factor: float = 1.0) -> Sums:
    return Sums([torch.rand(size) for size in sizes], factor)


def test_a_replay_reads_the_present_inputs() -> None:
    captures = Captures()
    graphs = Graphs(summed, captures.begin, pytest.fail, most=4)
    for _ in range(3):
        inputs = sums(3, 4)
        found = graphs.replay(inputs, ())
        assert found is not None
        torch.testing.assert_close(found, summed(inputs))
    assert captures.count == 1 and graphs.replayed == 3


def test_inputs_of_other_kinds_have_their_own_graph() -> None:
    captures = Captures()
    graphs = Graphs(summed, captures.begin, pytest.fail, most=8)
    shared = torch.rand(3)
    kinds = [sums(3, 4), sums(3, 4, factor=2.0), sums(3, 5), sums(3), Sums([shared, shared], 1.0), sums(3, 3)]
    kinds.append(Sums([shared], 1.0, shared))
    for inputs in [*kinds, *kinds]:
        found = graphs.replay(inputs, ())
        assert found is not None
        torch.testing.assert_close(found, summed(inputs))
    assert captures.count == len(kinds) == len({kind_of(inputs) for inputs in kinds})


def test_what_the_work_reads_besides_is_captured_anew_where_it_has_moved() -> None:
    captures, other = Captures(), [torch.ones(1)]
    graphs = Graphs(lambda inputs: summed(inputs) * other[0], captures.begin, pytest.fail, most=8)
    inputs = sums(3)
    for value in (2.0, 2.0, 3.0):
        if value != float(other[0]):
            other[0] = torch.tensor([value])
        found = graphs.replay(inputs, other)
        assert found is not None
        torch.testing.assert_close(found, value * summed(inputs)[None])
    assert captures.count == 2 and captures.begun == 2, "the memory of graphs that are gone is not used again"


@pytest.mark.parametrize("renews", [False, True])
def test_the_number_of_kinds_is_bounded(renews: bool) -> None:
    captures, said = Captures(), list[str]()
    graphs = Graphs(summed, captures.begin, said.append, most=2, renews=renews)
    answers = [graphs.replay(sums(size), ()) is not None for size in (1, 2, 3, 1, 2)]
    assert answers == ([True] * 5 if renews else [True, True, False, True, True])
    assert captures.count == (5 if renews else 2)
    assert bool(said) == (not renews)


def test_work_that_cannot_be_captured_is_said_once() -> None:
    said: list[str] = []

    def capture(work: Callable[[], Any]) -> tuple[Replayed, Any]:
        raise RuntimeError("operation not permitted\nmore")

    graphs = Graphs(summed, lambda: capture, said.append, most=2)
    assert graphs.replay(sums(1), ()) is None and graphs.replay(sums(1), ()) is None
    assert said == ["CUDA graphs are off: a capture failed (operation not permitted)"]


def test_copies_share_tensors_as_the_originals_do() -> None:
    shared = torch.rand(1, 3).expand(2, 3)
    inputs = Sums([shared, shared, torch.rand(2)], 1.0)
    own = copied(inputs)
    assert own.parts[0] is own.parts[1] and own.parts[0].is_contiguous() and own.factor == 1.0
    for mine, theirs in zip(tensors_in(own), tensors_in(inputs), strict=True):
        assert torch.equal(mine, theirs) and mine.data_ptr() != theirs.data_ptr()
