"""Exported cameras: COLMAP and our importers read the same ones, and OpenCV and pycolmap project the same points."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from PIL import Image
from scipy.spatial import cKDTree

from adop.errors import UserError
from adop.export.colmap import colmap_camera
from adop.export.export import export_run
from adop.export.export_config import ExportConfig
from adop.geometry.lens import Lens
from adop.importers.import_scene import import_colmap, import_nerfstudio
from adop.model.cameras import LearnedCameras
from adop.run.run import Run
from adop.scene.scene import Scene
from support.imports import PLAIN, silent
from support.small_scene import lens as small_lens

pycolmap = pytest.importorskip("pycolmap")


def source_poses(run: Run) -> np.ndarray:
    """The refined poses, with camera centres in the source's coordinates."""
    poses = run.pipeline.cameras.poses.numpy().copy()
    centres = -np.einsum("pji,pj->pi", poses[:, :3, :3], poses[:, :3, 3]) + run.scene.world_offset
    poses[:, :3, 3] = -np.einsum("pij,pj->pi", poses[:, :3, :3], centres)
    return poses


def learned_lens(run: Run, number: int = 0) -> Lens:
    """A lens with the intrinsics and distortion that the run's cameras have."""
    lens, cameras = run.scene.lenses[number], run.pipeline.cameras
    intrinsics = cameras.intrinsics[number].detach().double().numpy()
    distortion = cameras.distortion[number].detach().double().numpy()
    return Lens(lens.model, lens.width, lens.height, intrinsics, distortion)


def seen_pixels(run: Run, photo: int) -> tuple[np.ndarray, np.ndarray]:
    """Points in the source's coordinates, and the pixels at which the run's camera sees them."""
    xyz = run.pipeline.points.xyz.numpy().astype(np.float64)
    pose = run.pipeline.cameras.poses[photo].numpy()
    uv, _, inside = learned_lens(run).project(xyz @ pose[:3, :3].T + pose[:3, 3])
    assert inside.sum() > 100
    return xyz[inside] + run.scene.world_offset, uv[inside]


def assert_same_scene(scene: Scene, run: Run) -> None:
    """Check cameras, split and points of a scene that was imported again, which may have been moved."""
    names = [photo.name for photo in run.scene.photos]
    assert [photo.name for photo in scene.photos] == sorted(names)
    for photo in scene.photos:
        index = names.index(photo.name)
        pose = photo.world_to_camera
        expected = source_poses(run)[index]
        np.testing.assert_allclose(pose[:3, :3], expected[:3, :3], atol=1e-9)
        centre = -pose[:3, :3].T @ pose[:3, 3] + scene.world_offset
        np.testing.assert_allclose(centre, -expected[:3, :3].T @ expected[:3, 3], rtol=0, atol=1e-6)
        assert photo.held_out == (index in run.split["held_out"])
    (lens,), own = scene.lenses, learned_lens(run)
    np.testing.assert_allclose(lens.intrinsics, own.intrinsics, atol=1e-9)
    np.testing.assert_allclose(lens.distortion, own.distortion, atol=1e-12)
    points = run.pipeline.points.xyz.numpy() + run.scene.world_offset
    distance, _ = cKDTree(points).query(scene.points.xyz + scene.world_offset)
    assert distance.max() < 1e-5 and len(distance) > 0.95 * len(points)


@pytest.mark.parametrize("text", [False, True])
def test_pycolmap_reads_the_refined_cameras_and_points(text: bool, refined_run: Run, tmp_path: Path):
    said: list[str] = []
    export_run(refined_run, "colmap", tmp_path / "model", ExportConfig(text=text), said.append)
    kind = ".txt" if text else ".bin"
    assert (tmp_path / "model" / f"points3D{kind}").is_file()
    model = pycolmap.Reconstruction(tmp_path / "model")
    photos = refined_run.scene.photos
    by_name = {image.name: image for image in model.images.values()}
    assert sorted(by_name) == sorted(photo.name for photo in photos)
    expected = source_poses(refined_run)
    for index, photo in enumerate(photos):
        image = by_name[photo.name]
        np.testing.assert_allclose(image.cam_from_world().matrix(), expected[index, :3], rtol=1e-9, atol=1e-6)
    xyz, uv = seen_pixels(refined_run, 1)
    image = by_name[photos[1].name]
    found = np.stack([image.project_point(point) for point in xyz[:200]])
    np.testing.assert_allclose(found, uv[:200], atol=1e-5)
    points = model.points3D
    own = refined_run.pipeline.points.xyz.numpy() + refined_run.scene.world_offset
    assert len(points) == len(own)
    np.testing.assert_allclose(
        np.stack([points[i + 1].xyz for i in range(100)]), own[:100], rtol=0, atol=1e-6
    )
    assert any(
        "8 refined, 2 as given in the scene, those of the held-out" in sentence for sentence in said
    ), said
    assert "10 photos (2 held out)" in said[-1]


def test_a_model_imported_again_is_the_same(refined_run: Run, tmp_path: Path):
    export_run(refined_run, "colmap", tmp_path / "model", report=silent)
    config = replace(PLAIN, split=tmp_path / "model" / "test.txt")
    images = refined_run.scene.folder / "images"
    scene = import_colmap(tmp_path / "model", images, None, tmp_path / "scene", config, silent)
    assert_same_scene(scene, refined_run)


@pytest.mark.parametrize("link", [False, True])
def test_a_transforms_json_imported_again_is_the_same(link: bool, refined_run: Run, tmp_path: Path):
    export_run(refined_run, "nerfstudio", tmp_path / "data", ExportConfig(link=link), silent)
    photo = tmp_path / "data" / "images" / refined_run.scene.photos[0].name
    assert photo.is_symlink() == link
    scene = import_nerfstudio(tmp_path / "data", None, tmp_path / "scene", config=PLAIN, report=silent)
    assert_same_scene(scene, refined_run)


def test_opencv_projects_as_a_transforms_json_says(refined_run: Run, tmp_path: Path):
    """nerfstudio's cameras look along -z, with y up; its distortion is OpenCV's."""
    said: list[str] = []
    export_run(refined_run, "nerfstudio", tmp_path / "data", report=said.append)
    assert any("nerfstudio computes in float32" in sentence for sentence in said)
    data = json.loads((tmp_path / "data" / "transforms.json").read_text())
    assert data["camera_model"] == "OPENCV" and data["ply_file_path"] == "points.ply"
    names = [photo.name for photo in refined_run.scene.photos]
    assert [frame["file_path"] for frame in data["frames"]] == [f"images/{name}" for name in names]
    xyz, uv = seen_pixels(refined_run, 1)
    camera_to_world = np.array(data["frames"][1]["transform_matrix"])
    local = (xyz - camera_to_world[:3, 3]) @ camera_to_world[:3, :3] * (1, -1, -1)
    matrix = np.array([[data["fl_x"], 0, data["cx"]], [0, data["fl_y"], data["cy"]], [0, 0, 1]])
    distortion = np.array([data[name] for name in ("k1", "k2", "p1", "p2", "k3")])
    found, _ = cv2.projectPoints(local, np.zeros(3), np.zeros(3), matrix, distortion)
    np.testing.assert_allclose(found[:, 0], uv, atol=1e-5)
    parts = {name: data[f"{name}_filenames"] for name in ("train", "val", "test")}
    assert parts["val"] == parts["test"] == [f"images/{names[index]}" for index in (0, 8)]
    assert sorted(parts["train"] + parts["val"]) == sorted(f"images/{name}" for name in names)


def test_every_photo_has_a_mask_if_one_has(plain_run: Run, tmp_path: Path):
    photos = plain_run.scene.photos
    lens = plain_run.scene.lenses[0]
    Image.new("L", (lens.width, lens.height), 7).save(tmp_path / "mask.png")
    masked = replace(photos[3], mask=tmp_path / "mask.png")
    plain_run.scene = replace(plain_run.scene, photos=(*photos[:3], masked, *photos[4:]))
    export_run(plain_run, "nerfstudio", tmp_path / "data", report=silent)
    frames = json.loads((tmp_path / "data" / "transforms.json").read_text())["frames"]
    pictures = [Image.open(tmp_path / "data" / frame["mask_path"]) for frame in frames]
    assert {picture.size for picture in pictures} == {(lens.width, lens.height)}
    assert [np.asarray(picture).min() for picture in pictures] == [255] * 3 + [7] + [255] * 6


def test_photos_of_several_lenses_keep_their_own(plain_run: Run, tmp_path: Path):
    scene = plain_run.scene
    first = scene.lenses[0]
    other = Lens(
        "opencv",
        first.width,
        first.height,
        first.intrinsics * 1.1,
        first.distortion + 1e-3 * (np.arange(8) < 5),
    )
    photos = tuple(replace(photo, lens=index % 2) for index, photo in enumerate(scene.photos))
    plain_run.scene = replace(scene, lenses=(first, other), photos=photos)
    plain_run.pipeline.cameras = LearnedCameras(plain_run.scene, 1.0, False)
    export_run(plain_run, "colmap", tmp_path / "model", report=silent)
    export_run(plain_run, "nerfstudio", tmp_path / "data", report=silent)
    images = scene.folder / "images"
    for imported in (
        import_colmap(tmp_path / "model", images, None, tmp_path / "one", PLAIN, silent),
        import_nerfstudio(tmp_path / "data", None, tmp_path / "two", config=PLAIN, report=silent),
    ):
        assert len(imported.lenses) == 2
        for photo, own in zip(imported.photos, photos, strict=True):
            lens, expected = imported.lenses[photo.lens], learned_lens(plain_run, own.lens)
            assert photo.name == own.name
            np.testing.assert_allclose(lens.intrinsics, expected.intrinsics, atol=1e-9)
            np.testing.assert_allclose(lens.distortion, expected.distortion, atol=1e-12)


LENSES = (
    ("PINHOLE", small_lens().intrinsics, "opencv", [0.0] * 8),
    ("OPENCV", small_lens().intrinsics, "opencv", [-0.05, 0.01, 1e-3, -1e-3, 0, 0, 0, 0]),
    ("FULL_OPENCV", small_lens().intrinsics, "opencv", [-0.05, 0.01, 1e-3, -1e-3, 0.01, 0.02, 0.01, -0.01]),
    ("OPENCV_FISHEYE", small_lens().intrinsics, "fisheye", [0.02, -0.01, 0.005, 0.001]),
)


@pytest.mark.parametrize(
    ("name", "intrinsics", "model", "distortion"), LENSES, ids=[row[0] for row in LENSES]
)
def test_colmap_projects_as_every_lens_does(name, intrinsics, model, distortion, rng):
    lens = Lens(model, 48, 36, intrinsics, np.array(distortion))
    camera = colmap_camera(lens, 3)
    assert (camera.model.name, camera.width, camera.height, camera.camera_id) == (name, 48, 36, 3)
    xyz = np.concatenate([rng.uniform(-0.5, 0.5, (50, 2)), np.ones((50, 1))], axis=1)
    np.testing.assert_allclose(camera.img_from_cam(xyz), lens.project(xyz)[0], atol=1e-9)


def test_cameras_that_the_other_program_lacks_are_refused(plain_run: Run, tmp_path: Path):
    scene, cameras = plain_run.scene, plain_run.pipeline.cameras
    with torch.no_grad():
        cameras.distortion[0][7] = 0.01
    with pytest.raises(UserError, match="rational distortion"):
        export_run(plain_run, "nerfstudio", tmp_path / "data", report=silent)
    ocam = Lens(
        "ocam", 64, 48, np.array([40.0, 40.0, 32.0, 24.0]), np.array([1.0, 0, 0, 1, 50, 40, *[0.0] * 14])
    )
    plain_run.scene = replace(scene, lenses=(ocam,))
    plain_run.pipeline.cameras.distortion[0] = torch.nn.Parameter(torch.tensor(ocam.distortion).float())
    for kind in ("colmap", "nerfstudio"):
        with pytest.raises(UserError, match="omnidirectional"):
            export_run(plain_run, kind, tmp_path / "data", report=silent)
    assert not (tmp_path / "data").exists()


def test_a_rolling_shutter_is_said_to_be_lost(plain_run: Run, tmp_path: Path):
    plain_run.pipeline.cameras.set_motion([2, 3, 4], torch.full((3, 6), 0.01))
    said: list[str] = []
    export_run(plain_run, "colmap", tmp_path / "model", report=said.append)
    assert any("rolling shutter: 3 photos" in sentence for sentence in said)
    assert any("poses: 0 refined, 10 as given in the scene" in sentence for sentence in said)
