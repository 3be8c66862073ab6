"""Photometric calibration, against the true camera of the simulated demo scene."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.config import LearnConfig, TrainConfig
from adop.initialisation.photometry import sample_points
from adop.initialisation.physical_camera import calibrate
from adop.model.pipeline import Pipeline, build_pipeline
from adop.run.photos.scene_photos import known_exposures
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene
from adop.scene.scene import demo_scene_folder


@pytest.fixture(scope="module")
def calibrated(demo_folder: Path) -> Pipeline:
    scene = load_scene(demo_folder, report=lambda _: None)
    count = len(scene.photos)
    exposure = known_exposures(scene)
    assert exposure is not None
    pipeline = build_pipeline(scene, TrainConfig(), exposure, torch.ones(count, dtype=torch.bool))
    cache = PhotoCache(scene)
    point_samples = {photo: sample_points(pipeline, cache, photo) for photo in range(0, count, 2)}
    calibrate(pipeline, point_samples, LearnConfig())
    return pipeline


def truth() -> dict:
    return json.loads((demo_scene_folder() / "truth" / "truth.json").read_text())


def test_exposures_are_nearer_to_the_truth_than_exif(calibrated: Pipeline):
    true = np.array([photo["exposure"] for photo in truth()["photos"]])[::2]

    def error(values: torch.Tensor) -> float:
        difference = values.detach().numpy()[::2] - true
        return float(np.median(np.abs(difference - np.median(difference))))

    found = error(calibrated.tonemapper.exposures())
    assert found < 0.05
    assert found < 0.6 * error(calibrated.tonemapper.exposure_start)


def test_white_balances_are_the_true_ones(calibrated: Pipeline):
    true = np.array([photo["white_balance"] for photo in truth()["photos"]])[::2]
    ratio = calibrated.tonemapper.white_balances().detach().numpy()[::2] / true
    ratio /= np.exp(np.log(ratio).mean(0))
    assert float(np.median(np.abs(ratio - 1))) < 0.02


def test_the_vignette_is_the_true_one(calibrated: Pipeline):
    true = truth()["vignette"]
    radius = torch.linspace(0, 0.9, 10)
    position = torch.stack((radius, torch.zeros(10)))[None, :, None]
    with torch.no_grad():
        calibrated.tonemapper.vignette_centre.zero_()
        found = calibrated.tonemapper.vignette(position, torch.tensor([0]))[0, 0, 0]
    r2 = radius.square()
    expected = 1 + r2 * (true["a"] + r2 * (true["b"] + r2 * true["c"]))
    assert float((found - expected).square().mean().sqrt()) < 0.03
