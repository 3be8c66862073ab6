"""Exposure and white balance of new views: the leave-one-out errors, the choice, and what a run does with them."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adop.cli.render import render_command
from adop.config import NetworkConfig, RenderConfig, TrainConfig
from adop.errors import UserError
from adop.evaluation.evaluate import score_held_out
from adop.model.tonemapper import Tonemapper
from adop.render.camera_path import CameraPath, Frame, pinhole
from adop.render.views import render_photo_view
from adop.run.exposure import expose_path, light_statistics, load_exposure, save_exposure
from adop.run.exposure_model import PhotoValues, choose, fit_ridge
from adop.run.exposure_model import _candidates as candidates
from adop.run.run import Run, load, new_run

LUMINANCE = torch.tensor([0.2126, 0.7152, 0.0722])


@pytest.fixture
def run(demo_folder: Path, tmp_path: Path) -> Run:
    """Return a run that renders the points of the demo scene in their own colours, without EXIF."""
    config = TrainConfig(
        network=NetworkConfig(kind="none"),
        render=RenderConfig(levels=4, extrapolation_views=0),
        test_every=4,
        bf16=False,
        device="cpu",
    )
    run = new_run(demo_folder, tmp_path, config, lambda _: None)
    photos = tuple(dataclasses.replace(photo, exposure=None) for photo in run.scene.photos)
    run.scene = dataclasses.replace(run.scene, photos=photos)
    run.pipeline.tonemapper.exposure_start.zero_()
    return run


def mean_light(run: Run) -> torch.Tensor:
    """Return [P], log2 of the mean luminance of each photo's view at full size, relative to the trained photos'."""
    views = [render_photo_view(run.pipeline, photo).radiance for photo in range(len(run.scene.photos))]
    light = torch.stack([(view * LUMINANCE[:, None, None]).sum(0).mean().log2() for view in views])
    return light - light[run.split["train"]].mean()


def learn(run: Run, exposure: torch.Tensor) -> None:
    """Give the trained photos of a run these EV [P], as training would have learned them."""
    with torch.no_grad():
        run.pipeline.tonemapper.exposure_delta.copy_(exposure)
        run.pipeline.tonemapper.exposure_delta[run.split["held_out"]] = 9.0  # never learned, never used


def test_exposures_that_follow_the_light_are_recovered(run: Run):
    light = mean_light(run)
    noise = 0.03 * torch.randn(len(light), generator=torch.Generator().manual_seed(0))
    learn(run, light + noise)
    held_out = run.split["held_out"]
    spread = float(light[held_out].std())
    model = run.exposure_model()
    assert model.photos["exposure"] == model.views["exposure"] == "light"
    assert model.errors["exposure"]["light"] < 0.06 < 0.5 * model.errors["exposure"]["mean"]
    found = run.pipeline.tonemapper.exposures()[held_out].detach()
    assert spread > 0.12
    assert float((found - light[held_out]).abs().max()) < 0.1
    seen = [run.predict_exposure(run.photo_camera(photo)).exposure for photo in held_out]
    assert torch.tensor(seen) == pytest.approx(found, abs=1e-5)
    assert run.photo_settings(held_out[0]).exposure == pytest.approx(seen[0], abs=1e-5)


def test_exposures_that_follow_nothing_change_no_score(run: Run):
    learn(run, torch.randn(len(run.scene.photos), generator=torch.Generator().manual_seed(1)))
    run.split["held_out"] = run.split["held_out"][:2]
    before = score_held_out(run)
    model = run.exposure_model()
    assert model.photos == {"exposure": "default", "white_balance": "default"}
    assert score_held_out(run) == before
    assert model.views["exposure"] == "mean"
    assert run.predict_exposure(run.photo_camera(3)).exposure == pytest.approx(0, abs=1e-6)
    path = CameraPath([Frame(run.scene.photos[3].world_to_camera, 1.0)] * 3, 64, 48, 10.0)
    assert expose_path(model, run.pipeline, path) is path


def test_random_exposures_are_hardly_ever_taken_to_follow_something(rng: np.random.Generator):
    taken = 0
    for _ in range(100):
        count = int(rng.integers(8, 40))
        values, statistics = rng.standard_normal((count, 1)), rng.standard_normal((count, 6)).cumsum(1)
        choice = choose(photo_values(values, statistics))
        taken += choice.photos != "default"
    assert taken <= 10


def photo_values(values: np.ndarray, statistics: np.ndarray, given: np.ndarray | None = None) -> PhotoValues:
    count = len(values)
    corrections = values if given is None else values - given
    one, all_trained = np.zeros(count, int), np.ones(count, bool)
    return PhotoValues(values, given, corrections, statistics, one, all_trained, 0.5)


def test_few_photos_are_not_compared(rng: np.random.Generator):
    choice = choose(photo_values(np.arange(5.0)[:, None], np.arange(5.0)[:, None]))
    assert choice.errors == {} and choice.photos == "default" and choice.views == "mean"
    assert choice.view(np.array([7.0])) == pytest.approx(2.0)


def test_errors_of_the_ridge_are_those_of_fits_without_the_photo(rng: np.random.Generator):
    statistics, values = rng.standard_normal((12, 3)), rng.standard_normal((12, 2))
    values[:, 0] += statistics @ [1, 0, -2]
    offset, weights, errors = fit_ridge(statistics, values)
    # The penalty is what makes the solution's normal equations hold; all fits share it.
    centred = statistics - statistics.mean(0)
    gradient = centred.T @ (values - offset - statistics @ weights)
    penalty = float((gradient * weights).sum() / np.square(weights).sum())
    for left_out in range(12):
        rest = np.arange(12) != left_out
        design = np.column_stack((np.ones(11), statistics[rest]))
        normal = design.T @ design + np.diag([0] + [penalty] * 3)
        fit = np.linalg.solve(normal, design.T @ values[rest])
        error = fit[0] + statistics[left_out] @ fit[1:] - values[left_out]
        assert errors[left_out] == pytest.approx(error, abs=1e-9)


def test_errors_of_the_default_are_those_of_a_tonemapper_without_the_photo(rng: np.random.Generator):
    lens = torch.tensor([0, 0, 1, 0, 1, 0, 0, 1, 0, 0])
    given, delta = rng.standard_normal((10, 1)), 0.3 * rng.standard_normal((10, 1)).cumsum(0)
    given, delta = given - given.mean(), delta - delta.mean()
    photos = dataclasses.replace(
        photo_values(given + delta, rng.standard_normal((10, 2)), given), lens=lens.numpy()
    )
    errors = candidates(photos)["default"].errors[:, 0]
    for left_out in range(10):
        trained = torch.arange(10) != left_out
        tonemapper = Tonemapper(torch.from_numpy(given[:, 0]), lens, trained)
        with torch.no_grad():
            tonemapper.exposure_delta.copy_(torch.from_numpy(delta[:, 0]))
        # It shifts what is left so that its mean is 0.
        expected = float(tonemapper.exposures()[left_out].detach()) + delta[trained.numpy()].mean()
        assert errors[left_out] == pytest.approx(expected - (given + delta)[left_out, 0], abs=1e-5)


def test_one_stop_more_light_is_one_stop_in_every_statistic_of_brightness():
    radiance = torch.rand(3, 120, 500, generator=torch.Generator().manual_seed(0)) + 0.01
    once, twice = light_statistics(radiance), light_statistics(2 * radiance)
    assert twice[:8] - once[:8] == pytest.approx(np.ones(8), abs=1e-5)
    assert twice[8:] == pytest.approx(once[8:], abs=1e-5)
    drawn = torch.zeros(120, 500, dtype=torch.bool)
    drawn[:60] = True
    radiance[:, 60:] = 1e4
    assert light_statistics(radiance, drawn)[0] < 0 < light_statistics(radiance)[0]
    radiance[0, 0, 0] = torch.nan
    assert np.isfinite(light_statistics(radiance)).all()


def test_a_path_is_exposed_without_jumps(run: Run):
    light = mean_light(run)
    learn(run, light)
    bright, dark = int(light.argmax()), int(light.argmin())
    poses = [run.scene.photos[photo].world_to_camera for photo in [bright] * 15 + [dark] * 15]
    path = CameraPath([Frame(pose, 0.77, 0.25) for pose in poses], 120, 90, 10.0)
    model = run.exposure_model()
    exposure = np.array([frame.exposure for frame in expose_path(model, run.pipeline, path).frames]) - 0.25
    ends = [run.predict_exposure(pinhole(path.frames[i], 120, 90, run.device)).exposure for i in (0, -1)]
    jump = ends[0] - ends[1]
    assert jump > 0.3
    assert exposure[[0, -1]] == pytest.approx(ends, abs=0.02)
    assert (np.diff(exposure) <= 1e-9).all() and np.abs(np.diff(exposure)).max() < 0.1 * jump


def test_held_out_photos_are_not_looked_at(trained_folder: Path, small_folder: Path, tmp_path: Path):
    """The model is the same, and saved with the run, whatever the held-out photos show."""
    scene = shutil.copytree(small_folder, tmp_path / "scene")
    run = load(trained_folder, scene, say=lambda _: None)
    saved = run.exposure
    assert saved is not None
    for photo in run.split["held_out"]:
        file = run.scene.photos[photo].file
        with Image.open(file) as image:
            size = image.size
        noise = np.random.default_rng(0).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
        Image.fromarray(noise).save(file)
    other = load(trained_folder, scene, say=lambda _: None)
    other.exposure = None
    save_exposure(other.exposure_model(), tmp_path)
    assert (tmp_path / "exposure.json").read_text() == (trained_folder / "exposure.json").read_text()


def test_a_damaged_model_is_refused_and_that_of_another_step_ignored(trained_folder: Path, tmp_path: Path):
    values = json.loads((trained_folder / "exposure.json").read_text())
    file, step = tmp_path / "exposure.json", values["step"]
    assert load_exposure(tmp_path, 1, step) is None
    file.write_text(json.dumps(values))
    model = load_exposure(tmp_path, 1, step)
    assert model is not None and load_exposure(tmp_path, 1, step + 1) is None
    bad = [
        "",
        "[1]",
        "[" * 100_000,
        json.dumps(values | {"offset": [1e300, 0, 0]}),
        json.dumps(values | {"offset": [float("nan"), 0, 0]}),
        json.dumps(values | {"weights": values["weights"][:-1]}),
        json.dumps(values | {"held_out": []}),
        json.dumps(values | {"limits": "x"}),
        json.dumps(values | {"photos": {"exposure": "<b>", "white_balance": "mean"}}),
        json.dumps(values | {"errors": {"exposure": [], "white_balance": {}}}),
        json.dumps({name: value for name, value in values.items() if name != "views"}),
    ]
    for text in bad:
        file.write_text(text)
        with pytest.raises(UserError, match=r"exposure\.json: is not the exposure model of this run"):
            load_exposure(tmp_path, 1, step)


def test_paths_are_rendered_as_the_camera_would_expose_them_unless_another_exposure_is_given(
    trained_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    run_folder = shutil.copytree(trained_folder, tmp_path / "run")
    values = json.loads((run_folder / "exposure.json").read_text())
    values["views"]["exposure"] = "light"
    values |= {"offset": [1.5, 0, 0], "weights": [[0, 0, 0]] * 10, "limits": [[-3, -1, -1], [3, 1, 1]]}
    (run_folder / "exposure.json").write_text(json.dumps(values))

    def rendered(*options: str) -> np.ndarray:
        words = [
            str(run_folder),
            "--path",
            "--seconds",
            "0.1",
            "--rate",
            "10",
            "--width",
            "64",
            "--device",
            "cpu",
        ]
        assert render_command("adop render", [*words, *options, "--output", str(tmp_path / "frames")]) == 0
        with Image.open(tmp_path / "frames" / "00000.png") as image:
            return np.asarray(image)

    darker = rendered("--exposure", "1.5")
    assert np.array_equal(rendered(), darker) and np.array_equal(rendered("--exposure", "auto"), darker)
    scene = rendered("--exposure", "scene")
    assert np.array_equal(scene, rendered("--exposure", "0")) and scene.mean() > darker.mean() + 10
