"""A captured step copies every tensor that it reads. Replaying is checked on a GPU by `adop doctor --gpu-check`."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from adop.config import TrainConfig
from adop.model.environment import SparseLookup
from adop.run.checkpoint import Progress
from adop.run.run import Run, new_run
from adop.training.steps.step import StepInputs, draw_batch, step_inputs
from adop.training.steps.step_graph import _kind, can_capture, copied, input_tensors


@pytest.fixture(scope="module")
def run(small_folder: Path) -> Run:
    return new_run(small_folder, Path(), TrainConfig(crop=48), lambda _: None)


def inputs_of(run: Run, step: int) -> StepInputs:
    run.progress = Progress(step, 0.0)
    return step_inputs(run, draw_batch(run, step))


def decided(inputs: StepInputs, mip_levels: list[int], thinning: float = 1.0) -> StepInputs:
    """Return the same step with other mip levels of the environment, and of another density."""
    assert isinstance(inputs.view.lookup, SparseLookup)
    lookup = dataclasses.replace(inputs.view.lookup, mip_levels=mip_levels)
    view = dataclasses.replace(inputs.view, lookup=lookup, thinning=thinning)
    return dataclasses.replace(inputs, view=view)


def tensors_in(value: Any) -> list[Tensor]:
    """Return every tensor in a tree of dataclasses."""
    if isinstance(value, Tensor):
        return [value]
    if not dataclasses.is_dataclass(value):
        return []
    return [t for field in dataclasses.fields(value) for t in tensors_in(getattr(value, field.name))]


@pytest.mark.parametrize("moving", [False, True])
def test_everything_a_step_reads_is_copied(run: Run, moving: bool) -> None:
    cameras = run.pipeline.cameras
    every = list(range(len(cameras)))
    cameras.set_motion(every, torch.full_like(cameras.motion, 0.001 if moving else 0.0))
    inputs = inputs_of(run, 1)
    assert (inputs.view.camera.motion is not None) == moving
    listed = {tensor.data_ptr() for tensor in input_tensors(inputs)}
    assert {tensor.data_ptr() for tensor in tensors_in(inputs)} == listed
    own = copied(inputs)
    assert len({tensor.data_ptr() for tensor in tensors_in(own)}) == len(input_tensors(inputs))
    assert not {tensor.data_ptr() for tensor in tensors_in(own)} & listed
    for mine, theirs in zip(input_tensors(own), input_tensors(inputs), strict=True):
        assert torch.equal(mine, theirs)
    cameras.set_motion(every, torch.zeros_like(cameras.motion))


def test_steps_for_which_the_host_decides_alike_are_of_one_kind(run: Run) -> None:
    first, prior, other = (decided(inputs_of(run, step), [2]) for step in (1, 4, 5))
    assert _kind(first) != _kind(prior)
    assert _kind(first) != _kind(decided(first, [9]))
    assert _kind(first) != _kind(decided(first, [2], 2.0))
    assert _kind(first) == _kind(other)


def test_nothing_is_captured_on_a_cpu(run: Run) -> None:
    assert not can_capture(run)
