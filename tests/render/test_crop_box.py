"""The crop box: what it draws, and its file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from adop.errors import UserError
from adop.render.crop_box import CropBox, cropped, load_crop_box, save_crop_box
from adop.run.run import load


def test_a_cropped_scene_is_drawn_as_if_the_other_points_were_dropped(trained_folder: Path, tmp_path: Path):
    run = load(trained_folder, say=lambda _: None)
    pipeline = run.pipeline
    xyz = pipeline.points.xyz.numpy().astype(np.float64)
    angle = np.array([[np.cos(0.4), np.sin(0.4), 0], [-np.sin(0.4), np.cos(0.4), 0], [0, 0, 1]])
    box = CropBox(
        np.median(xyz, axis=0), angle, np.quantile(np.abs(xyz - np.median(xyz, axis=0)), 0.6, axis=0)
    )
    save_crop_box(tmp_path / "run", box)
    box = load_crop_box(tmp_path / "run")
    assert box is not None
    inside = box.contains(xyz)
    assert 0.05 < inside.mean() < 0.95
    camera = run.photo_camera(0).scaled(0.25)
    whole = run.render(camera).numpy()
    with cropped(pipeline, box):
        part = run.render(camera).numpy()
    assert np.array_equal(run.render(camera).numpy().image, whole.image)  # everything is drawn again
    pipeline.points.keep(torch.from_numpy(inside))
    pipeline.invalidate()
    expected = run.render(camera).numpy()
    assert np.array_equal(part.depth, expected.depth) and np.array_equal(part.image, expected.image)
    assert not np.array_equal(part.image, whole.image)
    save_crop_box(tmp_path / "run", None)
    assert load_crop_box(tmp_path / "run") is None


AXES = "[[1,0,0],[0,1,0],[0,0,1]]"


@pytest.mark.parametrize(
    "content",
    [
        "{",
        "[]",
        '{"format": "other"}',
        '{"centre": [0, 0, 0], "axes": [[1,0,0],[0,1,0],[0,1,0]], "half_size": [1, 1, 1]}',
        f'{{"centre": [0, 0], "axes": {AXES}, "half_size": [1, 1, 1]}}',
        f'{{"centre": [0, 0, 1e999], "axes": {AXES}, "half_size": [1, 1, 1]}}',
        f'{{"centre": [0, 0, 0], "axes": {AXES}, "half_size": [1, 0, 1]}}',
        f'{{"centre": "here", "axes": {AXES}, "half_size": [1, 1, 1]}}',
    ],
)
def test_a_damaged_box_is_refused_in_one_sentence(tmp_path: Path, content: str):
    content = content.replace('{"centre"', '{"format": "adop-crop-box-1", "centre"')
    (tmp_path / "crop_box.json").write_text(content)
    with pytest.raises(UserError, match="is not a crop box"):
        load_crop_box(tmp_path)
