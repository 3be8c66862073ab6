"""Saving a scene and loading it again."""

import dataclasses
import os
import shutil

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy.spatial.transform import Rotation

from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import rigid
from adop.ops import Points, project
from adop.scene.read import load_scene
from adop.scene.scene import Photo, camera_of, demo_scene_folder, name_with_ending
from adop.scene.write import save_scene
from support.small_scene import ball, small_scene
from support.small_scene import lens as small_lens


def assert_same_scene(a, b, rtol=1e-13):
    assert [lens.model for lens in a.lenses] == [lens.model for lens in b.lenses]
    for one, two in zip(a.lenses, b.lenses, strict=True):
        assert (one.width, one.height) == (two.width, two.height)
        np.testing.assert_allclose(one.intrinsics, two.intrinsics, rtol=rtol)
        np.testing.assert_array_equal(one.distortion, two.distortion)
    for one, two in zip(a.photos, b.photos, strict=True):
        assert (one.name, one.lens, one.exposure) == (two.name, two.lens, two.exposure)
        np.testing.assert_allclose(one.world_to_camera, two.world_to_camera, atol=1e-12)
        assert (one.mask is None) == (two.mask is None)
    for field in dataclasses.fields(a.points):
        np.testing.assert_array_equal(getattr(a.points, field.name), getattr(b.points, field.name))
    np.testing.assert_allclose(a.up_vector, b.up_vector, atol=1e-15)
    assert (a.scene_exposure, a.znear, a.zfar) == (b.scene_exposure, b.znear, b.zfar)
    np.testing.assert_array_equal(a.world_offset, b.world_offset)


def test_a_saved_scene_is_loaded_unchanged(tmp_path):
    scene = small_scene(tmp_path / "photos")
    reports = []
    saved = save_scene(scene, tmp_path / "out" / "s")
    loaded = load_scene(tmp_path / "out" / "s", reports.append)
    assert_same_scene(scene, saved)
    assert_same_scene(scene, loaded)
    assert loaded.name == "s" and not reports  # the prepared points were stored and used
    assert loaded.photos[2].file.read_bytes() == scene.photos[2].file.read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["s"]  # nothing left beside it


def test_masks_white_balances_missing_exposures_and_subfolders_are_kept(tmp_path):
    scene = small_scene(tmp_path / "photos")
    mask = tmp_path / "mask.png"
    Image.new("L", (48, 36), 255).save(mask)
    photos = [
        dataclasses.replace(
            photo, name=f"{'ab'[index % 2]}/{photo.name}", exposure=None if index == 1 else 0.1 * index
        )
        for index, photo in enumerate(scene.photos)
    ]
    photos[2] = dataclasses.replace(photos[2], mask=mask, white_balance=np.array([1.25, 1.0, 0.7]))
    scene = dataclasses.replace(scene, photos=tuple(photos), world_offset=np.array([5e5, 4e6, 100.0]))
    save_scene(scene, tmp_path / "s")
    loaded = load_scene(tmp_path / "s")
    assert_same_scene(scene, loaded)
    np.testing.assert_array_equal(loaded.photos[2].white_balance, [1.25, 1.0, 0.7])
    assert [photo.mask is not None for photo in loaded.photos] == [False, False, True, False, False, False]


OCAM = Lens(
    "ocam",
    48,
    36,
    np.array([20.0, 20, 24.5, 18.5]),
    np.array([1.001, 0.002, -0.003, 0.4, 30.0, 20.0, 1.0, -0.5, *[0.0] * 12]),
    np.array([-20.0, 0.0, 0.01]),
)
FISHEYE = Lens("fisheye", 48, 36, np.array([20.0, 21, 24.5, 18.5]), np.array([0.1, -0.02, 0.003, -0.0004]))


@pytest.mark.parametrize("extra", [OCAM, FISHEYE], ids=["ocam", "fisheye"])
def test_lenses_of_all_models_are_kept(tmp_path, extra):
    scene = small_scene(tmp_path / "photos")
    for lenses in ((extra,), (scene.lenses[0], extra)):
        photos = tuple(dataclasses.replace(photo, lens=len(lenses) - 1) for photo in scene.photos)
        mixed = dataclasses.replace(scene, lenses=lenses, photos=photos)
        save_scene(mixed, tmp_path / "s", force=True)
        loaded = load_scene(tmp_path / "s")
        if extra is OCAM:
            np.testing.assert_array_equal(loaded.lenses[-1].poly_cam2world, extra.poly_cam2world)
            np.testing.assert_allclose(loaded.lenses[-1].intrinsics[2:], extra.intrinsics[2:])
            np.testing.assert_array_equal(loaded.lenses[-1].distortion, extra.distortion)
        else:
            assert_same_scene(mixed, loaded)


finite = st.floats(-1e3, 1e3)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_pose_and_lens_are_kept(tmp_path_factory, data):
    folder = tmp_path_factory.getbasetemp() / "any"
    shutil.rmtree(folder, ignore_errors=True)
    scene = small_scene(folder / "photos")
    quaternion = np.array(
        data.draw(st.tuples(finite, finite, finite, finite).filter(lambda q: np.linalg.norm(q) > 1))
    )
    rotation = Rotation.from_quat(quaternion / np.linalg.norm(quaternion)).as_matrix()
    matrix = rigid(rotation, np.array(data.draw(st.tuples(finite, finite, finite))))
    lens = Lens(
        "opencv",
        48,
        36,
        np.array(
            [
                *data.draw(st.tuples(st.floats(1e-3, 1e6), st.floats(1e-3, 1e6))),
                *data.draw(st.tuples(finite, finite)),
            ]
        ),
        np.array(data.draw(st.lists(finite, min_size=8, max_size=8))),
    )
    scene = dataclasses.replace(
        scene, lenses=(lens,), photos=(dataclasses.replace(scene.photos[0], world_to_camera=matrix),)
    )
    loaded = load_scene(save_scene(scene, folder / "s").folder)
    np.testing.assert_allclose(loaded.photos[0].world_to_camera, matrix, atol=1e-9)
    np.testing.assert_allclose(loaded.lenses[0].intrinsics, lens.intrinsics, rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(loaded.lenses[0].distortion, lens.distortion)


@pytest.mark.parametrize("other", [None, OCAM, FISHEYE], ids=["opencv", "ocam", "fisheye"])
def test_the_camera_of_a_photo_sees_what_its_lens_sees(tmp_path, other):
    scene = small_scene(tmp_path)
    scene = scene if other is None else dataclasses.replace(scene, lenses=(other,))
    camera = camera_of(scene, 2)
    assert len(camera) == 1 and (camera.width, camera.height) == (48, 36)
    np.testing.assert_allclose(camera.intrinsics[0].numpy(), scene.lenses[0].intrinsics, rtol=1e-6)
    np.testing.assert_allclose(camera.world_to_camera[0].numpy(), scene.photos[2].world_to_camera, atol=1e-6)
    xyz = 3 * scene.points.xyz  # large enough to leave the image
    matrix = scene.photos[2].world_to_camera
    uv, depth, inside = scene.lenses[0].project(xyz @ matrix[:3, :3].T + matrix[:3, 3])
    points = Points(torch.from_numpy(xyz), torch.from_numpy(scene.points.lod_radius))
    seen = project(camera, points, backend="reference")
    visible = seen.visible[0].numpy()
    assert visible.sum() > 20 and (visible == inside).mean() > 0.99
    np.testing.assert_allclose(seen.uv[0].numpy()[visible], uv[visible], atol=1e-3)
    np.testing.assert_allclose(seen.z[0].numpy()[visible], depth[visible], rtol=1e-6)


def test_a_scaled_lens_projects_to_scaled_pixels():
    xyz = ball(50) + np.array([0, 0, 3])
    for lens in (OCAM, FISHEYE, small_lens()):
        np.testing.assert_allclose(lens.scaled(24, 18).project(xyz)[0], 0.5 * lens.project(xyz)[0], atol=1e-9)
    with pytest.raises(ValueError, match="same factor in both directions"):
        OCAM.scaled(24, 36)


def test_a_folder_that_is_not_a_scene_is_never_overwritten(tmp_path):
    scene = small_scene(tmp_path / "photos")
    out = tmp_path / "out"
    out.mkdir()
    save_scene(scene, out)  # an empty folder is fine
    with pytest.raises(UserError, match="--force"):
        save_scene(scene, out)
    before = (out / "poses.txt").stat().st_mtime_ns
    save_scene(scene, out, force=True)
    assert (out / "poses.txt").stat().st_mtime_ns != before
    other = tmp_path / "other"
    other.mkdir()
    (other / "thesis.tex").write_text("precious")
    for force in (False, True):
        with pytest.raises(UserError, match="not a scene"):
            save_scene(scene, other, force=force)
    with pytest.raises(UserError, match="not a folder"):
        save_scene(scene, other / "thesis.tex", force=True)
    assert (other / "thesis.tex").read_text() == "precious"


def test_a_scene_is_not_replaced_with_what_lies_in_its_folder(tmp_path):
    scene = small_scene(tmp_path / "photos")
    save_scene(scene, tmp_path / "s")
    (tmp_path / "s" / "runs").mkdir()
    (tmp_path / "s" / "runs" / "step.safetensors").write_text("hours")
    with pytest.raises(UserError, match="holds something besides the scene"):
        save_scene(scene, tmp_path / "s", force=True)
    assert (tmp_path / "s" / "runs" / "step.safetensors").read_text() == "hours"


def test_a_symbolic_link_to_the_output_folder_is_followed(tmp_path):
    scene = small_scene(tmp_path / "photos")
    (tmp_path / "disk").mkdir()
    (tmp_path / "s").symlink_to(tmp_path / "disk")
    for _ in range(2):
        save_scene(scene, tmp_path / "s", force=True)
        assert (tmp_path / "s").is_symlink() and len(load_scene(tmp_path / "s").photos) == 6


def test_a_failed_save_leaves_no_files_and_keeps_the_old_scene(tmp_path):
    scene = small_scene(tmp_path / "photos")
    scene.photos[3].file.unlink()
    with pytest.raises(UserError, match=r"photo3\.png: photo not found"):
        save_scene(scene, tmp_path / "out" / "s")
    assert list((tmp_path / "out").iterdir()) == []
    save_scene(small_scene(tmp_path / "photos"), tmp_path / "out" / "s")
    scene.photos[3].file.unlink()
    with pytest.raises(UserError, match=r"photo3\.png: photo not found"):
        save_scene(scene, tmp_path / "out" / "s", force=True)
    assert len(load_scene(tmp_path / "out" / "s").photos) == 6  # the old scene is still whole


def test_photos_are_linked_on_request(tmp_path):
    scene = small_scene(tmp_path / "photos")
    saved = save_scene(scene, tmp_path / "s", link=True)
    assert all(os.path.islink(photo.file) for photo in saved.photos)
    assert len(load_scene(tmp_path / "s").photos) == 6
    with pytest.raises(UserError, match="cannot link to photos"):
        save_scene(load_scene(tmp_path / "s"), tmp_path / "s", link=True, force=True)
    save_scene(load_scene(tmp_path / "s"), tmp_path / "s", force=True)  # its own photos, copied
    assert not any(os.path.islink(photo.file) for photo in load_scene(tmp_path / "s").photos)


@pytest.mark.parametrize(
    "name", ["../up.png", "a\nb.png", "/abs.png", "a\\b.png", " a.png", "caf\udce9.png", "C:x"]
)
def test_photo_names_that_leave_the_folder_are_refused(tmp_path, name):
    scene = small_scene(tmp_path / "photos")
    bad = dataclasses.replace(scene, photos=(dataclasses.replace(scene.photos[0], name=name),))
    with pytest.raises(
        UserError, match=r"leaves the folder|has control characters|cannot be listed as .*name it"
    ):
        save_scene(bad, tmp_path / "s")
    assert not (tmp_path / "s").exists() and not (tmp_path / "up.png").exists()


def test_a_photo_is_named_like_its_file_by_default(tmp_path):
    assert Photo(tmp_path / "x.png", 0, np.eye(4)).name == "x.png"


def test_the_demo_scene_is_found():
    assert (demo_scene_folder() / "dataset.ini").is_file()


def test_names_with_another_ending_stay_apart_whatever_their_case():
    taken = {"e.exr"}
    names = ["A.png", "a.tif", "a.tif.png", "b/c.TIF", "E.EXR.png"]
    found = [name_with_ending(name, ".png", taken) for name in names]
    assert found == ["A.png", "a.tif.png", "a.tif.png.png", "b/c.png", "E.EXR.png"]
    assert taken == {"e.exr", *(name.lower() for name in found)} and len(taken) == 6
