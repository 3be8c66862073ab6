"""Points for scenes that have cameras but no points, on photos of the demo scene with its true cameras."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
from PIL import Image

from adop.__main__ import _run
from adop.capture.cameras import given_camera
from adop.capture.triangulate import triangulate_scene_points
from adop.cli.other_programs import import_colmap_command, import_nerfstudio_command
from adop.errors import UserError
from adop.geometry.colmap_lens import colmap_lens
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import invert_rigid
from adop.importers.import_scene import import_colmap
from adop.scene.read import load_scene
from adop.scene.scene import Photo, Scene, demo_scene_folder
from support.small_scene import write_colmap

pytest.importorskip("pycolmap")

PHOTOS = range(8)


def demo() -> Scene:
    """Return the demo scene with its first photos."""
    scene = load_scene(demo_scene_folder(), report=lambda _: None)
    return replace(scene, photos=tuple(scene.photos[index] for index in PHOTOS))


def write_transforms(folder: Path, scene: Scene, size: tuple[int, int] | None = None) -> Path:
    """Write the photos, in another size if one is given, and a transforms.json that names no points."""
    (folder / "images").mkdir(parents=True)
    frames = []
    for photo in scene.photos:
        target = folder / "images" / photo.name
        shutil.copy(photo.file, target)
        if size is not None:
            with Image.open(photo.file) as image:
                image.resize(size, Image.Resampling.LANCZOS).save(target, quality=97)
        opengl = invert_rigid(photo.world_to_camera) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": f"images/{photo.name}", "transform_matrix": opengl.tolist()})
    lens = scene.lenses[0]
    names = ("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2", "k3")
    numbers = dict(zip(names, [*lens.intrinsics, *lens.distortion[:5]], strict=True))
    data = {"camera_model": "OPENCV", "w": lens.width, "h": lens.height, **numbers, "frames": frames}
    (folder / "transforms.json").write_text(json.dumps(data))
    return folder


def import_nerfstudio(folder: Path, output: Path) -> int:
    words = [str(folder / "transforms.json"), "--output", str(output)]
    return _run(import_nerfstudio_command, "adop import nerfstudio", words)


def depth_errors(scene: Scene) -> np.ndarray:
    """Return depth / true depth - 1 of the points in photo 0, for the nearest true depth within a pixel."""
    lens, pose = demo().views[0]
    uv, depth, inside = lens.project(scene.points.xyz.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3])
    with OpenEXR.File(str(demo_scene_folder() / "truth" / "square_000.exr")) as file:
        true_depth = np.pad(file.parts[0].channels["Z"].pixels.astype(np.float64), 1, mode="edge")
    near = np.lib.stride_tricks.sliding_window_view(true_depth, (3, 3)).reshape(*true_depth[2:, 2:].shape, 9)
    column, row = uv[inside].astype(int).T
    errors = depth[inside][:, None] / near[row, column] - 1
    return errors[np.arange(len(errors)), np.abs(errors).argmin(axis=1)]


def test_a_transforms_json_without_points_gets_points_on_the_surfaces(tmp_path, capsys):
    folder = write_transforms(tmp_path / "in", demo())
    assert import_nerfstudio(folder, tmp_path / "scene") == 0
    said = capsys.readouterr().out
    assert "points were triangulated; `adop densify SCENE` finds dense ones." in said
    scene = load_scene(tmp_path / "scene", report=pytest.fail)
    errors = depth_errors(scene)
    assert len(scene.points) > 700 and np.median(np.abs(errors)) < 0.01
    assert np.mean(np.abs(errors) < 0.02) > 0.7  # photo 0 does not see all of them
    assert np.mean(errors < -0.05) < 0.08
    for photo, true in zip(scene.photos, demo().photos, strict=True):
        np.testing.assert_allclose(photo.world_to_camera, true.world_to_camera, atol=1e-9)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "scene"]


def test_points_have_the_colours_of_the_photos(tmp_path):
    scene = demo()
    raw = triangulate_scene_points(scene.lenses, scene.photos, tmp_path, lambda _: None)
    lens, pose = scene.views[3]
    uv, _, inside = lens.project(raw.xyz @ pose[:3, :3].T + pose[:3, 3])
    with Image.open(scene.photos[3].file) as image:
        column, row = uv[inside].astype(int).T
        difference = np.abs(np.asarray(image)[row, column].astype(int) - raw.colors[inside]).max(1)
    assert np.median(difference) < 40  # exposure differs from photo to photo


def test_masked_parts_get_no_points(tmp_path):
    scene = demo()
    lens = scene.lenses[0]
    counts = np.zeros((lens.height, lens.width), np.uint8)
    counts[:, : lens.width // 2] = 255
    Image.fromarray(counts).save(tmp_path / "mask.png")
    photos = [replace(photo, mask=tmp_path / "mask.png") for photo in scene.photos]
    (tmp_path / "work").mkdir()
    raw = triangulate_scene_points(scene.lenses, photos, tmp_path / "work", lambda _: None)
    shown = []
    for own, pose in scene.views:
        uv, _, inside = own.project(raw.xyz @ pose[:3, :3].T + pose[:3, 3])
        shown.append(inside & (uv[:, 0] < lens.width / 2))
    # The reprojection error lets a point cross the mask's edge.
    assert (np.sum(shown, axis=0) >= 3).mean() > 0.98


def test_the_photos_may_be_smaller_than_their_cameras_say(tmp_path):
    folder = write_transforms(tmp_path / "in", demo(), size=(360, 270))
    assert import_nerfstudio(folder, tmp_path / "scene") == 0
    scene = load_scene(tmp_path / "scene", report=pytest.fail)
    assert scene.lenses[0].width == 360 and np.median(np.abs(depth_errors(scene))) < 0.01


def test_a_colmap_model_without_points_gets_some(tmp_path, capsys):
    scene = demo()
    lens = scene.lenses[0]
    camera = (4, "OPENCV", lens.width, lens.height, [*lens.intrinsics, *lens.distortion[:4]])
    names, poses = zip(*((photo.name, photo.world_to_camera) for photo in scene.photos), strict=True)
    model = write_colmap(tmp_path / "sparse", False, list(names), list(poses), camera, np.zeros((0, 3)))
    images = str(demo_scene_folder() / "images")
    words = [str(model), "--images", images, "--output", str(tmp_path / "scene")]
    assert _run(import_colmap_command, "adop import colmap", words) == 0
    made = load_scene(tmp_path / "scene", report=pytest.fail)
    assert len(made.points) > 700 and np.median(np.abs(depth_errors(made))) < 0.01
    (model / "points3D.bin").unlink()
    with pytest.raises(UserError, match="name a point cloud with --points"):
        import_colmap(model, Path(images), None, tmp_path / "other", report=lambda _: None)


def test_photos_that_do_not_fit_their_cameras_are_refused_in_a_sentence(tmp_path, capsys):
    scene = demo()
    turned = (*scene.photos[1:], scene.photos[0])
    photos = [
        replace(photo, world_to_camera=other.world_to_camera)
        for photo, other in zip(scene.photos, turned, strict=True)
    ]
    folder = write_transforms(tmp_path / "in", replace(scene, photos=tuple(photos)))
    assert import_nerfstudio(folder, tmp_path / "scene") == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert f"{folder / 'images'}: the photos and their cameras do not agree: only" in said
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_photos_that_do_not_overlap_are_named_by_their_folder(tmp_path):
    lens = Lens("opencv", 160, 130, np.array([150.0, 150, 80, 65]), np.zeros(8))
    photos = []
    for index in range(3):
        Image.new("RGB", (160, 130), (90, 90, 90)).save(tmp_path / f"{index}.png")
        photos.append(Photo(tmp_path / f"{index}.png", 0, np.eye(4)))
    (tmp_path / "work").mkdir()
    with pytest.raises(UserError, match=f"^{tmp_path}: no two photos overlap"):
        triangulate_scene_points([lens], photos, tmp_path / "work", lambda _: None)


def test_lenses_become_the_cameras_of_colmap_that_project_alike():
    intrinsics, k = np.array([300.0, 310, 240, 180]), np.array([-0.05, 0.01, 1e-3, -1e-3])
    lenses = {
        "OPENCV": Lens("opencv", 480, 360, intrinsics, np.array([*k, 0, 0, 0, 0])),
        "FULL_OPENCV": Lens("opencv", 480, 360, intrinsics, np.array([*k, 1e-3, 2e-3, -1e-3, 5e-4])),
        "OPENCV_FISHEYE": Lens("fisheye", 480, 360, intrinsics, np.array([0.02, -0.01, 1e-3, 1e-4])),
    }
    for model, lens in lenses.items():
        group = given_camera(lens, [0])
        assert group.model == model and group.given is not None
        assert group.given[1] == (*lens.intrinsics, *lens.distortion[: 4 if model == "OPENCV" else None])
        same = colmap_lens(model, 480, 360, group.given[1], "")
        np.testing.assert_array_equal(same.distortion, lens.distortion)
    ocam = Lens("ocam", 480, 360, intrinsics, np.zeros(20))
    with pytest.raises(UserError, match=r"no counterpart of an ocam lens.*--points"):
        given_camera(ocam, [0])
