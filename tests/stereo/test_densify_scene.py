"""`adop densify` on a few photos of the demo scene, whose surfaces are known."""

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import OpenEXR
import pytest
import torch

from adop.cli.capture import densify_command
from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.scene.photo_cache import PhotoCache
from adop.scene.ply import read_ply
from adop.scene.point_cloud import order
from adop.scene.read import load_scene
from adop.scene.scene import Scene, demo_scene_folder
from adop.scene.write import save_scene
from adop.stereo.densify_scene import densify_scene
from adop.stereo.depth_maps import StereoScene, find_planes
from adop.stereo.stereo_config import StereoConfig
from adop.stereo.views import Neighbourhood, find_neighbourhoods, pinhole, undistorted_view, without_lonely

CONFIG = StereoConfig(longest_side=240, keep_points=False)
PHOTOS = range(6)


def few_photos(points: int = 400) -> Scene:
    """Return the demo scene with its first photos and few points, as structure from motion would give them."""
    scene = load_scene(demo_scene_folder())
    photos = tuple(scene.photos[i] for i in PHOTOS)
    keep = np.linspace(0, len(scene.points) - 1, points).astype(int)
    cloud = scene.points
    sparse = order(cloud.xyz[keep], None, cloud.colors[keep], cloud.radius[keep], 0)
    return replace(scene, photos=photos, points=sparse)


@pytest.fixture(scope="module")
def sparse_folder(tmp_path_factory) -> Path:
    return save_scene(few_photos(), tmp_path_factory.mktemp("stereo") / "sparse").folder


@pytest.fixture(scope="module")
def dense(sparse_folder, tmp_path_factory) -> Scene:
    return densify_scene(sparse_folder, tmp_path_factory.mktemp("dense") / "scene", CONFIG, lambda _: None)


def test_the_points_lie_on_the_surfaces(dense):
    assert len(dense.points) > 15_000
    lens, pose = dense.views[0]
    uv, depth, inside = lens.project(dense.points.xyz.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3])
    with OpenEXR.File(str(demo_scene_folder() / "truth" / "square_000.exr")) as file:
        true_depth = file.parts[0].channels["Z"].pixels.astype(np.float64)
    column, row = uv[inside].astype(int).T
    error = depth[inside] / true_depth[row, column] - 1

    rising = np.argsort(dense.points.confidence[inside])
    lowest, highest = error[rising[: len(rising) // 4]], error[rising[-len(rising) // 4 :]]
    assert np.mean(np.abs(highest) > 0.02) < 0.5 * np.mean(np.abs(lowest) > 0.02)
    assert np.mean(np.abs(error) < 0.02) > 0.6
    assert np.mean(error < -0.05) < 0.2  # at outlines, which are a few of so few pixels
    near = np.zeros(true_depth.shape, bool)
    good = np.abs(error) < 0.02
    near[row[good], column[good]] = True
    covered = near.reshape(90, 4, 120, 4).any(axis=(1, 3))
    surface = np.isfinite(true_depth).reshape(90, 4, 120, 4).all(axis=(1, 3))
    assert covered[surface].mean() > 0.5


def test_normals_face_the_cameras_and_colours_are_those_of_the_photos(dense):
    lens, pose = dense.views[2]
    local = dense.points.xyz.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    uv, _, inside = lens.project(local)
    towards = -(local * (dense.points.normals @ pose[:3, :3].T)).sum(1)
    assert (towards[inside] > 0).mean() > 0.95
    photo = PhotoCache(dense).get(2).numpy().astype(int)
    column, row = uv[inside].astype(int).T
    difference = np.abs(photo[row, column] - dense.points.colors[inside]).max(1)
    assert np.median(difference) < 40  # exposure differs from photo to photo


def test_the_scene_that_was_densified_is_unchanged_and_nothing_is_left_over(sparse_folder, dense):
    assert len(load_scene(sparse_folder).points) <= 400
    assert [path.name for path in dense.folder.parent.iterdir()] == ["scene"]
    assert len(load_scene(dense.folder).points) == len(dense.points)


def test_the_confidence_of_each_point_is_in_the_scene_and_its_file(dense):
    confidence = load_scene(dense.folder, report=pytest.fail).points.confidence
    np.testing.assert_array_equal(read_ply(dense.folder / "point_cloud.ply").confidence, confidence)
    assert confidence.min() >= 0 and confidence.max() <= 1 and np.ptp(confidence) > 0.5


def test_the_command_replaces_the_points_and_keeps_the_old_ones(sparse_folder, tmp_path, capsys):
    folder = tmp_path / "scene"
    shutil.copytree(sparse_folder, folder)
    before = load_scene(folder).points
    words = [str(folder), "--longest-side", "160", "--coarse-sweeps", "2", "--middle-sweeps", "1"]
    assert densify_command("adop densify", words) == 0
    after = load_scene(folder, report=pytest.fail).points  # the prepared points are those of the new file
    assert f"{len(after):,} points after stereo, {len(before):,} before it." in capsys.readouterr().out
    assert len(after) > 5 * len(before)
    positions = {tuple(row) for row in after.xyz}
    assert np.mean([tuple(row) in positions for row in before.xyz]) > 0.9
    stored = read_ply(folder / "point_cloud.ply")
    assert len(stored.xyz) == len(after)
    np.testing.assert_array_equal(stored.confidence, after.confidence)
    unknown = {tuple(row) for row in after.xyz[np.isnan(after.confidence)]}
    assert unknown <= {tuple(row) for row in before.xyz} and len(unknown) > 0.9 * len(before)
    assert [path.name for path in tmp_path.iterdir()] == ["scene"]


def test_what_was_finished_is_not_repeated_and_the_result_is_the_same(tmp_path):
    scene = few_photos()
    config = replace(CONFIG, longest_side=120)
    near = find_neighbourhoods(scene, config.sources)
    whole, continued = (
        StereoScene(scene, PhotoCache(scene), near, config, tmp_path / name)
        for name in ("whole", "continued")
    )
    find_planes(whole)
    shutil.copytree(whole.folder, continued.folder)
    finished = continued.file("photometric", 0)
    time = finished.stat().st_mtime_ns
    for stage, photo in (("photometric", 5), ("consistent", 3), ("consistent", 4), ("fine", 0), ("fine", 5)):
        continued.file(stage, photo).unlink()
    find_planes(continued)
    assert finished.stat().st_mtime_ns == time
    for photo in near:
        for ours, theirs in zip(continued.planes("fine", photo), whole.planes("fine", photo), strict=True):
            assert torch.equal(ours, theirs)


def test_results_of_other_options_are_not_taken(sparse_folder, tmp_path):
    output = tmp_path / "scene"
    work = tmp_path / "scene.stereo"
    (work / "fine").mkdir(parents=True)
    (work / "fine" / "00000.safetensors").write_bytes(b"of another program")
    (work / "made_from.json").write_text(json.dumps({"scene": "another", "options": {}}))
    config = replace(CONFIG, longest_side=120)
    assert len(densify_scene(sparse_folder, output, config, lambda _: None).points) > 1000
    assert not work.exists()


def test_a_folder_of_the_users_is_not_taken_for_intermediate_results(sparse_folder, tmp_path):
    shutil.copytree(sparse_folder, tmp_path / "s")
    (tmp_path / "s.stereo").mkdir()
    (tmp_path / "s.stereo" / "mine.txt").write_text("mine")
    with pytest.raises(UserError, match=r"s\.stereo: is needed .* but holds something else"):
        densify_scene(tmp_path / "s", None, CONFIG, lambda _: None)
    assert (tmp_path / "s.stereo" / "mine.txt").read_text() == "mine"


def test_photos_that_share_nothing_are_refused(tmp_path):
    scene = few_photos()
    far = [np.array(photo.world_to_camera) for photo in scene.photos]
    for index, pose in enumerate(far):
        pose[:3, 3] += 1e5 * (index > 0)
    photos = tuple(
        replace(photo, world_to_camera=pose) for photo, pose in zip(scene.photos, far, strict=True)
    )
    folder = save_scene(replace(scene, photos=photos), tmp_path / "scene").folder
    with pytest.raises(UserError, match="no two photos see the same points"):
        densify_scene(folder, config=CONFIG, report=lambda _: None)


def test_photos_that_agree_on_nothing_are_refused_and_the_scene_stays(tmp_path, sparse_folder):
    folder = tmp_path / "scene"
    shutil.copytree(sparse_folder, folder)
    before = (folder / "point_cloud.ply").read_bytes()
    config = replace(CONFIG, longest_side=120, max_cost=1e-6)
    with pytest.raises(UserError, match="no 3 photos agree on any surface; --min-views 2 asks for fewer"):
        densify_scene(folder, config=config, report=lambda _: None)
    assert (folder / "point_cloud.ply").read_bytes() == before


def test_a_photo_without_distortion_shows_each_point_in_the_same_colour():
    scene = few_photos()
    view = undistorted_view(scene, PhotoCache(scene), 1, 480)
    lens, pose = scene.views[1]
    local = (
        load_scene(demo_scene_folder()).points.xyz[:5000].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    )
    uv, _, inside = lens.project(local)
    photo = PhotoCache(scene).get(1).numpy().astype(float)
    homogeneous = local[inside] @ view.view.intrinsics.numpy().T
    position = homogeneous[:, :2] / homogeneous[:, 2:]
    height, width, _ = view.colour.shape
    assert ((position >= 0) & (position < [width, height])).all()  # the whole photo is kept
    here = view.colour.numpy()[tuple(position.astype(int).T[::-1])].astype(float)
    there = photo[tuple(uv[inside].astype(int).T[::-1])]
    assert np.median(np.abs(here - there)) < 6
    assert torch.isnan(view.view.image).any()  # beyond the photo's edges


def test_a_wide_fisheye_is_cut_at_the_largest_angle():
    from adop.geometry.lens import Lens

    lens = Lens("fisheye", 400, 400, np.array([120.0, 120, 200, 200]), np.zeros(4))
    intrinsics, width, height = pinhole(lens)
    assert width == height == 360  # 2 * MAX_FIELD * 120
    np.testing.assert_allclose(intrinsics, [[120, 0, 180], [0, 120, 180], [0, 0, 1]])


def test_photos_are_compared_with_those_that_see_the_same_from_beside():
    scene = load_scene(demo_scene_folder())
    near = find_neighbourhoods(scene, 4)
    assert set(near) == set(range(len(scene.photos)))
    centres = np.stack([Camera.from_lens(lens, pose).centre()[0].numpy() for lens, pose in scene.views])
    for photo, found in near.items():
        assert photo not in found.sources and len(set(found.sources)) == 4
        distances = np.linalg.norm(centres - centres[photo], axis=1)
        assert max(distances[list(found.sources)]) < np.median(distances)
        assert 0 < found.min_inverse < found.max_inverse


def test_photos_that_are_compared_have_neighbours_themselves():
    found = {
        photo: Neighbourhood(sources, 0.1, 1.0)
        for photo, sources in {0: (1, 2), 1: (0,), 2: (9,), 3: (2,)}.items()  # 9 has none
    }
    assert {photo: near.sources for photo, near in without_lonely(found).items()} == {0: (1,), 1: (0,)}
