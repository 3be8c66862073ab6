"""What is learned, and from which step; both methods of refinement; the results of the benchmark."""

import dataclasses
import json
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.bench.disturb import disturb_rolling_shutter
from adop.bench.refinement import BenchRefineConfig, ErrorSizes, bench_refine
from adop.config import (
    DensifyConfig,
    EnvironmentConfig,
    GrowConfig,
    LearnConfig,
    LossConfig,
    RefineConfig,
    RenderConfig,
    TrainConfig,
    learned,
)
from adop.errors import UserError
from adop.evaluation.photometric_truth import PhysicalCamera, compare, read_truth
from adop.run.run import Run, load
from adop.scene.read import load_scene
from adop.scene.scene import demo_scene_folder
from adop.scene.write import save_scene
from adop.training.train import train
from support.fast_training import PHYSICAL_CAMERA_FROM_STEP_1

TINY = dataclasses.replace(
    TrainConfig(),
    steps=4,
    crop=96,
    evaluate_every=1000,
    render=RenderConfig(levels=4),
    test_every=0,
    grow=GrowConfig(longest_side=80, max_photos=4),
    densify=DensifyConfig(max_points=30_000),
    environment=EnvironmentConfig(height=16),
)
OFF = {"poses": "off", "intrinsics": "off", "distortion": "off"}


def states(folder: Path, output: Path, config: TrainConfig) -> list[dict[str, torch.Tensor]]:
    """Train and return the parameters after every step."""
    found: list[dict[str, torch.Tensor]] = []

    def keep(run: Run, values: dict[str, float]) -> None:
        found.append({name: value.clone() for name, value in run.pipeline.state_dict().items()})

    train(folder, output, config, say=lambda _: None, callback=keep)
    return found


def test_a_group_is_learned_always_never_or_from_a_step():
    assert learned("on", 0) and not learned("off", 10**6)
    assert not learned(3, 2) and learned(3, 3)


def test_frozen_groups_stay_until_their_step(tiny_folder: Path, tmp_path: Path):
    groups = LearnConfig(
        network=2,
        features="off",
        environment="off",
        **(OFF | PHYSICAL_CAMERA_FROM_STEP_1 | {"response": "off"}),
    )
    config = dataclasses.replace(TINY, learn=groups, loss=LossConfig(camera_prior=0.0))
    found = states(tiny_folder, tmp_path / "run", config)
    network = [name for name in found[0] if name.startswith("network") and "final" in name]
    assert network
    for name in network:
        assert torch.equal(found[0][name], found[1][name])
    assert any(not torch.equal(found[1][name], found[2][name]) for name in network)
    for name in ("points.features", "environment.map", "tonemapper.response_logits", "cameras.poses"):
        assert torch.equal(found[0][name], found[3][name])
    assert not torch.equal(found[0]["tonemapper.exposure_delta"], found[3]["tonemapper.exposure_delta"])


@pytest.mark.parametrize("kind", ["ghost", "bilinear"])
def test_the_published_gradient_moves_cameras_and_points(tiny_folder: Path, tmp_path: Path, kind: str):
    refine = RefineConfig(method="gradient", position_gradient=kind)  # type: ignore[arg-type]
    config = dataclasses.replace(
        TINY, learn=LearnConfig(points="on", **PHYSICAL_CAMERA_FROM_STEP_1), refine=refine
    )
    found = states(tiny_folder, tmp_path / "run", config)
    for name in ("cameras.pose_delta", "points.xyz_delta", "cameras.intrinsics.0", "cameras.distortion.0"):
        assert not torch.equal(found[0][name], found[3][name]), name
        assert torch.isfinite(found[3][name]).all()


def test_a_rolling_shutter_is_saved_loaded_and_refined_while_training(tiny_folder: Path, tmp_path: Path):
    groups = LearnConfig(rolling_shutter=2, **OFF, **PHYSICAL_CAMERA_FROM_STEP_1)
    refine = RefineConfig(align_every=2, align_photos=2, align_until=1.0)
    config = dataclasses.replace(TINY, learn=groups, refine=refine, scene=str(tiny_folder), test_every=20)
    moves, still = 1, 0
    found: list[dict[str, torch.Tensor]] = []

    def disturb(run: Run) -> None:
        disturb_rolling_shutter(run.pipeline, [moves], 0.8, 0.01, torch.Generator().manual_seed(0))

    def keep(run: Run, values: dict[str, float]) -> None:
        found.append({name: value.clone() for name, value in run.pipeline.state_dict().items()})

    train(tiny_folder, tmp_path / "run", config, say=lambda _: None, callback=keep, disturb=disturb)
    assert found[0]["cameras.motion"][moves].any()
    assert not torch.equal(found[0]["cameras.motion"], found[3]["cameras.motion"])
    assert torch.equal(found[0]["cameras.poses"], found[3]["cameras.poses"])
    pipeline = load(tmp_path / "run", say=lambda _: None).pipeline
    assert torch.equal(pipeline.cameras.motion, found[3]["cameras.motion"])
    camera = pipeline.camera(torch.tensor([moves]))
    assert camera.motion is not None and camera.reduced(2).photo_height.item() == camera.height
    assert pipeline.camera(torch.tensor([still])).motion is None


def test_the_published_gradient_refuses_a_rolling_shutter(tiny_folder: Path, tmp_path: Path):
    config = dataclasses.replace(
        TINY, learn=LearnConfig(rolling_shutter="on"), refine=RefineConfig(method="gradient")
    )
    with pytest.raises(UserError, match="refined by Gauss-Newton only"):
        states(tiny_folder, tmp_path / "run", config)
    assert not (tmp_path / "run").exists()


def demo_truth() -> tuple[PhysicalCamera, list[int]]:
    scene = load_scene(demo_scene_folder(), report=lambda _: None)
    truth = read_truth(demo_scene_folder() / "truth" / "truth.json", scene)
    return truth, list(range(len(scene.photos)))


def test_a_camera_that_differs_only_by_the_gauge_has_no_error():
    """Another common EV, other channel gains and another exponent of all light give the same photos."""
    truth, photos = demo_truth()
    power, gains = 1.2, np.array([1.1, 1.0, 0.9])
    light = np.linspace(0, 1.05, 4000)
    found = PhysicalCamera(
        (truth.exposure - 3.0) / power,
        (truth.white_balance * gains) ** (1 / power),
        truth.vignette ** (1 / power),
        light,
        np.stack(
            [np.interp((light * g) ** power, truth.light, truth.response[:, c]) for c, g in enumerate(gains)],
            1,
        ),
    )
    errors = compare(found, truth, photos, exposures_known=False)
    assert errors.exponent == pytest.approx(power, rel=1e-2)
    assert np.abs(errors.exposure).max() < 0.02
    assert errors.white_balance.max() < 0.01
    assert errors.vignette_rmse < 2e-3
    assert errors.response_rmse < 5e-3
    # With known exposures there is no such freedom, and the same camera is wrong.
    assert np.abs(compare(found, truth, photos, exposures_known=True).exposure).max() > 0.1


def test_the_error_of_a_wrong_camera_is_measured():
    truth, photos = demo_truth()
    rng = np.random.default_rng(0)
    wrong = dataclasses.replace(truth, exposure=truth.exposure + rng.normal(0, 0.3, len(photos)))
    errors = compare(wrong, truth, photos, exposures_known=True)
    assert 0.15 < np.median(np.abs(errors.exposure)) < 0.3
    assert errors.response_rmse < 1e-6


@pytest.mark.long
def test_the_benchmark_writes_its_results(small_folder: Path, tmp_path: Path):
    scene = load_scene(small_folder, report=lambda _: None)
    save_scene(dataclasses.replace(scene, photos=scene.photos[:5]), tmp_path / "few")
    config = BenchRefineConfig(
        tmp_path / "few", "poses", steps=1, output=tmp_path / "bench", json=tmp_path / "bench.json"
    )
    assert bench_refine(config) == 0
    groups = json.loads((tmp_path / "bench.json").read_text())["groups"]
    for name in ("pose_rotation_deg", "pose_translation_rel", "pose_reprojection_px", "focal_rel", "k1"):
        assert {"start", "end"} <= set(groups[name])
    assert groups["pose_rotation_deg"]["start"] == pytest.approx(0.3, abs=1e-3)
    assert groups["pose_reprojection_px"]["end"] < 0.3 * groups["pose_reprojection_px"]["start"]
    assert (tmp_path / "bench" / "errors_picture.png").is_file()
    with pytest.raises(UserError, match="not empty"):
        bench_refine(config)


@pytest.mark.long
def test_the_benchmark_disturbs_and_recovers_a_rolling_shutter(tiny_folder: Path, tmp_path: Path):
    scene = load_scene(tiny_folder, report=lambda _: None)
    save_scene(dataclasses.replace(scene, photos=scene.photos[:5]), tmp_path / "few")
    config = BenchRefineConfig(
        tmp_path / "few", "rolling_shutter", steps=1, output=tmp_path / "bench", json=tmp_path / "bench.json"
    )
    # With a third of the points, a motion can be found to about 0.2 px.
    errors = ErrorSizes(shutter_rotation_deg=1.6, shutter_translation=0.024)
    config = dataclasses.replace(config, errors=errors)
    assert bench_refine(config) == 0
    groups = json.loads((tmp_path / "bench.json").read_text())["groups"]
    assert groups["rolling_shutter_px"]["end"] < 0.5 * groups["rolling_shutter_px"]["start"]
    assert groups["pose_rotation_deg"]["end"] < 1e-6


def test_a_scene_without_a_known_true_camera_is_refused(tiny_folder: Path, tmp_path: Path):
    with pytest.raises(UserError, match="--truth"):
        bench_refine(BenchRefineConfig(tiny_folder, "photometry", output=tmp_path / "bench"))
