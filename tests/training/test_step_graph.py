"""What a captured step reads: every tensor of its inputs, from places of its own. Replaying is checked on a GPU, by
`adop doctor --gpu-check`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adop.config import TrainConfig
from adop.run.checkpoint import Progress
from adop.run.run import Run, new_run
from adop.training.step import StepInputs, draw_batch, step_inputs
from adop.training.step_graph import _kind, can_capture, copied, input_tensors


@pytest.fixture(scope="module")
def run(small_folder: Path) -> Run:
    return new_run(small_folder, Path(), TrainConfig(crop=48), lambda _: None)


def inputs_of(run: Run, step: int) -> StepInputs:
    run.progress = Progress(step, 0.0)
    return step_inputs(run, draw_batch(run, step))


def tensors_in(value: Any) -> list[Tensor]:
    """Every tensor in a tree of dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    if not dataclasses.is_dataclass(value):
        return []
    return [t for field in dataclasses.fields(value) for t in tensors_in(getattr(value, field.name))]


@pytest.mark.parametrize("moving", [False, True])
def test_all_that_a_step_reads_is_copied_into_its_graph(run: Run, moving: bool) -> None:
    run.pipeline.motion.fill_(0.001 if moving else 0.0)
    inputs = inputs_of(run, 1)
    assert (inputs.camera.motion is not None) == moving
    listed = {tensor.data_ptr() for tensor in input_tensors(inputs)}
    assert {tensor.data_ptr() for tensor in tensors_in(inputs)} == listed
    own = copied(inputs)
    assert len({tensor.data_ptr() for tensor in tensors_in(own)}) == len(input_tensors(inputs))
    assert not {tensor.data_ptr() for tensor in tensors_in(own)} & listed
    for mine, theirs in zip(input_tensors(own), input_tensors(inputs), strict=True):
        assert torch.equal(mine, theirs)
    run.pipeline.motion.zero_()


def test_steps_are_of_one_kind_where_the_host_decides_alike(run: Run) -> None:
    first, prior, other = (inputs_of(run, step) for step in (1, 4, 5))
    blurs = dataclasses.replace(first.behind, blurs=[9])  # type: ignore[type-var]
    assert _kind(first) != _kind(prior)
    assert _kind(first) != _kind(dataclasses.replace(first, behind=blurs))
    alike = dataclasses.replace(other.behind, blurs=first.behind.blurs)  # type: ignore[type-var, union-attr]
    assert _kind(first) == _kind(dataclasses.replace(other, behind=alike))


def test_a_cpu_captures_nothing(run: Run) -> None:
    assert not can_capture(run)
