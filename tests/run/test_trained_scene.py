"""A run is shown with the scene that it was trained on: other photos are refused, other points are said."""

from __future__ import annotations

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from adop.errors import UserError
from adop.evaluation.evaluate import evaluate
from adop.evaluation.run_plots import plot_run
from adop.run.run import load
from adop.run.trained_scene import SCENE_FILE
from adop.scene.read import load_scene
from adop.scene.scene import Scene
from adop.scene.write import save_scene
from support.small_scene import with_points


def changed(scene: Scene, folder: Path, **parts: object) -> Path:
    return save_scene(dataclasses.replace(scene, **parts), folder).folder  # type: ignore[arg-type]


def test_other_photos_are_refused(trained_folder: Path, small_folder: Path, tmp_path: Path) -> None:
    scene = load_scene(small_folder)
    first, second, *others = scene.photos
    swapped = changed(scene, tmp_path / "swapped", photos=(second, first, *others))
    with pytest.raises(UserError, match=f"the 1. was '{first.name}' and is '{second.name}'"):
        load(trained_folder, swapped)
    fewer = changed(scene, tmp_path / "fewer", photos=(first, *others))
    with pytest.raises(UserError, match=f"other photos than .*fewer has: {len(others) + 2} then"):
        load(trained_folder, fewer)
    shutil.copytree(trained_folder, tmp_path / "run")
    (tmp_path / "run" / SCENE_FILE).write_text(json.dumps({"photos": 3}))
    with pytest.raises(UserError, match=r"scene\.json: lists no photos"):
        load(tmp_path / "run", small_folder)


def test_other_points_are_said_and_the_run_is_scored_all_the_same(
    trained_folder: Path, small_folder: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_folder, tmp_path / "run")
    scene, said = load_scene(small_folder), list[str]()
    thinner = save_scene(with_points(scene, slice(None, None, 2)), tmp_path / "thinner").folder
    run = load(tmp_path / "run", thinner, say=said.append)
    assert len(said) == 1 and f"({len(scene.points)} then, {(len(scene.points) + 1) // 2} now)" in said[0]
    plot_run(run, run.folder / "eval")
    same = load(tmp_path / "run", small_folder, say=pytest.fail)
    assert same.trained_points and not run.trained_points
    scores, expected = (evaluate(each)["mean"]["psnr"] for each in (run, same))
    assert np.isclose(scores, expected, atol=1e-4)
