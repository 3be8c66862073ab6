"""The true physical camera: files that cannot be used, cameras in a row, and the camera that a pipeline has learned."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.config import TrainConfig
from adop.errors import UserError
from adop.evaluation.photometric_truth import (
    RADII,
    PhysicalCamera,
    compare,
    compose_cameras,
    learned_camera,
    read_truth,
)
from adop.evaluation.plots import plot_camera, plot_errors
from adop.model.pipeline import build_pipeline
from adop.model.tonemapper import srgb_encode
from adop.scene.scene import Scene
from support.small_scene import small_scene

PHOTOS = 6


def srgb_camera(exposure: float = 0.0) -> PhysicalCamera:
    light = np.linspace(0, 1, 1000)
    response = srgb_encode(torch.from_numpy(light)).numpy()[:, None].repeat(3, axis=1)
    return PhysicalCamera(
        exposure=exposure + np.linspace(-1, 1, PHOTOS),
        white_balance=np.ones((PHOTOS, 3)),
        vignette=1 - 0.2 * RADII**2,
        light=light,
        response=response,
    )


def overlay_json(scene: Scene) -> dict:
    samples = [{"x": x, "R": x**0.5, "G": x**0.5, "B": x**0.5} for x in np.linspace(0, 1, 50).tolist()]
    return {
        "images": {photo.name: {"ev": 0.5, "white_balance": [1.1, 1.0, 0.9]} for photo in scene.photos},
        "vignette": {"a": -0.3, "b": 0.0, "c": 0.0},
        "response_samples": samples,
    }


def test_a_second_camera_over_real_photos_is_read(tmp_path: Path):
    scene = small_scene(tmp_path)
    (tmp_path / "truth.json").write_text(json.dumps(overlay_json(scene)))
    truth = read_truth(tmp_path / "truth.json", scene)
    assert np.array_equal(truth.exposure, np.full(PHOTOS, -0.5))  # a larger EV is darker here
    assert truth.vignette[-1] == pytest.approx(0.7)
    assert np.allclose(truth.response[:, 0], truth.light**0.5)
    assert truth.of([4, 1]).white_balance.shape == (2, 3)


@pytest.mark.parametrize(
    ("text", "message"),
    [(None, "cannot be read"), ("{", "is not JSON"), ('{"images": {}}', "lacks data"), ("[]", "lacks data")],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, text: str | None, message: str):
    file = tmp_path / "truth.json"
    if text is not None:
        file.write_text(text)
    with pytest.raises(UserError, match=f"truth.json: {message}"):
        read_truth(file, small_scene(tmp_path))


def test_two_cameras_in_a_row_act_as_one():
    """With the response of sRGB as the source, the overlay's response remains; factors multiply, exposures add."""
    source = dataclasses.replace(srgb_camera(0.25), white_balance=np.full((PHOTOS, 3), [1.2, 1.0, 1.0]))
    overlay = dataclasses.replace(
        srgb_camera(), response=np.linspace(0, 1, 1000)[:, None].repeat(3, 1) ** 0.4
    )
    both = compose_cameras(overlay, source)
    assert np.allclose(both.exposure, overlay.exposure + source.exposure)
    assert np.allclose(both.white_balance, [1.2, 1.0, 1.0])
    assert np.allclose(both.vignette, (1 - 0.2 * RADII**2) ** 2)
    assert np.allclose(both.response, source.light[:, None] ** 0.4, atol=2e-3)


def test_an_untrained_pipeline_has_the_camera_that_it_starts_with(tmp_path: Path):
    exposure = torch.linspace(-1, 1, PHOTOS)
    pipeline = build_pipeline(small_scene(tmp_path), TrainConfig(), exposure, torch.ones(PHOTOS).bool())
    start = dataclasses.replace(srgb_camera(), vignette=np.ones_like(RADII))
    errors = compare(learned_camera(pipeline), start, list(range(PHOTOS)), exposures_known=True)
    assert np.abs(errors.exposure).max() < 1e-6
    assert errors.white_balance.max() < 1e-6
    assert errors.vignette_rmse < 1e-6
    assert errors.response_rmse < 1e-3


@pytest.mark.parametrize("reference", ["truth", "exif", "neither"])
def test_plots_are_written(tmp_path: Path, reference: str):
    found = srgb_camera()
    truth = srgb_camera(0.1) if reference == "truth" else None
    exif = np.linspace(9, 11, PHOTOS) if reference == "exif" else None
    errors = None if truth is None else compare(found, truth, list(range(PHOTOS)), exposures_known=True)
    plot_camera(found, exif, tmp_path / "camera.png", truth, errors)
    plot_errors({"pose, px": ([3.0, np.nan, 1.0], [0.1, 0.2, 0.3])}, tmp_path / "errors.png")
    for name in ("camera", "errors"):
        assert (tmp_path / f"{name}.png").read_bytes().startswith(b"\x89PNG")
