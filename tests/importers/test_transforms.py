"""Importing transforms.json files of nerfstudio, Blender, Polycam and Record3D."""

import json

import numpy as np
import pytest

from adop.errors import UserError
from adop.geometry.rigid_motion import invert_rigid
from adop.importers.import_config import ImportConfig
from adop.importers.import_scene import import_colmap, import_nerfstudio
from adop.scene.ply import RawPoints, write_ply
from support.imports import PLAIN, assert_refused, silent
from support.small_scene import FOCAL, HEIGHT, WIDTH, ball, lens, poses, write_colmap, write_photos


@pytest.fixture
def capture(tmp_path):
    write_photos(tmp_path / "images")
    write_ply(tmp_path / "dense.ply", ball(), ball(), None)
    return tmp_path


def transforms(**values):
    """Return the contents of a transforms.json of the small capture, with other values for some keys."""
    frames = []
    for index, matrix in enumerate(poses()):
        opengl = invert_rigid(matrix) @ np.diag([1.0, -1.0, -1.0, 1.0])
        frames.append({"file_path": f"images/photo{index}.png", "transform_matrix": opengl.tolist()})
    own = lens()
    fx, fy, cx, cy = own.intrinsics
    k1, k2, p1, p2 = own.distortion[:4]
    return {
        "camera_model": "OPENCV", "w": WIDTH, "h": HEIGHT, "fl_x": fx, "fl_y": fy, "cx": cx, "cy": cy,
        "k1": k1, "k2": k2, "p1": p1, "p2": p2, "ply_file_path": "dense.ply", "frames": frames, **values,
    }  # fmt: skip


def nerfstudio(folder, data, points=None, images=None, output="scene"):
    (folder / "transforms.json").write_text(data if isinstance(data, str) else json.dumps(data))
    return import_nerfstudio(folder, points, folder / output, images, report=silent)


def test_a_transforms_json_gives_the_same_scene_as_colmap(capture):
    ours = nerfstudio(capture, transforms())
    sparse, images, ply = write_colmap(capture / "sparse"), capture / "images", capture / "dense.ply"
    theirs = import_colmap(sparse, images, ply, capture / "other", report=silent)
    assert [photo.name for photo in ours.photos] == [photo.name for photo in theirs.photos]
    for one, two in zip(ours.photos, theirs.photos, strict=True):
        np.testing.assert_allclose(one.world_to_camera, two.world_to_camera, atol=1e-12)
    np.testing.assert_allclose(ours.lenses[0].intrinsics, theirs.lenses[0].intrinsics)
    np.testing.assert_array_equal(ours.lenses[0].distortion, theirs.lenses[0].distortion)
    np.testing.assert_array_equal(ours.points.xyz, theirs.points.xyz)


def test_a_transforms_json_of_blender_is_imported(capture):
    """It has only camera_angle_x, names without an ending, no image size and no point cloud."""
    data = transforms()
    frames = [{**frame, "file_path": "./" + frame["file_path"][:-4]} for frame in data["frames"]]
    small = {"camera_angle_x": 2 * np.arctan(0.5 * WIDTH / FOCAL), "frames": frames}
    with pytest.raises(UserError, match="--points"):
        nerfstudio(capture, small)
    scene = nerfstudio(capture, small, points=capture / "dense.ply")
    np.testing.assert_allclose(scene.lenses[0].intrinsics, [FOCAL, FOCAL, WIDTH / 2, HEIGHT / 2])
    assert scene.photos[0].name == "photo0.png"


def test_a_function_makes_the_points_that_no_file_holds(capture):
    calls = []

    def make(lenses, photos):
        calls.append((lenses[0].width, len(photos)))
        return RawPoints(ball(), None, None)

    assert len(nerfstudio(capture, transforms(), points=make).points) == 500 and not calls
    data = {key: value for key, value in transforms().items() if key != "ply_file_path"}
    write_photos(capture / "images", size=(WIDTH // 2, HEIGHT // 2))
    assert len(nerfstudio(capture, data, points=make, output="other").points) == 500
    assert calls == [(WIDTH // 2, 6)]


def test_frames_may_have_lenses_of_their_own(capture):
    data = transforms()
    data["frames"][3]["fl_x"] = 77.0
    data["frames"][4]["camera_model"] = "OPENCV_FISHEYE"
    scene = nerfstudio(capture, data)
    assert [photo.lens for photo in scene.photos] == [0, 0, 0, 1, 2, 0]
    assert scene.lenses[1].intrinsics[0] == 77 and scene.lenses[2].model == "fisheye"
    np.testing.assert_allclose(scene.lenses[2].distortion, [-0.05, 0.01, 0, 0])


def test_a_transforms_json_of_polycam_is_imported(capture):
    """As nerfstudio writes it from Polycam's raw data: every frame has its own lens and size, paths begin with ./."""
    data = {"camera_model": "OPENCV", "orientation_override": "none", "frames": []}
    for index, frame in enumerate(transforms()["frames"]):
        own = {"fl_x": FOCAL + index, "fl_y": FOCAL + index, "cx": 24.5, "cy": 17.5, "w": WIDTH, "h": HEIGHT}
        data["frames"].append({**own, **frame, "file_path": "./" + frame["file_path"]})
    scene = nerfstudio(capture, data, points=capture / "dense.ply")
    assert [photo.name for photo in scene.photos] == [f"photo{index}.png" for index in range(6)]
    for index, photo in enumerate(scene.photos):
        lens_of = scene.lenses[photo.lens]
        np.testing.assert_array_equal(lens_of.intrinsics, [FOCAL + index, FOCAL + index, 24.5, 17.5])
        np.testing.assert_allclose(photo.world_to_camera, poses()[index], atol=1e-12)


def test_a_transforms_json_of_record3d_is_imported(capture):
    """As nerfstudio writes it from a recording: one lens in the middle of the photo, poses rounded to float32."""
    data = {"fl_x": FOCAL, "fl_y": FOCAL, "cx": WIDTH / 2, "cy": HEIGHT / 2, "w": WIDTH, "h": HEIGHT}
    frames = transforms()["frames"]
    for frame in frames:
        frame["transform_matrix"] = np.float32(frame["transform_matrix"]).tolist()
    scene = nerfstudio(capture, {**data, "camera_model": "OPENCV", "frames": frames}, capture / "dense.ply")
    assert len(scene.lenses) == 1 and len(scene.photos) == 6
    for photo, pose in zip(scene.photos, poses(), strict=True):
        np.testing.assert_allclose(photo.world_to_camera, pose, atol=1e-6)


def test_frames_without_photos_may_be_left_out(capture):
    (capture / "images" / "photo2.png").unlink()
    with pytest.raises(
        UserError, match=r"photo2\.png: photo not found \(1 of 6 are missing\).*--skip-missing"
    ):
        nerfstudio(capture, transforms())
    reports = []
    config = ImportConfig(skip_missing=True, prepare=PLAIN.prepare)
    scene = import_nerfstudio(capture, None, capture / "scene", None, config, reports.append)
    assert len(scene.photos) == 5 and reports[0].startswith("1 of 6 photos are missing and were left out")


def test_raw_data_of_polycam_is_explained(capture):
    (capture / "keyframes").mkdir()
    with pytest.raises(UserError, match="holds the raw data of Polycam; `ns-process-data polycam"):
        import_nerfstudio(capture, None, capture / "scene", report=silent)


def test_photos_may_lie_in_another_folder(capture):
    data = transforms()
    for frame in data["frames"]:
        frame["file_path"] = frame["file_path"].split("/")[1]
    reports = []
    (capture / "transforms.json").write_text(json.dumps(data))
    for images, said in ((None, True), (capture / "images", False)):
        config = ImportConfig(force=True, prepare=PLAIN.prepare)
        scene = import_nerfstudio(capture, None, capture / "scene", images, config, reports.append)
        assert [photo.name for photo in scene.photos] == [f"photo{index}.png" for index in range(6)]
        assert any("6 of 6 photos were found in another folder" in text for text in reports) == said
        reports.clear()


def frame(**values):
    """Return the contents of a transforms.json with other values for some keys of frame 1."""
    data = transforms()
    data["frames"][1].update(values)
    return data


BROKEN = {
    "no json": ("{", "is not JSON"),
    "deep": ("[" * 100000, "is not JSON"),
    "list": ([], "no list of frames"),
    "no frames": ({"frames": []}, "no list of frames"),
    "no path": ({"frames": [{}]}, "frame 0 has no file_path"),
    "outside": (frame(file_path="../.."), r"transforms\.json: '\.\./\.\.' names no file in the folder"),
    "missing": (frame(file_path="images/none.png"), r"none\.png: photo not found \(1 of 6"),
    "no mask": (frame(mask_path="none.png"), r"frame 1.*the mask .*none\.png is not there"),
    "record3d": (
        {"w": 4, "h": 3, "K": [1.0] * 9, "poses": []},
        "is the metadata of Record3D; `ns-process-data",
    ),
    "twice": (frame(file_path="images/photo0.png"), "are both .*photo0"),
    "no matrix": (frame(transform_matrix=None), "frame 1.*transform_matrix"),
    "ragged matrix": (frame(transform_matrix=[[1], [2, 3]]), "frame 1.*transform_matrix"),
    "nan matrix": (frame(transform_matrix=[[float("nan")] * 4] * 4), "finite"),
    "stretched": (frame(transform_matrix=np.diag([2.0, 2, 2, 1]).tolist()), "not a rotation"),
    "mirrored": (frame(transform_matrix=np.diag([1.0, 1, -1, 1]).tolist()), "not a rotation"),
    "model": (transforms(camera_model="EQUIRECTANGULAR"), "camera model 'EQUIRECTANGULAR'"),
    "model list": (transforms(camera_model=["OPENCV"]), "camera model"),
    "k4": (transforms(k4=0.1), "k4 multiplies"),
    "focal": (transforms(fl_x="wide"), "fl_x is missing or not a number"),
    "infinite": (transforms(fl_x=float("inf")), "fl_x is missing or not a number"),
    "negative": (transforms(fl_x=-5), "focal length"),
    "no focal": ({k: v for k, v in transforms().items() if k != "fl_x"}, "camera_angle_x is missing"),
    "no points": (transforms(ply_file_path="none.ply"), r"none\.ply: cannot be read"),
    "points outside": (transforms(ply_file_path="/etc/passwd"), r"etc/passwd: cannot be read \(No such file"),
    "file type": (transforms(train_filenames="all"), "train_filenames must be a list of texts, not 'all'"),
    "list type": (transforms(test_filenames=[1]), "test_filenames must be a list of texts"),
    "listed": (
        transforms(test_filenames=["images/x.png"]),
        "'images/x.png' in the list test is not among the 6",
    ),
    "two lists": (
        transforms(train_filenames=["images/photo0.png"], val_filenames=["images/photo0.png"]),
        "'images/photo0.png' is in the lists train and val",
    ),
    "split": (frame(split="eval"), "frame 1.*its split must be one of train, val, test, not 'eval'"),
    "split type": (frame(split=3), "frame 1.*split must be a text"),
    "both splits": (
        {**frame(split="test"), "test_filenames": ["images/photo0.png"]},
        "a split both in lists and in frames",
    ),
}


@pytest.mark.parametrize("name", BROKEN)
def test_errors_in_transforms_are_one_sentence(capture, name):
    data, expected = BROKEN[name]
    assert_refused(lambda: nerfstudio(capture, data), expected, capture)
