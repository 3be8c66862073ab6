"""Training as a whole: it learns, it survives being killed, and it explains errors."""

import dataclasses
import json
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import imageio.v3 as imageio
import pytest
import torch
from PIL import Image
from safetensors import safe_open
from safetensors.torch import save_file

from adop.config import (
    AlignConfig,
    DensifyConfig,
    EnvironmentConfig,
    GrowConfig,
    LearnConfig,
    LearningRateConfig,
    LossConfig,
    OccludersConfig,
    RefineConfig,
    RenderConfig,
    TrainConfig,
    save_config,
)
from adop.errors import UserError
from adop.geometry.rigid_motion import se3_exp
from adop.images.photo_files import read_mask
from adop.run.checkpoint import checkpoints
from adop.run.photos.scene_photos import split_photos
from adop.run.run import load
from adop.scene.read import load_scene
from adop.scene.scene import Photo
from adop.scene.write import save_scene
from adop.training.steps.step import draw_batch
from adop.training.train import train
from support.fast_training import PHYSICAL_CAMERA_FROM_STEP_1
from support.once import once

TINY = dataclasses.replace(
    TrainConfig(),
    steps=12,
    crop=96,
    evaluate_every=1000,
    render=RenderConfig(levels=4),
    grow=GrowConfig(longest_side=80, max_photos=4),
    densify=DensifyConfig(max_points=30_000),
    environment=EnvironmentConfig(height=16),
    test_every=5,
    # Cameras are aligned at the eighth step, so that a resumed run must reproduce that too.
    learn=LearnConfig(poses=1, intrinsics="off", distortion="off"),
    refine=RefineConfig(align_every=8, align_photos=2, align=AlignConfig(longest_side=240)),
)


@pytest.fixture(scope="module")
def trained(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    config = dataclasses.replace(TINY, steps=40, scene=str(tiny_folder))

    def make(folder: Path) -> None:
        steps: list[int] = []
        train(
            tiny_folder,
            folder,
            config,
            say=lambda _: None,
            callback=lambda run, _: steps.append(run.progress.step),
        )
        assert steps == list(range(1, 41))

    return once(tmp_path_factory, "tiny", make)


def test_a_run_folder_is_complete(trained: Path):
    result = json.loads((trained / "eval" / "eval.json").read_text())
    for values in (result["mean"], result["baseline_points"], *result["photos"]):
        for name in ("psnr", "ssim", "flip", "edge_contrast"):
            assert {name, f"{name}_fitted", f"{name}_corrected"} <= set(values)
    assert [p["photo"] for p in result["photos"]] == result["protocol"]["held_out"]
    assert len(result["photos"]) == 2
    assert not set(result["protocol"]["held_out"]) & set(result["protocol"]["trained"])
    assert (trained / "config.json").is_file()
    assert len(checkpoints(trained / "checkpoints")) >= 1
    assert "<img" in (trained / "eval" / "index.html").read_text()
    lines = [json.loads(line) for line in (trained / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["kind"] == "held_out" and lines[-1]["step"] == 40


def test_the_first_steps_already_show_the_scene_and_training_helps(trained: Path):
    result = json.loads((trained / "eval" / "eval.json").read_text())
    assert result["mean"]["psnr_fitted"] > 15
    # Forty small crops do not yet beat the points' own colours; test_demo_run.py tests a whole run.
    assert result["mean"]["psnr_fitted"] > result["baseline_points"]["psnr_fitted"] - 0.5


@pytest.mark.long
def test_the_loss_falls_on_the_training_photos(small_folder: Path, tmp_path: Path):
    """Train on one photo's crop over and over: the image approaches it."""
    losses: list[float] = []
    rates = LearningRateConfig(warmup=5)
    config = dataclasses.replace(
        TINY,
        steps=40,
        batch=1,
        crop=360,
        lr=rates,
        test_every=0,
        environment=EnvironmentConfig(),
        densify=DensifyConfig(max_points=100_000),
    )
    train(
        small_folder,
        tmp_path / "run",
        config,
        say=lambda _: None,
        callback=lambda _, v: losses.append(v["psnr"]),
    )
    assert sum(losses[-14:]) / 14 > sum(losses[:14]) / 14 + 0.3


def test_loading_renders_what_was_evaluated(trained: Path, tiny_folder: Path):
    from adop.evaluation.evaluate import score_photo

    run = load(trained, tiny_folder, say=lambda _: None)
    score, _ = score_photo(run, run.split["held_out"][1])
    saved = json.loads((trained / "eval" / "eval.json").read_text())["photos"][1]
    assert score.plain.psnr == pytest.approx(saved["psnr"], abs=1e-4)


def test_refined_poses_of_held_out_photos_are_scored_apart(trained: Path, tiny_folder: Path):
    """A held-out photo with a wrong pose scores better refined; the run's pose and plain score stay as they were."""
    from adop.evaluation.evaluate import score_aligned, score_held_out

    run = load(trained, tiny_folder, say=lambda _: None)
    photo = run.split["held_out"][1]
    run.split["held_out"] = [photo]
    turn = torch.tensor([0.0, 0.0, 0.0, 0.01, 0.0, 0.0], dtype=torch.float64)
    cameras = run.pipeline.cameras
    cameras.set_pose(photo, se3_exp(turn) @ cameras.poses[photo])
    before = cameras.poses.clone()
    plain = score_held_out(run)["photos"][0]
    refined = score_aligned(run)["photos"][0]
    assert torch.equal(cameras.poses, before)
    assert refined["moved_px"] > 1
    assert refined["psnr_fitted"] > plain["psnr_fitted"] + 0.2
    assert score_held_out(run)["photos"][0] == plain


def with_something_in_front(photo: Photo, file: Path) -> Photo:
    """Return the photo with a green square in its middle."""
    image = imageio.imread(photo.file).copy()
    height, width = image.shape[:2]
    image[height // 4 : -height // 4, width // 4 : -width // 4] = (20, 130, 20)
    imageio.imwrite(file, image)
    return dataclasses.replace(photo, file=file)


@pytest.mark.long
def test_killed_and_resumed_ends_at_the_same_numbers(tiny_folder: Path, tmp_path: Path):
    scene = load_scene(tiny_folder, report=lambda _: None)
    folder, photos = tmp_path / "scene", list(scene.photos)
    photos[1] = with_something_in_front(photos[1], tmp_path / "hidden.png")
    save_scene(dataclasses.replace(scene, photos=tuple(photos)), folder)
    config = dataclasses.replace(
        TINY,
        checkpoint_seconds=0.0,
        occluders=OccludersConfig(min_views=1),
        learn=dataclasses.replace(TINY.learn, **PHYSICAL_CAMERA_FROM_STEP_1),
    )
    save_config(config, tmp_path / "config.json")

    def command(output: str, *more: str) -> list[str]:
        options = ["--output", str(tmp_path / output), "--config", str(tmp_path / "config.json"), *more]
        return [str(Path(sys.executable).with_name("adop")), "train", str(folder), *options]

    subprocess.run(command("whole"), check=True, capture_output=True)
    process = subprocess.Popen(command("killed"), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not any(int(p.stem[5:]) >= 4 for p in checkpoints(tmp_path / "killed" / "checkpoints")):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    assert not (tmp_path / "killed" / "eval").exists(), "the run was over before it was killed"
    subprocess.run(command("killed", "--resume"), check=True, capture_output=True)
    whole, resumed = (
        json.loads((tmp_path / name / "eval" / "eval.json").read_text()) for name in ("whole", "killed")
    )
    occluders = [sorted((tmp_path / name / "occluders").iterdir()) for name in ("whole", "killed")]
    assert any(read_mask(file).any() for file in occluders[0])
    assert [file.read_bytes() for file in occluders[0]] == [file.read_bytes() for file in occluders[1]]
    assert whole["mean"] == resumed["mean"]
    assert whole["photos"] == resumed["photos"]


def test_split_follows_the_protocol():
    split = split_photos(17, 8)
    assert split["held_out"] == [0, 8, 16]
    assert split["train"] == [1, 2, 3, 4, 5, 6, 7, 9, 10, 11, 12, 13, 14, 15]
    assert split_photos(3, 0)["held_out"] == []
    with pytest.raises(UserError, match="at least 2"):
        split_photos(2, 8)


def test_an_output_folder_in_use_is_refused(tiny_folder: Path, tmp_path: Path):
    (tmp_path / "something").write_text("mine")
    with pytest.raises(UserError, match="not empty"):
        train(tiny_folder, tmp_path, TINY, say=lambda _: None)
    with pytest.raises(UserError, match="holds something else than a run"):
        train(tiny_folder, tmp_path, TINY, resume=True, say=lambda _: None)
    assert [file.name for file in tmp_path.iterdir()] == ["something"]


def test_photos_that_their_masks_hide_wholly_are_named(tiny_folder: Path, tmp_path: Path):
    scene = load_scene(tiny_folder)
    photo, lens = scene.photos[3], scene.lenses[scene.photos[3].lens]
    Image.new("L", (lens.width, lens.height)).save(tmp_path / "black.png")
    photos = (*scene.photos[:3], dataclasses.replace(photo, mask=tmp_path / "black.png"), *scene.photos[4:])
    save_scene(dataclasses.replace(scene, photos=photos), tmp_path / "scene")
    with pytest.raises(
        UserError, match=f"masks of 1 of 10 photos hide all of them, the first is {photo.name}"
    ):
        train(tmp_path / "scene", tmp_path / "run", TINY, say=lambda _: None)
    assert not (tmp_path / "run").exists()


def test_a_perceptual_loss_without_its_weights_is_refused_before_the_start(tiny_folder: Path, tmp_path: Path):
    for weights, message in ((None, "needs --loss.vgg-weights"), (str(tmp_path / "none"), "none")):
        loss = LossConfig(vgg=1.0, vgg_weights=weights)
        with pytest.raises(UserError, match=message):
            train(tiny_folder, tmp_path / "run", dataclasses.replace(TINY, loss=loss), say=lambda _: None)
    assert not (tmp_path / "run").exists()


def test_the_error_names_a_damaged_checkpoint(trained: Path, tiny_folder: Path, tmp_path: Path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text((trained / "config.json").read_text())
    whole = checkpoints(trained / "checkpoints")[-1].read_bytes()
    bad = tmp_path / "checkpoints" / "step_00000040.safetensors"
    bad.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="step_00000040"):
        load(tmp_path, tiny_folder, say=lambda _: None)


def test_another_scene_or_configuration_is_refused(trained: Path, tiny_folder: Path, tmp_path: Path):
    config = json.loads((trained / "config.json").read_text())
    config["network"]["width"] = 8
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "checkpoints").symlink_to(trained / "checkpoints")
    with pytest.raises(UserError, match="not the one that was trained"):
        load(tmp_path, tiny_folder, say=lambda _: None)


@pytest.mark.parametrize("shape", [(1, 4, 16, 32), (1, 4, 0, 0), (1, 1, 5000, 1), (1, 0, 10**9, 1)])
def test_only_the_environment_may_have_another_size_in_a_checkpoint(
    trained: Path, tiny_folder: Path, tmp_path: Path, shape: tuple[int, ...]
):
    whole = checkpoints(trained / "checkpoints")[-1]
    with safe_open(whole, framework="pt") as file:
        metadata = file.metadata()
        del metadata["sha256"]
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    tensors["model.environment.map"] = torch.zeros(shape)
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text((trained / "config.json").read_text())
    save_file(tensors, tmp_path / "checkpoints" / whole.name, metadata)
    if shape == (1, 4, 16, 32):
        assert load(tmp_path, tiny_folder, say=lambda _: None).pipeline.environment.map.shape == shape
        return
    with pytest.raises(UserError, match=r"environment\.map should be"):
        load(tmp_path, tiny_folder, say=lambda _: None)


def test_a_checkpoint_of_the_older_format_is_loaded(trained: Path, tiny_folder: Path, tmp_path: Path):
    """Format 3 held the same tensors, those of points and cameras without a prefix."""
    whole = checkpoints(trained / "checkpoints")[-1]
    with safe_open(whole, framework="pt") as file:
        metadata = file.metadata() | {"format": "adop-checkpoint-3"}
        del metadata["sha256"]  # which that format had not
        tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    older = {re.sub(r"^model\.(points|cameras)\.", "model.", name): value for name, value in tensors.items()}
    assert "model.xyz" in older and "model.intrinsics.0" in older
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "config.json").write_text((trained / "config.json").read_text())
    save_file(older, tmp_path / "checkpoints" / whole.name, metadata)
    loaded = load(tmp_path, tiny_folder, say=lambda _: None).pipeline.state_dict()
    for name, value in load(trained, tiny_folder, say=lambda _: None).pipeline.state_dict().items():
        assert torch.equal(loaded[name], value), name


def test_points_that_no_crop_shows_do_not_change(trained: Path, tiny_folder: Path):
    """Adam moves only rows with a gradient, so a point that no photo sees keeps its initial features."""
    run = load(trained, tiny_folder, say=lambda _: None)
    spare = run.pipeline.points.features[:, 3]
    assert bool((spare == 0).any()) and bool((spare != 0).any())
    assert torch.isfinite(run.pipeline.points.features).all()
    seen = torch.zeros(len(spare), dtype=torch.bool)
    for batch in (draw_batch(run, step) for step in range(run.config.steps)):
        # A crop two pixels wider on each side: the cameras have moved since.
        side = batch.side + 4
        camera = run.pipeline.camera(batch.photos, batch.crop - torch.tensor([0.0, 2.0, 2.0]), (side, side))
        seen |= run.pipeline.project(camera).visible.any(0)
    assert bool((~seen).any()) and not spare[~seen].any()
