"""A whole run of the demo scene against its truth. It takes minutes: run with -m slow."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import torch

from adop.config import preset
from adop.run.render import render_photo
from adop.run.run import Run, load
from adop.scene.scene import demo_scene_folder
from adop.training.train import train

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]


@pytest.fixture(scope="module")
def run(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Run:
    folder = tmp_path_factory.mktemp("runs") / "demo"
    config = dataclasses.replace(preset("quick"), scene=str(demo_folder))
    train(demo_folder, folder, config, say=lambda _: None)
    return load(folder, say=lambda _: None)


def test_held_out_photos_reach_24_db(run: Run):
    result = json.loads((run.folder / "eval" / "eval.json").read_text())
    assert result["mean"]["psnr_fitted"] >= 24
    assert result["mean"]["psnr_fitted"] > result["baseline_points"]["psnr_fitted"] + 1


def test_linear_radiance_is_within_15_percent_where_points_are(run: Run):
    """Up to one factor per image. No photo shows this radiance: photos are exposed, vignetted and tone-mapped."""
    for photo in run.split["held_out"]:
        stem = Path(run.scene.photos[photo].name).stem
        file = OpenEXR.File(str(demo_scene_folder() / "truth" / f"{stem}.exr"), separate_channels=True)
        true = np.stack([file.channels()[c].pixels for c in "RGB"]).astype(np.float64)
        found = render_photo(run, photo).radiance.double().numpy()
        with torch.no_grad():
            levels = run.pipeline.render(run.pipeline.camera(torch.tensor([photo]))).levels
        shown = (levels.weight[0][0, 0] > 0).numpy() & (true.min(0) > 1e-4)
        scale = np.median((true / found.clip(1e-9))[:, shown])
        assert np.median((np.abs(found * scale - true) / true)[:, shown]) < 0.15
