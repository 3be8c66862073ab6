"""Opening a scene for training: how many of its points are used."""

from pathlib import Path

from adop.config import DensifyConfig, TrainConfig
from adop.run.run import open_scene


def test_of_a_scene_with_too_many_points_the_allowed_number_is_used(small_folder: Path) -> None:
    said: list[str] = []
    config = TrainConfig(device="cpu", densify=DensifyConfig(max_points=5_000))
    pipeline, scene, _ = open_scene(small_folder, config, said.append)
    assert len(pipeline.points) == len(scene.points) == 5_000
    assert any(text.startswith("points: 5,000 of ") for text in said)
    whole, scene, _ = open_scene(small_folder, TrainConfig(device="cpu"), said.append)
    assert len(whole.points) == len(scene.points) > 50_000
