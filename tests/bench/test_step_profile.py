"""The profile of training steps: it times every stage, adds up, and leaves nothing behind."""

import dataclasses
import time
from pathlib import Path

import pytest
import torch

import adop.bench.step_profile
import adop.training.step
import adop.training.step_graph
import adop.training.train
from adop.bench.step_profile import STAGES, StepProfile
from adop.config import LearnConfig, RenderConfig, TrainConfig


def test_every_stage_of_a_step_is_timed_and_the_parts_add_up(
    small_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adop.bench.step_profile, "WARM", 2)
    config = dataclasses.replace(
        TrainConfig(),
        steps=6,
        crop=96,
        evaluate_every=1000,
        render=RenderConfig(levels=4),
        test_every=0,
        learn=LearnConfig(poses="off", intrinsics="off", distortion="off"),
    )
    before = [adop.training.step.training_loss, torch.Tensor.backward, adop.training.step_graph.can_capture]
    with StepProfile() as profile:
        start = time.perf_counter()
        adop.training.train.train(small_folder, tmp_path / "run", config, say=lambda _: None)
        wall = time.perf_counter() - start
    assert [
        adop.training.step.training_loss,
        torch.Tensor.backward,
        adop.training.step_graph.can_capture,
    ] == before
    split = profile.split()
    forward = {stage.label for stage in STAGES if stage.name != "backward"}
    backward = {f"{stage.label}, backward" for stage in STAGES if stage.output is not None}
    assert set(split) == forward | backward | {"rest"}
    assert all(ms > 0 for ms in split.values())
    assert sum(split.values()) / 1e3 * 4 < wall
    table = profile.table()
    assert "4 training steps" in table and "outside the network" in table


def test_without_steps_there_is_an_empty_table() -> None:
    with StepProfile() as profile:
        pass
    assert profile.split() == {} and "0 training steps" in profile.table()
