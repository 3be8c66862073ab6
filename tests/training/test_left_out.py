"""Photos whose poses must be far off: named, and left out of training."""

import dataclasses
import json
from pathlib import Path

import pytest

from adop.run.photos.scene_photos import split_photos
from adop.scene.read import load_scene
from adop.scene.write import save_scene
from adop.training.train import train
from support.fast_training import CONFIG


@pytest.mark.long
def test_a_photo_with_another_ones_pose_is_named_and_weighs_nothing(small_folder: Path, tmp_path: Path):
    scene = load_scene(small_folder, report=lambda _: None)
    photos, trained = list(scene.photos), split_photos(len(scene.photos), CONFIG.test_every)["train"]
    wrong, other = trained[2], trained[-3]
    photos[wrong] = dataclasses.replace(photos[wrong], world_to_camera=photos[other].world_to_camera)
    save_scene(dataclasses.replace(scene, photos=tuple(photos)), tmp_path / "scene")
    said: list[str] = []
    seen: set[int] = set()

    def look(run, _):
        seen.update(run.split["train"])

    config = dataclasses.replace(CONFIG, steps=2)
    result = train(tmp_path / "scene", tmp_path / "run", config, say=said.append, callback=look)
    name = photos[wrong].name
    assert f"poses: 1 photos do not show what others show of the points, and are left out: {name}" in said
    assert seen == set(trained) - {wrong}
    assert name not in result["protocol"]["trained"] and photos[other].name in result["protocol"]["trained"]
    seen.clear()
    config = dataclasses.replace(config, steps=3)
    train(tmp_path / "scene", tmp_path / "run", config, resume=True, say=said.append, callback=look)
    assert seen == set(trained) - {wrong}
    scores = json.loads((tmp_path / "run" / "eval" / "eval.json").read_text())
    assert name not in scores["protocol"]["trained"]
