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
from support.small_scene import ball, poses, small_scene, write_photos
from support.small_scene import lens as small_lens

from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import invert_rigid, rigid
from adop.ops import Points, project
from adop.scene.ply import write_ply
from adop.scene.read import load_scene
from adop.scene.scene import Photo, camera_of, demo_scene_folder
from adop.scene.write import save_scene


def same(a, b, rtol=1e-13):
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


def test_a_saved_scene_is_the_same_scene(tmp_path):
    scene = small_scene(tmp_path / "photos")
    said = []
    saved = save_scene(scene, tmp_path / "out" / "s")
    loaded = load_scene(tmp_path / "out" / "s", said.append)
    same(scene, saved)
    same(scene, loaded)
    assert loaded.name == "s" and not said  # the prepared points were stored and used
    assert loaded.photos[2].file.read_bytes() == scene.photos[2].file.read_bytes()
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["s"]  # nothing left beside it


def test_masks_balances_missing_exposures_and_folders_survive(tmp_path):
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
    same(scene, loaded)
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
def test_lenses_of_all_models_survive(tmp_path, extra):
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
            same(mixed, loaded)


finite = st.floats(-1e3, 1e3)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_any_pose_and_lens_survive(tmp_path_factory, data):
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


def by_hand(folder, points=None):
    """A folder as ADOP's own converter writes it, with its spelling and its defaults left out."""
    write_photos(folder / "pictures", 2, (40, 30))
    (folder / "dataset.ini").write_text(
        "[SceneDatasetParams]\nfile_model = \nimage_dir = pictures/\nmask_dir = not set\n"
        "camera_files = camera0.ini\nfile_point_cloud = point_cloud.ply\nrender_scale = 0.5\n"
        "scene_exposure_value = 11.25\nup_vector = 0 -1 0\n"
    )
    (folder / "camera0.ini").write_text(
        "[SceneCameraParams]\nw = 40\nh = 30\n# fx fy cx cy s\n"
        "K = 5.0e+01 5.1e+01 1.95e+01 1.45e+01 0.0e+00\n"
        "# 8 paramter distortion model. see distortion.h\ndistortion = 0.1 0.2 0.3 0.4 0.5 0.6 0.7 0.8\n"
        "op = 0 0 0 0 0\npoly_world2cam = \npoly_cam2world = \nocam_cutoff = 1\n"
    )
    (folder / "images.txt").write_text("photo0.png\r\nphoto1.png\r\n")
    (folder / "camera_indices.txt").write_text("0\n0\n")
    (folder / "poses.txt").write_text("0 0 0 1 0 0 -4\n0 0.6 0 0.8 1 2 3\n\n")
    (folder / "exposure.txt").write_text("11.5\n11\n")
    xyz = ball().astype(np.float32) if points is None else points
    write_ply(folder / "point_cloud.ply", xyz, xyz, None)
    return folder


def test_a_folder_of_the_original(tmp_path):
    said = []
    scene = load_scene(by_hand(tmp_path / "boat"), said.append)
    assert scene.name == "boat" and len(scene.photos) == 2 and scene.scene_exposure == 11.25
    assert (scene.znear, scene.zfar) == (0.1, 1000)
    lens = scene.lenses[0]
    np.testing.assert_allclose(lens.intrinsics, [50, 51, 20, 15])  # integer centres in the file, +0.5 here
    np.testing.assert_allclose(lens.distortion, [0.1, 0.2, 0.7, 0.8, 0.3, 0.4, 0.5, 0.6])  # OpenCV's order
    np.testing.assert_allclose(scene.photos[0].world_to_camera, rigid(np.eye(3), np.array([0, 0, 4.0])))
    centre = invert_rigid(scene.photos[1].world_to_camera)
    np.testing.assert_allclose(centre[:3, 3], [1, 2, 3], atol=1e-12)
    # the quaternion (0, 0.6, 0, 0.8) turns about y by 2 atan(0.6/0.8): z towards x
    np.testing.assert_allclose(centre[:3, 2], [0.96, 0, 0.28], atol=1e-12)
    assert [photo.exposure for photo in scene.photos] == [11.5, 11.0]
    assert "preparing" in said[0] and (tmp_path / "boat" / "points.safetensors").is_file()
    load_scene(tmp_path / "boat", said.append)
    assert sum("preparing" in text for text in said) == 1


def test_a_changed_cloud_is_prepared_again(tmp_path):
    folder = by_hand(tmp_path / "s")
    said = []
    assert len(load_scene(folder, said.append).points) == 500
    xyz = ball(300).astype(np.float32)
    write_ply(folder / "point_cloud.ply", xyz, xyz, None)
    assert len(load_scene(folder, said.append).points) == 300
    assert sum("preparing" in text for text in said) == 2


def test_image_dir_may_be_absolute_or_start_from_the_working_folder(tmp_path, monkeypatch):
    folder = by_hand(tmp_path / "scenes" / "s")
    ini = folder / "dataset.ini"
    text = ini.read_text()
    shutil.move(folder / "pictures", tmp_path / "elsewhere")
    ini.write_text(text.replace("pictures/", str(tmp_path / "elsewhere")))
    assert len(load_scene(folder).photos) == 2
    ini.write_text(text.replace("pictures/", "elsewhere/"))
    monkeypatch.chdir(tmp_path)
    assert len(load_scene(folder).photos) == 2
    ini.write_text(text.replace("pictures/", "nowhere/"))
    with pytest.raises(UserError, match="no folder 'nowhere/'"):
        load_scene(folder)


@pytest.mark.parametrize("other", [None, OCAM, FISHEYE], ids=["opencv", "ocam", "fisheye"])
def test_camera_sees_what_the_lens_sees(tmp_path, other):
    scene = small_scene(tmp_path)
    scene = scene if other is None else dataclasses.replace(scene, lenses=(other,))
    camera = camera_of(scene, 2)
    assert len(camera) == 1 and (camera.width, camera.height) == (48, 36)
    np.testing.assert_allclose(camera.intrinsics[0].numpy(), scene.lenses[0].intrinsics, rtol=1e-6)
    np.testing.assert_allclose(camera.world_to_camera[0].numpy(), scene.photos[2].world_to_camera, atol=1e-6)
    xyz = 3 * scene.points.xyz  # wide enough to leave the picture
    matrix = scene.photos[2].world_to_camera
    uv, depth, inside = scene.lenses[0].project(xyz @ matrix[:3, :3].T + matrix[:3, 3])
    points = Points(torch.from_numpy(xyz), torch.from_numpy(scene.points.lod_radius))
    seen = project(camera, points, backend="reference")
    visible = seen.visible[0].numpy()
    assert visible.sum() > 20 and (visible == inside).mean() > 0.99
    np.testing.assert_allclose(seen.uv[0].numpy()[visible], uv[visible], atol=1e-3)
    np.testing.assert_allclose(seen.z[0].numpy()[visible], depth[visible], rtol=1e-6)


def test_a_scaled_lens_sees_a_scaled_picture():
    xyz = ball(50) + np.array([0, 0, 3])
    for lens in (OCAM, FISHEYE, small_lens()):
        np.testing.assert_allclose(lens.scaled(24, 18).project(xyz)[0], 0.5 * lens.project(xyz)[0], atol=1e-9)
    with pytest.raises(ValueError, match="same factor"):
        OCAM.scaled(24, 36)


def edit(name, old, new):
    def change(folder):
        path = folder / name
        text = path.read_text()
        assert old in text
        path.write_text(text.replace(old, new, 1))

    return change


def remove(name):
    return lambda folder: (folder / name).unlink()


def put(name, text):
    return lambda folder: (folder / name).write_text(text)


BROKEN = {
    "no ini": (remove("dataset.ini"), "not a scene folder"),
    "no section": (edit("dataset.ini", "[SceneDatasetParams]", "[Other]"), "no section"),
    "no header": (edit("dataset.ini", "[SceneDatasetParams]", ""), "not an ini file"),
    "binary ini": (
        lambda folder: (folder / "dataset.ini").write_bytes(b"\xff\xfe\x00\x01"),
        "not an ini file",
    ),
    "camera type": (
        edit("dataset.ini", "render_scale", "camera_type_int = 7\nrender_scale"),
        "camera_type_int",
    ),
    "camera type text": (
        edit("dataset.ini", "render_scale", "camera_type_int = x\nrender_scale"),
        "not a number",
    ),
    "no cameras": (edit("dataset.ini", "camera0.ini", ""), "names no file"),
    "camera missing": (remove("camera0.ini"), "camera0.ini: cannot be read"),
    "camera outside": (edit("dataset.ini", "camera0.ini", "../camera0.ini"), "does not stay inside"),
    "cloud outside": (edit("dataset.ini", "point_cloud.ply", "/etc/passwd"), "does not stay inside"),
    "up": (edit("dataset.ini", "0 -1 0", "0 0 0"), "up_vector must not be zero"),
    "up short": (edit("dataset.ini", "0 -1 0", "0 1"), "up_vector needs 3 numbers, but has 2"),
    "near": (edit("dataset.ini", "render_scale", "znear = -1\nrender_scale"), "0 < znear < zfar"),
    "exposure": (edit("dataset.ini", "11.25", "nan"), "not finite"),
    "no K": (edit("camera0.ini", "K =", "k ="), "has no 'K'"),
    "skew": (edit("camera0.ini", "0.0e+00", "0.5"), "skew 0.5"),
    "focal": (edit("camera0.ini", "5.0e+01", "-5.0e+01"), "focal length"),
    "infinite K": (edit("camera0.ini", "5.0e+01", "inf"), "not finite"),
    "distortion": (edit("camera0.ini", "0.7 0.8", "0.7"), "distortion needs 8 numbers, but has 7"),
    "size": (edit("camera0.ini", "w = 40", "w = 0"), "size: expected 1 to 1048576 pixels a side"),
    "huge size": (edit("camera0.ini", "w = 40", "w = 1e12"), "size: expected 1 to 1048576 pixels a side"),
    "fraction": (edit("camera0.ini", "w = 40", "w = 40.5"), "whole number"),
    "model": (edit("camera0.ini", "w = 40", "w = 40\nmodel = eye"), "'eye'"),
    "ocam without": (edit("camera0.ini", "w = 40", "w = 40\nmodel = ocam"), "poly_world2cam needs 1 to 16"),
    "no images": (remove("images.txt"), "images.txt: cannot be read"),
    "empty images": (put("images.txt", "\n"), "lists no photos"),
    "same twice": (put("images.txt", "photo0.png\nphoto0.png\n"), "'photo0.png' is listed twice"),
    "photo missing": (put("images.txt", "photo0.png\nphoto9.png\n"), "photo9.png: photo not found .1 of 2"),
    "photo outside": (put("images.txt", "photo0.png\n../../x.png\n"), "does not stay inside"),
    "photo absolute": (put("images.txt", "photo0.png\n/etc/passwd\n"), "does not stay inside"),
    "photo backslash": (put("images.txt", "photo0.png\n..\\x.png\n"), "does not stay inside"),
    "empty line": (put("images.txt", "photo0.png\n\nphoto1.png\n"), "does not stay inside"),
    "no poses": (remove("poses.txt"), "poses.txt: not found"),
    "few poses": (put("poses.txt", "0 0 0 1 0 0 0\n"), "poses.txt: has 1 lines, but images.txt has 2"),
    "short pose": (
        put("poses.txt", "0 0 0 1 0 0 0\n0 0 0 1 0 0\n"),
        r"line 2 \(photo1.png\) needs 7 numbers, but has 6",
    ),
    "word pose": (
        put("poses.txt", "0 0 0 1 0 0 0\n0 0 0 1 0 0 x\n"),
        r"line 2 \(photo1.png\) holds something",
    ),
    "nan pose": (
        put("poses.txt", "0 0 0 1 0 0 0\n0 0 0 1 0 0 nan\n"),
        r"line 2 \(photo1.png\): the pose is not finite",
    ),
    "long quaternion": (
        put("poses.txt", "0 0 0 2 0 0 0\n0 0 0 1 0 0 0\n"),
        r"line 1 \(photo0.png\).*length 2 ",
    ),
    "zero quaternion": (put("poses.txt", "0 0 0 0 0 0 0\n0 0 0 1 0 0 0\n"), "length 0 "),
    "camera index": (put("camera_indices.txt", "0\n1\n"), r"line 2 \(photo1.png\): there is no camera 1"),
    "camera index half": (put("camera_indices.txt", "0\n0.5\n"), "there is no camera 0.5"),
    "indices short": (put("camera_indices.txt", "0\n"), "camera_indices.txt: has 1 lines"),
    "exposures long": (put("exposure.txt", "1\n2\n3\n"), "exposure.txt: has 3 lines"),
    "balance": (put("white_balance.txt", "1 1 1\n1 2 1\n"), "green = 1"),
    "masks": (put("masks.txt", "a.png\n"), "masks.txt: has 1 lines"),
    "mask dir": (put("masks.txt", "a.png\nb.png\n"), "no folder 'not set'"),
    "no cloud": (remove("point_cloud.ply"), "point cloud not found"),
    "bad cloud": (put("point_cloud.ply", "nothing"), "not a PLY"),
}


@pytest.mark.parametrize("name", BROKEN)
def test_broken_folders_get_one_sentence(tmp_path, name):
    change, expected = BROKEN[name]
    folder = by_hand(tmp_path / "s")
    change(folder)
    with pytest.raises(UserError, match=expected) as caught:
        load_scene(folder, lambda _: None)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_missing_masks_are_named(tmp_path):
    folder = by_hand(tmp_path / "s")
    edit("dataset.ini", "not set", "pictures/")(folder)
    put("masks.txt", "photo0.png\nm.png\n")(folder)
    with pytest.raises(UserError, match=r"m\.png: mask not found"):
        load_scene(folder, lambda _: None)
    put("masks.txt", "photo0.png\n-\n")(folder)
    assert [photo.mask is not None for photo in load_scene(folder, lambda _: None).photos] == [True, False]


def test_a_scene_loads_where_prepared_points_cannot_be_written(tmp_path):
    folder = by_hand(tmp_path / "s")
    (folder / "points.safetensors").mkdir()  # a file cannot replace a folder, not even for root
    said = []
    assert len(load_scene(folder, said.append).points) == 500
    assert "points.safetensors: cannot be written (Is a directory)" in said[-1]
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []


def test_output_that_is_something_else_is_not_touched(tmp_path):
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


def test_a_link_to_a_folder_is_followed(tmp_path):
    scene = small_scene(tmp_path / "photos")
    (tmp_path / "disk").mkdir()
    (tmp_path / "s").symlink_to(tmp_path / "disk")
    for _ in range(2):
        save_scene(scene, tmp_path / "s", force=True)
        assert (tmp_path / "s").is_symlink() and len(load_scene(tmp_path / "s").photos) == 6


def test_a_failure_leaves_nothing_behind(tmp_path):
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


def test_links(tmp_path):
    scene = small_scene(tmp_path / "photos")
    saved = save_scene(scene, tmp_path / "s", link=True)
    assert all(os.path.islink(photo.file) for photo in saved.photos)
    assert len(load_scene(tmp_path / "s").photos) == 6
    with pytest.raises(UserError, match="cannot link to photos"):
        save_scene(load_scene(tmp_path / "s"), tmp_path / "s", link=True, force=True)
    save_scene(load_scene(tmp_path / "s"), tmp_path / "s", force=True)  # its own photos, copied
    assert not any(os.path.islink(photo.file) for photo in load_scene(tmp_path / "s").photos)


@pytest.mark.parametrize("name", ["../up.png", "a\nb.png", "/abs.png"])
def test_names_that_would_leave_the_folder_are_not_written(tmp_path, name):
    scene = small_scene(tmp_path / "photos")
    bad = dataclasses.replace(scene, photos=(dataclasses.replace(scene.photos[0], name=name),))
    with pytest.raises(UserError, match="leaves the folder"):
        save_scene(bad, tmp_path / "s")
    assert not (tmp_path / "s").exists() and not (tmp_path / "up.png").exists()


def test_small_things(tmp_path):
    assert Photo(tmp_path / "x.png", 0, np.eye(4)).name == "x.png"
    matrix = poses()[2]
    np.testing.assert_allclose(invert_rigid(matrix) @ matrix, np.eye(4), atol=1e-12)
    try:
        assert (demo_scene_folder() / "dataset.ini").is_file()
    except UserError as error:
        assert "demo scene" in str(error)
