"""Reading scene folders that others wrote, whole or broken."""

import shutil

import numpy as np
import pytest

from adop.errors import UserError
from adop.geometry.rigid_motion import invert_rigid, rigid
from adop.scene.ply import write_ply
from adop.scene.read import load_scene
from support.small_scene import ball, write_photos


def write_adop_folder(folder):
    """Write a scene folder as ADOP's own converter does, spelling included, and return it."""
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
    xyz = ball().astype(np.float32)
    write_ply(folder / "point_cloud.ply", xyz, xyz, None)
    return folder


def test_a_scene_of_adops_converter_is_read(tmp_path):
    reports = []
    scene = load_scene(write_adop_folder(tmp_path / "boat"), reports.append)
    assert scene.name == "boat" and len(scene.photos) == 2 and scene.scene_exposure == 11.25
    assert (scene.znear, scene.zfar) == (0.1, 1000)
    lens = scene.lenses[0]
    np.testing.assert_allclose(lens.intrinsics, [50, 51, 20, 15])  # pixel centres are integers in the file
    np.testing.assert_allclose(lens.distortion, [0.1, 0.2, 0.7, 0.8, 0.3, 0.4, 0.5, 0.6])  # OpenCV's order
    np.testing.assert_allclose(scene.photos[0].world_to_camera, rigid(np.eye(3), np.array([0, 0, 4.0])))
    centre = invert_rigid(scene.photos[1].world_to_camera)
    np.testing.assert_allclose(centre[:3, 3], [1, 2, 3], atol=1e-12)
    # The quaternion (0, 0.6, 0, 0.8) turns about y by 2 atan(0.6/0.8): z towards x.
    np.testing.assert_allclose(centre[:3, 2], [0.96, 0, 0.28], atol=1e-12)
    assert [photo.exposure for photo in scene.photos] == [11.5, 11.0]
    assert "preparing" in reports[0] and (tmp_path / "boat" / "points.safetensors").is_file()
    load_scene(tmp_path / "boat", reports.append)
    assert sum("preparing" in text for text in reports) == 1


def test_points_are_prepared_again_when_the_ply_file_changes(tmp_path):
    folder = write_adop_folder(tmp_path / "s")
    reports = []
    assert len(load_scene(folder, reports.append).points) == 500
    xyz = ball(300).astype(np.float32)
    write_ply(folder / "point_cloud.ply", xyz, xyz, None)
    assert len(load_scene(folder, reports.append).points) == 300
    assert sum("preparing" in text for text in reports) == 2


def test_image_dir_may_be_absolute_or_relative_to_the_working_directory(tmp_path, monkeypatch):
    folder = write_adop_folder(tmp_path / "scenes" / "s")
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
def test_errors_in_a_folder_are_one_sentence(tmp_path, name):
    change, expected = BROKEN[name]
    folder = write_adop_folder(tmp_path / "s")
    change(folder)
    with pytest.raises(UserError, match=expected) as caught:
        load_scene(folder, lambda _: None)
    assert "\n" not in str(caught.value) and str(tmp_path) in str(caught.value)


def test_a_missing_mask_is_named(tmp_path):
    folder = write_adop_folder(tmp_path / "s")
    edit("dataset.ini", "not set", "pictures/")(folder)
    put("masks.txt", "photo0.png\nm.png\n")(folder)
    with pytest.raises(UserError, match=r"m\.png: mask not found"):
        load_scene(folder, lambda _: None)
    put("masks.txt", "photo0.png\n-\n")(folder)
    assert [photo.mask is not None for photo in load_scene(folder, lambda _: None).photos] == [True, False]


def test_a_scene_loads_where_prepared_points_cannot_be_written(tmp_path):
    folder = write_adop_folder(tmp_path / "s")
    (folder / "points.safetensors").mkdir()  # a file cannot replace a folder, not even for root
    reports = []
    assert len(load_scene(folder, reports.append).points) == 500
    assert "points.safetensors: cannot be written (Is a directory)" in reports[-1]
    assert sorted(path.name for path in folder.iterdir() if path.name.startswith(".")) == []
