"""Rendered views and their files, from a run of a few steps."""

import dataclasses
import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import OpenEXR
import pytest
import torch

from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.images.writers import depth_picture
from adop.render.camera_path import Frame, photos_path, pinhole
from adop.render.camera_settings import CameraSettings
from adop.render.output import render_path, save_path_views, save_view
from adop.run.photos.scene_photos import find_photo
from adop.run.render import render_camera, render_photo
from adop.run.run import Run, load
from support.command_line import status_of


@pytest.fixture(scope="module")
def run(trained_folder: Path) -> Run:
    return load(trained_folder, say=lambda _: None)


def test_a_photo_renders_close_to_the_photo(run: Run):
    view = render_photo(run, 5)
    photo = run.cache.get(5).permute(2, 0, 1).float() / 255
    assert view.image.shape == photo.shape
    assert float((view.image - photo).abs().mean()) < 0.12
    assert bool((view.radiance >= 0).all())


def test_one_stop_darkens_the_image_and_leaves_the_radiance(run: Run):
    frame = Frame(run.scene.photos[3].world_to_camera, 1.0)
    camera = pinhole(frame, 160, 120, torch.device("cpu"))
    bright, dark = render_camera(run, camera, exposure=0.0), render_camera(run, camera, exposure=1.0)
    assert torch.equal(bright.radiance, dark.radiance)
    assert float(dark.image.mean()) < float(bright.image.mean())


def test_every_depth_is_that_of_a_point(run: Run):
    view = render_photo(run, 5)
    pose = run.scene.photos[5].world_to_camera
    z = (run.pipeline.points.xyz.numpy() @ pose[2, :3] + pose[2, 3]).astype(np.float32)
    known = view.depth[torch.isfinite(view.depth)]
    assert len(known) > 0.5 * view.depth.numel()
    nearest = torch.from_numpy(np.sort(z))
    at = torch.searchsorted(nearest, known).clamp(1, len(nearest) - 1)
    gap = torch.minimum((nearest[at] - known).abs(), (nearest[at - 1] - known).abs())
    assert float(gap.max()) < 1e-3


def test_saved_files_contain_the_rendered_view(run: Run, tmp_path: Path):
    view = render_photo(run, 2)
    written = save_view(view, tmp_path / "view", ("png", "exr", "depth"))
    assert sorted(p.name for p in written) == sorted(p.name for p in tmp_path.iterdir())
    pixels = iio.imread(tmp_path / "view.png").astype(float) / 255
    assert np.abs(pixels - view.image.permute(1, 2, 0).numpy()).max() < 0.003
    exr = OpenEXR.File(str(tmp_path / "view.exr")).channels()["RGB"].pixels
    assert np.array_equal(exr, view.radiance.permute(1, 2, 0).numpy())
    depth = OpenEXR.File(str(tmp_path / "view_depth.exr")).channels()["Z"].pixels
    assert np.array_equal(depth, view.depth.numpy())
    assert iio.imread(tmp_path / "view_depth.png").dtype == np.uint16


def test_a_path_becomes_a_video_with_its_frames(run: Run, tmp_path: Path):
    path = dataclasses.replace(photos_path(run.scene, 0.5, 12, 161), rate=12)
    assert path.width == 160 and len(path.frames) == 6
    save_path_views(render_path(run.pipeline, path), path, tmp_path / "walk.mp4", ("png",))
    frames = iio.imread(tmp_path / "walk.mp4", plugin="pyav")
    assert frames.shape == (6, path.height, 160, 3)
    assert np.abs(frames[0].astype(float) - frames[-1]).mean() > 3
    assert [p.name for p in tmp_path.iterdir()] == ["walk.mp4"]


def test_a_path_becomes_numbered_images(run: Run, tmp_path: Path):
    path = photos_path(run.scene, 0.25, 8, 80)
    views = render_path(run.pipeline, path, CameraSettings(exposure=0.5))
    save_path_views(views, path, tmp_path / "frames", ("png", "exr"))
    assert sorted(p.name for p in (tmp_path / "frames").iterdir()) == [
        "00000.exr",
        "00000.png",
        "00001.exr",
        "00001.png",
    ]
    shorter = dataclasses.replace(path, frames=path.frames[:1])
    with pytest.raises(
        UserError, match=r"has frames that would remain behind the 1 of this path, such as 00001\.png"
    ):
        save_path_views(iter(()), shorter, tmp_path / "frames", ("png",))


def test_photos_are_found_by_name_stem_and_index(run: Run):
    name = run.scene.photos[4].name
    assert (
        find_photo(run.scene, name)
        == find_photo(run.scene, Path(name).stem)
        == find_photo(run.scene, "4")
        == 4
    )
    with pytest.raises(UserError, match="is not in the scene"):
        find_photo(run.scene, "nobody.jpg")


def test_a_panorama_is_the_same_wherever_its_seams_are(run: Run):
    """Turned by 45 degrees, the seams between the faces of the cube lie where their middles were."""
    up = torch.from_numpy(run.scene.up_vector)
    camera = run.photo_camera(5)
    eye, forward = camera.centre()[0].double(), camera.world_to_camera[0, 2, :3].double()
    level = forward - (forward @ up) * up
    aside = Camera.look_at(eye, eye + level + torch.linalg.cross(level, up), up)
    one, other = run.render_panorama(camera, 256), run.render_panorama(aside, 256)
    difference = (one.image - other.image.roll(256 // 8, dims=-1)).mean(0)
    seen = torch.isfinite(one.depth)
    assert 0.05 < float(seen.float().mean()) < 0.9
    assert float(difference[~seen].abs().mean()) < 0.01 and float(difference[seen].abs().mean()) < 0.06
    seam = torch.zeros_like(seen)
    for column in (32, 96, 160, 224):
        seam[:, column - 5 : column + 5] = True
    assert abs(float(difference[seam].mean())) < 0.002  # no face is brighter than its neighbours
    assert float(difference[seen & seam].abs().mean()) < 2 * float(difference[seen & ~seam].abs().mean())


def test_a_run_prints_what_it_is(run: Run, tmp_path: Path):
    lines = str(dataclasses.replace(run, folder=tmp_path)).splitlines()
    assert [line.split()[0] for line in lines] == ["run", "scene", "photos", "points", "training", "scores"]
    assert (
        "13 trained, 1 held out; 480x360" in lines[2] and "step 3 of 3" in lines[4] and "none yet" in lines[5]
    )
    (tmp_path / "eval").mkdir()
    scores = {"mean": {"psnr": 20.125, "ssim": 0.7, "flip": 0.25}, "step": 2}
    for content, says in (
        (json.dumps(scores), "PSNR 20.12 dB, SSIM 0.700, FLIP 0.250, at step 2"),
        (json.dumps(scores | {"mean": {"psnr": "high"}}), "none yet"),
        ("[1]", "none yet"),
        ("nonsense", "none yet"),
    ):
        (tmp_path / "eval" / "eval.json").write_text(content)
        assert says in str(dataclasses.replace(run, folder=tmp_path))
    assert repr(run) == f"Run('{run.folder}', step 3)"


def test_a_run_knows_the_centre_of_its_scene(run: Run):
    """The photographer of the demo scene walks an arc around a fountain, and aims at a place behind its top."""
    assert run.scene_centre == pytest.approx([0, 1.2, 2.0], abs=0.5)
    assert 7.3 < run.scene_radius < 9


def test_depth_images_show_near_as_bright_and_the_environment_as_black():
    picture = depth_picture(np.array([[1.0, 2.0], [4.0, np.inf]], np.float32))
    assert picture[0, 0] > picture[0, 1] > picture[1, 0] > picture[1, 1] == 0


def test_the_commands_render_and_evaluate(run: Run, tmp_path: Path):
    def adop(*arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [str(Path(sys.executable).with_name("adop")), *arguments],
            capture_output=True,
            text=True,
            check=False,
            cwd=tmp_path,
        )

    done = adop("render", str(run.folder), "--photo", "1", "--output", "one.png")
    assert done.returncode == 0, done.stderr
    assert iio.imread(tmp_path / "one.png").shape == (360, 480, 3)
    write_path(tmp_path / "two.json", run.scene.photos[1].world_to_camera)
    done = adop("eval", str(run.folder), "--path", "two.json")
    assert done.returncode == 0 and "trained" in done.stdout, done.stderr
    assert json.loads((run.folder / "eval" / "eval.json").read_text())["step"] == 3


def write_path(file: Path, world_to_camera: np.ndarray) -> None:
    """Write a camera path of two frames, nerfstudio's, so that the flicker is measured in a moment."""
    camera_to_world = np.linalg.inv(world_to_camera) @ np.diag([1.0, -1.0, -1.0, 1.0])
    frame = {"camera_to_world": camera_to_world.flatten().tolist(), "fov": 50.0, "aspect": 4 / 3}
    path = {"camera_path": [frame, frame], "render_width": 96, "render_height": 72, "fps": 24, "seconds": 0.1}
    file.write_text(json.dumps(path))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("render RUN --output x.png", "exactly one of"),
        ("render RUN --path --output EMPTY/walk.mp5", "is not written as .mp5; choose .mp4"),
        ("render EMPTY/run --path --output EMPTY/walk.mp4", "there is no such folder"),
        ("eval SCENE", "is a scene and not a run; train it first: adop train"),
        ("train EMPTY/scene --output EMPTY/out", "there is no such folder; 'adop capture"),
        ("eval EMPTY", "has no config.json"),
        ("train EMPTY/nowhere --output EMPTY/out", "nowhere"),
        ("fly", "no command"),
    ],
)
def test_mistakes_end_in_a_sentence(
    run: Run, words: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys
):
    for place, folder in {"RUN": run.folder, "EMPTY": tmp_path, "SCENE": run.config.scene}.items():
        words = words.replace(place, str(folder))
    typed = words.split()
    assert status_of(typed, monkeypatch) == 2
    said = capsys.readouterr().err
    assert message in said and "Traceback" not in said
