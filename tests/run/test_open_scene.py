"""Opening a scene for training: how many of its points are used."""

from pathlib import Path

import pytest
import torch

from adop.config import DensifyConfig, TrainConfig
from adop.errors import UserError
from adop.model.pipeline import build_pipeline
from adop.run.checkpoint import Progress, load_checkpoint, save_checkpoint
from adop.run.run import open_scene
from support.hostile_readers import small_run


def test_of_a_scene_with_too_many_points_the_allowed_number_is_used(small_folder: Path) -> None:
    said: list[str] = []
    config = TrainConfig(device="cpu", densify=DensifyConfig(max_points=5_000))
    pipeline, scene, _ = open_scene(small_folder, config, said.append)
    assert len(pipeline.points) == len(scene.points) == 5_000
    assert any(text.startswith("points: 5,000 of ") for text in said)
    whole, scene, _ = open_scene(small_folder, TrainConfig(device="cpu"), said.append)
    assert len(whole.points) == len(scene.points) > 50_000


def test_a_run_is_not_loaded_with_another_split(tmp_path: Path) -> None:
    run = small_run()
    save_checkpoint(tmp_path, run.pipeline, {}, Progress(3, 1.5))
    trained = torch.tensor([True, False, True, True, True, True])
    other = build_pipeline(run.scene, run.config, torch.zeros(6), trained)
    other.environment.resize(4)
    with pytest.raises(
        UserError, match="was trained with other photos held out than the scene and configuration"
    ):
        load_checkpoint(tmp_path / "step_00000003.safetensors", other)
