"""The quality benchmark: its curve, its plot, and the scores of rivals' renders."""

import dataclasses
import itertools
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from adop.bench.quality.benchmark import BenchQualityConfig, bench_quality
from adop.bench.quality.plot import plot_quality, quality_table
from adop.bench.quality.rivals import find_renders, parse_rivals, score_rival
from adop.errors import UserError
from adop.evaluation.evaluate import score_photo
from adop.images.writers import save_png, to_uint8
from adop.run.run import load
from adop.scene.read import load_scene
from adop.scene.scene import Scene
from adop.scene.write import save_scene
from support.small_scene import with_points


@pytest.fixture(scope="module")
def few(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a scene of four small photos, one of which `quick` holds out."""
    scene = with_points(load_scene(tiny_folder, report=lambda _: None), slice(None, None, 2))
    folder = tmp_path_factory.mktemp("quality") / "few"
    save_scene(dataclasses.replace(scene, photos=scene.photos[:4]), folder)
    return folder


def test_our_own_renders_score_as_a_rival_what_they_score_in_the_run(trained_folder: Path, tmp_path: Path):
    run = load(trained_folder, say=lambda _: None)
    photo = run.split["held_out"][0]
    score, images = score_photo(run, photo)
    (tmp_path / "sub").mkdir()
    save_png(tmp_path / "sub" / f"{Path(score.photo).stem}.png", to_uint8(images.render))
    renders = find_renders(tmp_path, run.scene, [photo])
    found = score_rival(renders, run.cache, [photo], [score.photo])["photos"][0]
    own = score.values()
    assert found.keys() <= own.keys() and {"psnr", "flip_corrected", "edge_contrast"} <= found.keys()
    assert found["photo"] == own["photo"]
    for name in found.keys() - {"photo"}:  # eight bits are the only difference
        assert found[name] == pytest.approx(own[name], rel=0.01), name


@pytest.mark.long
def test_a_training_becomes_a_curve_a_plot_and_a_table(
    few: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    rival = tmp_path / "rival"
    rival.mkdir()
    scene = load_scene(few, report=lambda _: None)
    shutil.copy(scene.photos[0].file, rival / Path(scene.photos[0].name).name)
    words = {"rival": (f"perfect={rival}",), "rival_seconds": ("perfect=12",)}
    config = BenchQualityConfig(
        (few,), steps=8, output=tmp_path / "out", json=tmp_path / "out.json", device="cpu", **words
    )
    assert bench_quality(config) == 0
    result = json.loads((tmp_path / "out.json").read_text())["scenes"]["few"]
    curve = result["presets"]["quick"]["curve"]
    assert [point["step"] for point in curve] == [1, 2, 4, 8]
    assert all(a["seconds"] < b["seconds"] for a, b in itertools.pairwise(curve))
    evaluated = json.loads((tmp_path / "out" / "few-quick" / "eval" / "eval.json").read_text())["mean"]
    assert curve[-1]["flip_fitted"] == evaluated["flip_fitted"] != curve[0]["flip_fitted"]
    perfect = result["rivals"]["perfect"]
    assert perfect["seconds"] == 12
    assert perfect["mean"]["psnr"] == 100 and perfect["mean"]["flip_corrected"] < 1e-3
    assert not list((tmp_path / "out").glob("*snapshots"))
    said = capsys.readouterr().out
    assert "perfect" in said and "points, untrained" in said
    with Image.open(tmp_path / "out" / "quality.png") as image:
        assert image.size == (1500, 400)
    with pytest.raises(UserError, match="not empty"):
        bench_quality(config)


def scene_of(few: Path) -> Scene:
    return load_scene(few, report=lambda _: None)


def test_a_folder_without_an_image_of_a_photo_is_refused(few: Path, tmp_path: Path):
    with pytest.raises(UserError, match=r"no image of 1 of the 1 held-out photos.*\.jpg"):
        find_renders(tmp_path, scene_of(few), [0])


def test_two_images_of_a_photo_are_refused(few: Path, tmp_path: Path):
    stem = Path(scene_of(few).photos[0].name).stem
    for ending in (".png", ".jpg"):
        Image.new("RGB", (240, 180)).save(tmp_path / f"{stem}{ending}")
    with pytest.raises(UserError, match="has 2 images of photo"):
        find_renders(tmp_path, scene_of(few), [0])


def test_an_image_of_another_size_is_refused(few: Path, tmp_path: Path):
    Image.new("RGB", (48, 36)).save(tmp_path / f"{Path(scene_of(few).photos[0].name).stem}.png")
    with pytest.raises(UserError, match="is 48x36 pixels; the photo has 240x180"):
        find_renders(tmp_path, scene_of(few), [0])


@pytest.mark.parametrize(
    ("folders", "seconds", "message"),
    [
        (("name",), (), "expected NAME=VALUE"),
        (("a=/does/not/exist",), (), "is not a folder"),
        (("a={}", "a={}"), (), "named twice"),
        (("a={}",), ("b=3",), "no --rival b="),
        (("a={}",), ("a=soon",), "number of seconds above 0"),
        (("a={}",), ("a=-1",), "number of seconds above 0"),
    ],
)
def test_rivals_that_cannot_be_used_are_refused(folders, seconds, message: str, tmp_path: Path):
    with pytest.raises(UserError, match=message):
        parse_rivals(tuple(word.format(tmp_path) for word in folders), seconds)


def test_options_are_refused_before_anything_is_trained(few: Path, tmp_path: Path):
    output = tmp_path / "out"
    for config, message in (
        (BenchQualityConfig((few,), presets=("huge",), output=output), "huge"),
        (BenchQualityConfig((few, few), output=output), "same name"),
        (BenchQualityConfig((few,), rival=(f"a={tmp_path}",), output=output), "no image"),
    ):
        with pytest.raises(UserError, match=message):
            bench_quality(config)
    assert not output.exists()


@pytest.mark.filterwarnings("error")
def test_rivals_without_seconds_and_long_trainings_are_drawn(tmp_path: Path):
    scores = {
        f"{name}_{end}": value
        for name, value in {"psnr": 20.0, "ssim": 0.7, "flip": 0.1, "edge_contrast": 0.5}.items()
        for end in ("fitted", "corrected")
    } | {"psnr": 19.0}
    curve = [{"step": 1, "seconds": 10.0} | scores, {"step": 2, "seconds": 500.0} | scores]
    corrected = {name: 1.1 * value for name, value in scores.items() if "fitted" not in name}
    rivals = {"other": {"seconds": None, "mean": corrected}}
    scenes = {"a": {"presets": {"quick": {"curve": curve, "baseline_points": scores}}, "rivals": rivals}}
    plot_quality(scenes, "machine", tmp_path / "plot.png")
    pixels = np.asarray(Image.open(tmp_path / "plot.png").convert("RGB")).reshape(-1, 3).astype(int)
    orange = (np.abs(pixels - [0xC8, 0x5A, 0x28]) < 40).all(1)
    assert orange.sum() > 300  # the rival's line in three panels
    row = next(line for line in quality_table(scenes).splitlines() if "other" in line)
    assert row.split() == ["other", "-", "20.90", "-", "22.00", "0.770", "0.110", "0.55"]
