"""Importing RealityScan's cameras: a projection written from its makers' formulas gives the pixels of the scene."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from adop.__main__ import _run
from adop.cli.other_programs import import_realityscan_command
from adop.errors import UserError
from adop.importers.import_config import ImportConfig
from adop.importers.import_scene import import_realityscan
from adop.importers.programs.reality_capture import read_reality_capture
from adop.scene.ply import write_ply
from support.imports import PLAIN, assert_refused
from support.small_scene import ball, poses, write_photos

OLD = "#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"
NEW = "#name,x,y,alt,yaw,pitch,roll,f_35mm,px_norm,py_norm,k1,k2,k3,k4,t1,t2"
# f px py k1 k2 k3 k4 t1 t2
LENS = (37.0, 0.012, -0.008, -0.06, 0.03, -0.02, 0.0, 2e-3, -1e-3)


def rotation_of(heading: float, pitch: float, roll: float) -> np.ndarray:
    """Return the rotation from the world to the camera (x right, y down) as RealityCapture's makers compute it."""
    sz, sy, sx = np.sin(np.radians([heading, pitch, roll]))
    cz, cy, cx = np.cos(np.radians([heading, pitch, roll]))
    return np.array(
        [
            [cx * cz + sx * sy * sz, -cx * sz + cz * sx * sy, -cy * sx],
            [-cy * sz, -cy * cz, -sy],
            [cx * sy * sz - cz * sx, cx * cz * sy + sx * sz, -cx * cy],
        ]
    )


def angles_of(rotation: np.ndarray) -> tuple[float, float, float]:
    """Return heading, pitch and roll of a rotation from the world to the camera, read off the formula above."""
    pitch = np.degrees(np.arcsin(-rotation[1, 2]))
    heading = np.degrees(np.arctan2(-rotation[1, 0], -rotation[1, 1]))
    return heading, pitch, np.degrees(np.arctan2(-rotation[0, 2], -rotation[2, 2]))


def pixels(lens: tuple, size: tuple[int, int], camera_points: np.ndarray) -> np.ndarray:
    """Project as the article on camera math says: Brown's distortion first, then the calibration, in larger sides.

    The tangential terms follow RealityScan's export for OpenCV, which writes t2, t1 where OpenCV has p1, p2.
    """
    f, px, py, k1, k2, k3, k4, t1, t2 = lens
    x, y = (camera_points[:, :2] / camera_points[:, 2:]).T
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2**2 + k3 * r2**3 + k4 * r2**4
    p1, p2 = t2, t1
    xd = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
    yd = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
    scale = max(size)
    u = (f / 36 * xd + px) * scale + 0.5 * size[0]
    v = (f / 36 * yd + py) * scale + 0.5 * size[1]
    return np.stack([u, v], axis=1)


def table(header: str = OLD, lens: tuple = LENS, names: list[str] | None = None) -> str:
    """Return the table of the small capture's cameras."""
    lines = [header]
    for index, pose in enumerate(poses()):
        centre = -pose[:3, :3].T @ pose[:3, 3]
        name = f"photo{index}.png" if names is None else names[index]
        values = [*centre, *angles_of(pose[:3, :3]), *lens]
        lines.append(",".join([name, *(repr(float(value)) for value in values)]))
    return "\n".join(lines) + "\n"


@pytest.fixture
def capture(tmp_path):
    write_photos(tmp_path / "images")
    write_ply(tmp_path / "dense.ply", ball(), None, None)
    return tmp_path


def run(folder, text, config=PLAIN, report=lambda _: None):
    (folder / "cameras.csv").write_text(text, encoding="utf-8")
    images, ply = folder / "images", folder / "dense.ply"
    return import_realityscan(folder / "cameras.csv", images, ply, folder / "scene", config, report)


def compare(scene, lens, size, tolerance_px=1e-3):
    points = ball(60, seed=3) * 0.6
    for photo, pose in zip(scene.photos, poses(), strict=True):
        expected = pixels(lens, size, points @ pose[:3, :3].T + pose[:3, 3])
        view = photo.world_to_camera
        uv, _, inside = scene.lenses[photo.lens].project(points @ view[:3, :3].T + view[:3, 3])
        assert inside.sum() > 40
        np.testing.assert_allclose(uv, expected, atol=tolerance_px)


@pytest.mark.parametrize("header", [OLD, NEW, "\ufeff" + OLD])
@pytest.mark.parametrize("size", [(48, 36), (36, 48)])
def test_points_fall_on_the_pixels_of_the_other_program(capture, header, size):
    write_photos(capture / "images", size=size)
    scene = run(capture, table(header))
    assert len(scene.lenses) == 1 and [photo.name for photo in scene.photos] == [
        f"photo{i}.png" for i in range(6)
    ]
    compare(scene, LENS, size)


def test_a_camera_that_was_exported_both_ways_has_the_same_rotation(capture):
    """Heading, pitch and roll of the CSV, and two rows of the rotation of the XMP file of the same real camera."""
    angles = (163.736597399311, 83.4154313461628, 174.386496244756)
    rows = [[0.982594073038806, 0.185426733553445, -0.0112166890261935]]
    rows.append([-0.032113633044729, 0.11008102707942, -0.993403685341366])
    values = ",".join(map(repr, [0.0, 0.0, 0.0, *angles, *LENS]))
    (capture / "cameras.csv").write_text(f"{OLD}\nphoto0.png,{values}\n")
    _, photos = read_reality_capture(capture / "cameras.csv", capture / "images", False, print)
    np.testing.assert_allclose(photos[0].world_to_camera[:2, :3], rows, atol=1e-12)
    np.testing.assert_allclose(rotation_of(*angles)[:2], rows, atol=1e-12)


def test_any_orientation_is_imported(capture):
    for rotation in Rotation.random(20, random_state=1).as_matrix():
        values = ",".join(repr(float(v)) for v in [1.0, 2.0, 3.0, *angles_of(rotation), *LENS])
        (capture / "cameras.csv").write_text(f"{OLD}\nphoto0.png,{values}\n")
        _, photos = read_reality_capture(capture / "cameras.csv", capture / "images", False, print)
        pose = photos[0].world_to_camera
        np.testing.assert_allclose(pose[:3, :3], rotation, atol=1e-12)
        np.testing.assert_allclose(-pose[:3, :3].T @ pose[:3, 3], [1, 2, 3], atol=1e-12)


def test_a_fourth_radial_coefficient_is_fitted_and_said(capture):
    lens = (37.0, 0.0, 0.0, -0.09, -0.07, 0.11, -0.07, 0.0, 0.0)
    reports = []
    scene = run(capture, table(lens=lens), report=reports.append)
    compare(scene, lens, (48, 36), tolerance_px=0.01)
    assert any("k4 was fitted" in text for text in reports)


def test_reports_come_once_for_photos_with_lenses_of_their_own(capture):
    lines = table().splitlines()
    for index in range(1, 7):
        words = lines[index].split(",")
        words[7] = repr(37.0 + index)
        lines[index] = ",".join(words)
    write_photos(capture / "images", size=(240, 180))
    reports = []
    scene = run(
        capture, "\n".join(lines), ImportConfig(longest_side=160, prepare=PLAIN.prepare), reports.append
    )
    assert len(scene.lenses) == 6
    assert reports.count("Photos of 240x180 are written as 160x120.") == 1


def test_missing_photos_may_be_left_out(capture):
    (capture / "images" / "photo2.png").unlink()
    with pytest.raises(
        UserError, match=r"photo2\.png: photo not found \(1 of 6 are missing\).*--skip-missing"
    ):
        run(capture, table())
    reports = []
    scene = run(capture, table(), ImportConfig(skip_missing=True, prepare=PLAIN.prepare), reports.append)
    assert len(scene.photos) == 5 and any("1 of 6 photos are missing" in text for text in reports)


def test_the_command_imports_a_table(capture, capsys):
    (capture / "cameras.csv").write_text(table())
    words = [str(capture / "cameras.csv"), "--images", str(capture / "images"), "--prepare.no-normals"]
    words += ["--points", str(capture / "dense.ply"), "--output", str(capture / "scene")]
    assert _run(import_realityscan_command, "adop import realityscan", words) == 0
    assert "6 photos, 500 points" in capsys.readouterr().out


def with_cell(column: str, value: str) -> str:
    lines = table().splitlines()
    words = lines[2].split(",")
    words[OLD.split(",").index(column)] = value
    return "\n".join([*lines[:2], ",".join(words), *lines[3:]])


DIVISION = (37.0, 0.0, 0.0, -0.06, 0.0, 0.0, 0.0, 0.0, 0.0)
HOSTILE = {
    "empty": ("", "line 1 has no column '#name'"),
    "other": ("a,b\n1,2\n", "line 1 has no column '#name'; export the registration as Internal/External"),
    "opencv": (table().replace(",k4,", ",q,"), "line 1 has no column 'k4'"),
    "no rows": (OLD + "\n", "holds no cameras"),
    "truncated": (table()[:-40], "line 7 has 10 columns instead of 16"),
    "binary": ("\0" * 100, "line 1 has no column|cannot be read as a table"),
    "long cell": (OLD + "\n" + "a" * 200_000, "cannot be read as a table"),
    "text": (with_cell("heading", "north"), "line 3: heading is not a finite number: 'north'"),
    "nan": (with_cell("f", "nan"), "line 3: f is not a finite number: 'nan'"),
    "infinite": (with_cell("x", "1e999"), "line 3: x is not a finite number"),
    "huge": (with_cell("x", "1e300"), "its pose is not finite, or is huge"),
    "focal": (with_cell("f", "-1"), "line 3: focal length"),
    "no name": (with_cell("#name", ""), r".*the folder .*images"),
    "twice": (with_cell("#name", "photo0.png"), "'photo0.png' and 'photo0.png' are both"),
    "division": (table(lens=DIVISION), "line 2: has k1 alone, as the Division lens model does"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_errors_in_the_table_are_one_sentence(capture, name):
    text, expected = HOSTILE[name]
    assert_refused(lambda: run(capture, text), expected, capture)
