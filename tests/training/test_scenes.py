"""One network that learns several scenes: a run of each, with the same network in all."""

from __future__ import annotations

import dataclasses
import shutil
from pathlib import Path

import pytest
import torch

from adop.config import LearningRateConfig, NetworkConfig, TrainConfig
from adop.errors import UserError
from adop.run.run import Run, load
from adop.training.train import train, train_scenes
from support.command_line import status_of
from support.fast_training import CONFIG as FAST
from support.networks import network_of

CONFIG = dataclasses.replace(FAST, steps=2, network=NetworkConfig(start="none"))


@pytest.fixture
def scenes(tiny_folder: Path, tmp_path: Path) -> list[Path]:
    """Return two scenes, the same but for their names."""
    folders = [tmp_path / "first", tmp_path / "second"]
    for folder in folders:
        shutil.copytree(tiny_folder, folder)
    return folders


def trained(scenes: list[Path], output: Path, config: TrainConfig, resume: bool = False) -> list[Run]:
    train_scenes(scenes, output, config, resume, say=lambda _: None)
    return [load(output / scene.name) for scene in scenes]


def test_scenes_share_a_network_and_nothing_else(scenes: list[Path], tmp_path: Path) -> None:
    first, second = trained(scenes, tmp_path / "both", CONFIG)
    assert torch.equal(network_of(first), network_of(second))
    assert not torch.equal(first.pipeline.points.features, second.pipeline.points.features)
    assert [run.progress.step for run in (first, second)] == [2, 2]
    alone = trained(scenes[:1], tmp_path / "alone", CONFIG)[0]
    assert not torch.equal(network_of(first), network_of(alone))  # it has learned from the other scene too


def test_scenes_go_on_together_and_others_join_them(scenes: list[Path], tmp_path: Path) -> None:
    begun = trained(scenes[:1], tmp_path / "both", CONFIG)[0]
    further = dataclasses.replace(
        CONFIG, network=NetworkConfig(start="auto"), lr=LearningRateConfig(network=0.0)
    )
    first, second = trained(scenes, tmp_path / "both", dataclasses.replace(further, steps=3), resume=True)
    assert [run.progress.step for run in (first, second)] == [3, 3]
    for run in (first, second):  # the one that joins does not start their network anew
        torch.testing.assert_close(network_of(run), network_of(begun))


def test_one_scene_alone_is_trained_as_ever(scenes: list[Path], tmp_path: Path) -> None:
    alone = trained(scenes[:1], tmp_path / "alone", CONFIG)[0]
    train(scenes[0], tmp_path / "run", CONFIG, say=lambda _: None)
    run = load(tmp_path / "run", scenes[0])
    for name, value in run.pipeline.state_dict().items():
        assert torch.equal(value, alone.pipeline.state_dict()[name])


def test_scenes_that_cannot_be_told_apart_are_refused(scenes: list[Path], tmp_path: Path) -> None:
    with pytest.raises(UserError, match="have the same name, and so would their runs; rename one"):
        train_scenes([scenes[0], tmp_path / "other" / "first"], tmp_path / "both", CONFIG)
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "config.json").write_text("{}")
    with pytest.raises(UserError, match="is a run itself"):
        train_scenes(scenes, tmp_path / "run", CONFIG)
    assert sorted(file.name for file in tmp_path.iterdir()) == ["first", "run", "second"]


def test_the_command_names_what_it_cannot_do(
    scenes: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    names, output = [str(scene) for scene in scenes], str(tmp_path / "both")
    assert status_of(["train", *names, "--output", output, "--view"], monkeypatch) == 2
    assert "show one scene" in capsys.readouterr().err
    for scene in scenes:
        (tmp_path / "both" / scene.name).mkdir(parents=True)
        (tmp_path / "both" / scene.name / "config.json").write_text("{}")
    assert status_of(["train", "--output", output, "--resume"], monkeypatch) == 2
    assert "has runs of several scenes; name these scenes" in capsys.readouterr().err
