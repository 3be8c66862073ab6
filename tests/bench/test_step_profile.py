"""The profile of training steps: it times every stage, its parts add up, and it puts everything back."""

import dataclasses
import time
from pathlib import Path

import adop.training.steps.step_graph
from adop.bench.step_profile import STAGES, StepProfile
from adop.training.train import train
from support.fast_training import CONFIG


def test_every_stage_is_a_function_that_a_step_looks_up() -> None:
    for stage in STAGES:
        assert callable(getattr(stage.owner, stage.function, None)), stage.label


def test_every_stage_of_a_step_is_timed_and_the_parts_add_up(tiny_folder: Path, tmp_path: Path) -> None:
    config = dataclasses.replace(CONFIG, steps=6, crop=96, batch=4, test_every=0)

    def functions() -> list[object]:
        replaced = [getattr(stage.owner, stage.function) for stage in STAGES]
        return [*replaced, adop.training.steps.step_graph.can_capture]

    before = functions()
    with StepProfile(warm_up=2) as profile:
        assert not set(functions()) & set(before)
        start = time.perf_counter()
        train(tiny_folder, tmp_path / "run", config, say=lambda _: None)
        wall = time.perf_counter() - start
    assert functions() == before
    split = profile.split()
    forward = {stage.label for stage in STAGES if stage.label != "backward"}
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
