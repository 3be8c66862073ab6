"""`adop capture` as a whole, on photos of the demo scene: the scene, the report, errors, and interruptions."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image
from scipy.spatial.transform import Rotation

from adop.__main__ import _run
from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.photo_files import collect_photos
from adop.cli.capture import capture_command
from adop.cli.train import train_command
from adop.importers.programs.colmap import read_colmap
from adop.scene.read import load_scene
from adop.scene.scene import demo_scene_folder

pytest.importorskip("pycolmap")

PHOTOS = range(8)
SMALL = ["--stereo.longest-side", "120", "--stereo.coarse-sweeps", "2", "--stereo.middle-sweeps", "1"]


def capture(*words: object) -> int:
    return _run(capture_command, "adop capture", [*map(str, words), *SMALL])


def demo_photos(folder: Path, indices=PHOTOS) -> Path:
    folder.mkdir(parents=True)
    for index in indices:
        shutil.copy(demo_scene_folder() / "images" / f"square_{index:03d}.jpg", folder)
    return folder


@pytest.fixture(scope="module")
def captured(tmp_path_factory) -> Path:
    """Return the folder that holds the photos `in` and the scene `scene` made of them."""
    folder = tmp_path_factory.mktemp("capture")
    demo_photos(folder / "in")
    assert capture(folder / "in", "--output", folder / "scene") == 0
    return folder


def test_a_folder_of_photos_becomes_a_scene(captured):
    scene = load_scene(captured / "scene", report=pytest.fail)
    assert [photo.name for photo in scene.photos] == [f"square_{index:03d}.jpg" for index in PHOTOS]
    assert len(scene.points) > 3000 and scene.points.normals is not None
    assert all(photo.exposure is not None for photo in scene.photos)  # from EXIF
    assert sorted(path.name for path in captured.iterdir()) == ["in", "scene"]
    lens, pose = scene.views[3]
    _, depth, inside = lens.project(scene.points.xyz.astype(float) @ pose[:3, :3].T + pose[:3, 3])
    assert inside.mean() > 0.5 and np.ptp(depth[inside]) > 0


def test_the_report_says_what_was_found(captured):
    folder = captured / "scene" / "capture"
    report = json.loads((folder / "report.json").read_text())
    assert [photo["name"] for photo in report["photos"]] == [f"square_{index:03d}.jpg" for index in PHOTOS]
    assert all(
        photo["placed"] and photo["coverage"] > 0.3 and photo["clipped"] < 1 for photo in report["photos"]
    )
    assert report["groups"] == [len(PHOTOS)] and report["reprojection_error_px"] < 0.6
    assert report["points"] == len(load_scene(captured / "scene").points)
    assert "8 of 8 photos placed" in (folder / "report.txt").read_text()
    page = (folder / "index.html").read_text()
    for index in PHOTOS:
        assert f"square_{index:03d}.jpg" in page
        with Image.open(folder / "photos" / f"{index:04d}_square_{index:03d}_points.jpg") as picture:
            assert picture.size == (480, 360) and np.asarray(picture).std() > 5
    assert len(read_colmap(folder / "sparse" / "0").images) == len(PHOTOS)


def test_the_page_fits_the_photos(captured):
    """The points that the page shows have the colours of the photo beside them."""
    folder = captured / "scene" / "capture" / "photos"
    with (
        Image.open(folder / "0003_square_003.jpg") as first,
        Image.open(folder / "0003_square_003_points.jpg") as second,
    ):
        photo, points = np.asarray(first).astype(int), np.asarray(second).astype(int)
    drawn = np.abs(points - 128).max(axis=2) > 25
    assert drawn.mean() > 0.01
    difference = np.abs(photo - points).max(axis=2)[drawn]
    assert np.median(difference) < 60  # exposures differ


def test_a_scene_is_not_replaced_unless_asked(captured, capsys):
    before = (captured / "scene" / "point_cloud.ply").read_bytes()
    assert capture(captured / "in", "--output", captured / "scene") == 2
    assert "already holds a scene; --force replaces it" in capsys.readouterr().err
    assert (captured / "scene" / "point_cloud.ply").read_bytes() == before


def test_training_on_photos_names_the_command(captured, capsys):
    assert _run(train_command, "adop train", [str(captured / "in"), "--output", str(captured / "run")]) == 2
    said = capsys.readouterr().err
    assert (
        f"not a scene folder (no dataset.ini); make one of photos with 'adop capture {captured / 'in'}"
        in said
    )
    assert not (captured / "run").exists()


def flat(folder: Path) -> None:
    for index in range(4):
        Image.new("RGB", (200, 160), (120, 130, 140)).save(folder / f"{index}.png")


def noise(folder: Path) -> None:
    for index in range(4):
        pixels = np.random.default_rng(index).integers(0, 256, (40, 50, 3), dtype=np.uint8)
        Image.fromarray(pixels).resize((400, 320), Image.Resampling.BICUBIC).save(folder / f"{index}.png")


def one(folder: Path) -> None:
    shutil.copy(demo_scene_folder() / "images" / "square_000.jpg", folder)


def truncated(folder: Path) -> None:
    one(folder)
    data = (folder / "square_000.jpg").read_bytes()
    (folder / "square_001.jpg").write_bytes(data[: len(data) // 3])


def tiny(folder: Path) -> None:
    one(folder)
    Image.new("RGB", (64, 48)).save(folder / "a.png")


def turned(folder: Path) -> None:
    """Show one photo as a camera of a longer lens sees it that turns on the spot."""
    pixels = cv2.imread(str(demo_scene_folder() / "images" / "square_004.jpg"))
    height, width = pixels.shape[:2]
    wide = np.array([[372.0, 0, width / 2], [0, 372.0, height / 2], [0, 0, 1]])
    narrow = np.array([[600.0, 0, 240], [0, 600.0, 200], [0, 0, 1]])
    for index, degrees in enumerate((-12, -7, -2, 3, 8, 12)):
        rotation = Rotation.from_euler("yx", [degrees, degrees / 3], degrees=True).as_matrix()
        view = cv2.warpPerspective(pixels, narrow @ rotation @ np.linalg.inv(wide), (480, 400))
        cv2.imwrite(str(folder / f"{index}.png"), view)


ERRORS = {
    "nothing": (lambda folder: None, "has no photos; their endings must be"),
    "one": (one, "has one photo; a scene needs at least 3 that overlap"),
    "broken": (truncated, "square_001.jpg: cannot be read as a photo"),
    "too small": (tiny, "a.png: is 64x48 pixels; a photo needs 128 at least"),
    "no detail": (flat, "no two photos overlap"),
    "no overlap": (noise, "no two photos overlap"),
    "turned": (turned, "all photos were taken from one place"),
}


@pytest.mark.parametrize("kind", ERRORS)
def test_photos_that_make_no_scene_are_refused_in_a_sentence(kind, tmp_path, capsys):
    fill, message = ERRORS[kind]
    (tmp_path / "in").mkdir()
    fill(tmp_path / "in")
    assert capture(tmp_path / "in", "--output", tmp_path / "scene") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert message in said
    assert not (tmp_path / "scene").exists()


def test_a_missing_folder_is_refused(tmp_path, capsys):
    assert capture(tmp_path / "in", "--output", tmp_path / "scene") == 2
    assert "no such folder of photos, and no such video" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_one_photo_in_the_place_of_a_folder_is_refused(tmp_path, capsys):
    Image.new("RGB", (300, 200)).save(tmp_path / "one.jpg")
    assert capture(tmp_path / "one.jpg", "--output", tmp_path / "scene") == 2
    assert "one.jpg: is one photo; name the folder that it lies in" in capsys.readouterr().err


def test_a_folder_of_the_users_is_not_taken_for_intermediate_results(tmp_path, capsys):
    mine = demo_photos(tmp_path / "scene.capture" / "photos", range(1))
    assert capture(demo_photos(tmp_path / "in"), "--output", tmp_path / "scene") == 2
    assert "scene.capture: is where the capture would keep" in capsys.readouterr().err
    assert len(list(mine.iterdir())) == 1


def test_a_capture_never_photographs_its_own_output(tmp_path):
    source = demo_photos(tmp_path / "in")
    for inner in ("scene/images", "scene.capture/photos"):
        demo_photos(source / inner, range(2))
    photos = collect_photos(source, source / "scene.capture", CaptureConfig(), lambda _: None)
    assert photos.names == tuple(f"square_{index:03d}.jpg" for index in PHOTOS)


@pytest.mark.long
@pytest.mark.parametrize("stage", ["Stage 2", "Stage 3", "Stage 4"])
def test_a_killed_capture_goes_on_to_the_same_scene(stage, captured, tmp_path):
    shutil.copytree(captured / "in", tmp_path / "in")
    words = [sys.executable, "-u", "-m", "adop", "capture", "in", "--output", "scene", *SMALL]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    with subprocess.Popen(words, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, text=True) as killed:
        assert killed.stdout is not None
        assert any(line.startswith(stage) for line in killed.stdout)
        time.sleep(1.0)
        killed.send_signal(signal.SIGKILL)
    assert not (tmp_path / "scene").exists() and (tmp_path / "scene.capture").is_dir()
    assert capture(tmp_path / "in", "--output", tmp_path / "scene") == 0
    assert not (tmp_path / "scene.capture").exists()
    ours, expected = (load_scene(folder / "scene") for folder in (tmp_path, captured))
    for photo, other in zip(ours.photos, expected.photos, strict=True):
        np.testing.assert_allclose(photo.world_to_camera, other.world_to_camera, atol=1e-4)
    assert abs(len(ours.points) / len(expected.points) - 1) < 0.02


def test_a_disk_without_room_is_refused_at_once(tmp_path, capsys, monkeypatch):
    demo_photos(tmp_path / "in", range(3))
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10_000_000))
    assert capture(tmp_path / "in", "--output", tmp_path / "scene") == 2
    assert "GB are needed, 0.01 GB are free. Make room" in capsys.readouterr().err
    assert not (tmp_path / "scene").exists()


def test_a_folder_that_cannot_be_written_is_named(tmp_path, capsys):
    demo_photos(tmp_path / "in", range(3))
    (tmp_path / "file").write_text("not a folder")
    assert capture(tmp_path / "in", "--output", tmp_path / "file" / "scene") == 2
    assert "file" in capsys.readouterr().err
