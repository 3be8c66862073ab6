"""A step asks a GPU for nothing, and those of one kind differ only in the numbers in their tensors.

Replaying is checked on a GPU by `adop doctor --gpu-check`.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from adop.backend.graphs import copied, kind_of
from adop.config import TrainConfig
from adop.model.environment import SparseLookup
from adop.run.checkpoint import Progress
from adop.run.run import Run, new_run
from adop.training.steps.step import StepInputs, draw_batch, step_inputs, step_loss
from adop.training.steps.step_graph import can_capture
from support.waiting import draw_as_on_a_gpu, waits


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


@pytest.mark.parametrize("moving", [False, True])
def test_a_step_on_a_gpu_would_wait_for_nothing(
    run: Run, moving: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw_as_on_a_gpu(monkeypatch)
    cameras = run.pipeline.cameras
    every = list(range(len(cameras)))
    cameras.set_motion(every, torch.full_like(cameras.motion, 0.001 if moving else 0.0))
    inputs = inputs_of(run, 4)
    assert (inputs.view.camera.motion is not None) == moving and inputs.prior
    run.pipeline.points()  # their blocks are made before a step
    with waits() as found:
        total, _ = step_loss(run.pipeline, run.config, inputs, None)
        total.backward()
    assert found == []
    own, _ = step_loss(run.pipeline, run.config, copied(inputs), None)
    assert torch.equal(own, total)
    cameras.set_motion(every, torch.zeros_like(cameras.motion))


def test_steps_for_which_the_host_decides_alike_are_of_one_kind(run: Run) -> None:
    first, prior, other = (decided(inputs_of(run, step), [2]) for step in (1, 4, 5))
    assert kind_of(first) != kind_of(prior)
    assert kind_of(first) != kind_of(decided(first, [9]))
    assert kind_of(first) != kind_of(decided(first, [2], 2.0))
    assert kind_of(first) == kind_of(other)


def test_nothing_is_captured_on_a_cpu(run: Run) -> None:
    assert not can_capture(run)
