"""Reading COLMAP models, checked against pycolmap and against damaged files."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adop.errors import UserError
from adop.geometry.colmap_lens import EXACT_MODELS, colmap_lens, colmap_pose
from adop.importers.programs.colmap import MODELS, read_colmap, read_points3d
from support.small_scene import ball, poses, quaternion, write_colmap

EXACT = {
    "SIMPLE_PINHOLE": [500, 320, 240],
    "PINHOLE": [500, 510, 320, 240],
    "SIMPLE_RADIAL": [500, 320, 240, -0.1],
    "RADIAL": [500, 320, 240, -0.1, 0.02],
    "OPENCV": [500, 510, 320, 240, -0.1, 0.02, 1e-3, -2e-3],
    "FULL_OPENCV": [500, 510, 320, 240, -0.1, 0.02, 1e-3, -2e-3, 0.01, 0.1, 0.02, 0.003],
    "SIMPLE_FISHEYE": [300, 320, 240],
    "FISHEYE": [300, 310, 320, 240],
    "SIMPLE_RADIAL_FISHEYE": [300, 320, 240, -0.02],
    "RADIAL_FISHEYE": [300, 320, 240, -0.02, 0.003],
    "OPENCV_FISHEYE": [300, 310, 320, 240, -0.02, 0.003, -0.001, 0.0001],
}


@pytest.mark.parametrize("text", [False, True])
def test_a_written_model_is_read_unchanged(tmp_path, text):
    names = ["b/two.png", "a one.png", "ümlaut.jpg"]
    folder = write_colmap(tmp_path / "m", text, names, poses(3))
    model = read_colmap(folder)
    assert [image.name for image in model.images] == sorted(names)
    assert model.cameras[7].model == "OPENCV" and model.cameras[7].params[0] == 50.0
    for name, matrix in zip(names, poses(3), strict=True):
        image = next(image for image in model.images if image.name == name)
        np.testing.assert_allclose(image.rotation, quaternion(matrix[:3, :3]), atol=1e-15)
        np.testing.assert_array_equal(image.translation, matrix[:3, 3])
    xyz, colors = read_points3d(folder)
    np.testing.assert_array_equal(xyz, ball())
    assert (colors == (1, 2, 3)).all()


def test_the_folder_above_a_model_is_accepted_unless_it_holds_two(tmp_path):
    write_colmap(tmp_path / "sparse" / "0")
    assert len(read_colmap(tmp_path / "sparse").images) == 6
    write_colmap(tmp_path / "sparse" / "1")
    with pytest.raises(UserError, match="2 models"):
        read_colmap(tmp_path / "sparse")


def test_all_models_with_an_exact_counterpart_are_tested():
    assert set(EXACT) == set(EXACT_MODELS)


@pytest.mark.parametrize("name", EXACT)
def test_lenses_project_as_pycolmap_does(name):
    pycolmap = pytest.importorskip("pycolmap")
    lens = colmap_lens(name, 640, 480, EXACT[name], "here")
    camera = pycolmap.Camera(model=name, width=640, height=480, params=EXACT[name])
    random = np.random.default_rng(0)
    xyz = np.concatenate([random.uniform(-0.6, 0.6, (200, 2)), random.uniform(0.9, 1.5, (200, 1))], axis=1)
    uv, _, inside = lens.project(xyz)
    expected = np.array([camera.img_from_cam(point) for point in xyz])
    assert inside.sum() > 50
    np.testing.assert_allclose(uv[inside], expected[inside], atol=1e-9)


@pytest.mark.parametrize("name", sorted({name for name, _ in MODELS.values()} - set(EXACT)))
def test_models_without_an_exact_counterpart_are_refused_by_name(name):
    size = {n: s for n, s in MODELS.values()}[name]
    with pytest.raises(UserError, match=f"camera 1: camera model {name} "):
        colmap_lens(name, 640, 480, (1.0,) * size, "camera 1")


def test_the_table_of_models_agrees_with_pycolmap():
    pycolmap = pytest.importorskip("pycolmap")
    for number, (name, size) in MODELS.items():
        if name in pycolmap.CameraModelId.__members__:
            assert int(pycolmap.CameraModelId.__members__[name]) == number
            assert len(pycolmap.Camera.create_from_model_name(1, name, 500.0, 640, 480).params) == size


@pytest.mark.parametrize("text", [False, True])
def test_models_written_by_pycolmap_are_read(tmp_path, text):
    pycolmap = pytest.importorskip("pycolmap")
    options = pycolmap.SyntheticDatasetOptions()
    options.num_rigs, options.num_cameras_per_rig, options.num_frames_per_rig, options.num_points3D = (
        2,
        2,
        3,
        60,
    )
    model = pycolmap.synthesize_dataset(options)
    (model.write_text if text else model.write_binary)(str(tmp_path))
    ours = read_colmap(tmp_path)
    assert len(ours.images) == model.num_reg_images() == 12
    for image in model.images.values():
        found = next(one for one in ours.images if one.name == image.name)
        expected = image.cam_from_world()
        x, y, z, w = expected.rotation.quat
        np.testing.assert_allclose(
            np.array(found.rotation) * np.sign(found.rotation[0] * w), (w, x, y, z), atol=1e-9
        )
        np.testing.assert_allclose(found.translation, expected.translation, atol=1e-9)
        pose = colmap_pose(found.rotation, found.translation, "here")
        np.testing.assert_allclose(pose[:3], expected.matrix(), atol=1e-9)
        assert found.camera == image.camera_id
    for number, camera in model.cameras.items():
        assert ours.cameras[number].model == camera.model.name
        np.testing.assert_allclose(ours.cameras[number].params, camera.params)
    xyz, _ = read_points3d(tmp_path)
    expected_xyz = np.array([point.xyz for point in model.points3D.values()])
    np.testing.assert_allclose(xyz[np.lexsort(xyz.T)], expected_xyz[np.lexsort(expected_xyz.T)], atol=1e-9)


def test_a_binary_file_cut_off_anywhere_is_refused(tmp_path):
    folder = write_colmap(tmp_path / "m", names=["a.png", "b.png"], matrices=poses(2), points=ball(2))
    for name in ("cameras.bin", "images.bin", "points3D.bin"):
        content = (folder / name).read_bytes()
        for length in range(len(content)):
            (folder / name).write_bytes(content[:length])
            with pytest.raises(UserError, match=name):
                (read_points3d if name == "points3D.bin" else read_colmap)(folder)
        (folder / name).write_bytes(content + b"x")
        with pytest.raises(UserError, match="left over"):
            (read_points3d if name == "points3D.bin" else read_colmap)(folder)
        (folder / name).write_bytes(content)


@settings(max_examples=100, deadline=None)
@given(data=st.data(), text=st.booleans())
def test_damaged_models_raise_only_user_errors(tmp_path_factory, data, text):
    folder = tmp_path_factory.getbasetemp() / f"damaged{text}"
    shutil.rmtree(folder, ignore_errors=True)
    write_colmap(folder, text, ["a.png", "b.png"], poses(2), points=ball(2))
    path = data.draw(st.sampled_from(sorted(folder.iterdir())))
    content = bytearray(path.read_bytes())
    for _ in range(data.draw(st.integers(1, 3))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path.write_bytes(content)
    try:
        model = read_colmap(folder)
        for camera in model.cameras.values():
            colmap_lens(camera.model, camera.width, camera.height, camera.params, "here")
        read_points3d(folder)
    except UserError as error:
        assert "\n" not in str(error)


TEXT_ERRORS = {
    "cameras.txt": [
        ("1 OPENCV 640\n", "line 1 must read"),
        ("x OPENCV 640 480 1 2 3 4 5 6 7 8\n", "line 1 must read"),
        ("# one\n1 OPENCV 640 480 1 2 3\n", "line 2: OPENCV has 8 parameters, got 3"),
    ],
    "images.txt": [
        ("1 1 0 0 0 0 0 0 7\n\n", "line 1 must read"),
        ("1 1 0 0 0 0 0 0 7 a.png\n2 1 0 0 0 0 0 0 7 b.png\n", "line 2 must hold the observations"),
        ("1 1 0 0 0 0 0 0 8 a.png\n\n", "uses camera 8"),
        ("1 1 0 0 0 0 0 0 7 a.png\n\n2 1 0 0 0 0 0 0 7 a.png\n\n", "listed twice"),
        ("# none\n", "no registered photos"),
    ],
}


@pytest.mark.parametrize(
    "name, content, expected", [(n, *case) for n, cases in TEXT_ERRORS.items() for case in cases]
)
def test_errors_in_text_name_the_line(tmp_path, name, content, expected):
    folder = write_colmap(tmp_path / "m", text=True)
    (folder / name).write_text(content)
    with pytest.raises(UserError, match=expected) as caught:
        read_colmap(folder)
    assert name in str(caught.value)


def test_missing_files_are_named(tmp_path):
    with pytest.raises(UserError, match="no such folder"):
        read_colmap(tmp_path / "none")
    with pytest.raises(UserError, match=r"no cameras\.bin"):
        read_colmap(tmp_path)
    folder = write_colmap(tmp_path / "m")
    (folder / "images.bin").unlink()
    with pytest.raises(UserError, match=r"images\.bin: not found"):
        read_colmap(folder)
    (folder / "points3D.bin").unlink()
    with pytest.raises(UserError, match="--points"):
        read_points3d(folder)
    with pytest.raises(UserError, match="line 1"):
        (folder / "points3D.txt").write_text("1 2 3\n")
        read_points3d(folder)


@pytest.mark.parametrize("params", [[float("nan"), 1, 1, 1], [-1, 1, 1, 1], [0, 1, 1, 1]])
def test_impossible_parameters_are_refused(params):
    with pytest.raises(UserError, match="here: "):
        colmap_lens("PINHOLE", 640, 480, params, "here")
    with pytest.raises(UserError, match="here: size"):
        colmap_lens("PINHOLE", 0, 480, (1, 1, 1, 1), "here")
