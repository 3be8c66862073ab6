"""Importing Bundler's reconstructions: the projection of its manual gives the pixels of the imported scene."""

import numpy as np
import pytest

from adop.__main__ import _run
from adop.cli.other_programs import import_bundler_command
from adop.errors import UserError
from adop.importers.import_config import ImportConfig
from adop.importers.import_scene import import_bundler
from adop.scene.ply import RawPoints, write_ply
from support.imports import PLAIN, assert_refused
from support.small_scene import HEIGHT, WIDTH, ball, poses, write_photos

F, K1, K2 = 50.0, -0.07, 0.02
GL = np.diag([1.0, -1.0, -1.0])  # Bundler's camera axes: y up, looking along -z


def camera_of(index: int) -> tuple[np.ndarray, np.ndarray]:
    pose = poses()[index]
    return GL @ pose[:3, :3], GL @ pose[:3, 3]


def pixels(rotation: np.ndarray, translation: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Project as the manual of Bundler says, then count pixels from the upper left corner and downwards."""
    camera = points @ rotation.T + translation
    p = -camera[:, :2] / camera[:, 2:]
    norm = np.linalg.norm(p, axis=1)
    p = F * (1.0 + K1 * norm**2 + K2 * norm**4)[:, None] * p
    return np.stack([WIDTH / 2 + p[:, 0], HEIGHT / 2 - p[:, 1]], axis=1)


def bundle(
    points: np.ndarray | None = None, unregistered: tuple[int, ...] = (), lens: str = f"{F} {K1} {K2}"
) -> str:
    points = ball(200) if points is None else points
    lines = ["# Bundle file v0.3", f"6 {len(points)}"]
    for index in range(6):
        if index in unregistered:
            lines += ["0 0 0"] * 5
            continue
        rotation, translation = camera_of(index)
        lines += [lens, *(" ".join(map(repr, row)) for row in [*rotation.tolist(), translation.tolist()])]
    for point in points.tolist():
        lines += [" ".join(map(repr, point)), "10 20 30", "2 0 17 -3.5 4.25 3 5 1.0 -2.0"]
    return "\n".join(lines) + "\n"


@pytest.fixture
def capture(tmp_path):
    write_photos(tmp_path / "images")
    (tmp_path / "bundle").mkdir()
    write_list(tmp_path)
    return tmp_path


def write_list(folder, names=None, ending=" 0 532.5"):
    names = [f"./photo{index}.png" for index in range(6)] if names is None else names
    (folder / "list.txt").write_text("".join(f"{name}{ending}\n" for name in names))


def run(folder, text, points=None, config=PLAIN, report=lambda _: None):
    file = folder / "bundle" / "bundle.out"
    file.write_text(text)
    return import_bundler(file, folder / "images", points, folder / "scene", config, report)


@pytest.mark.parametrize("ending", ["", " 0", " 0 532.5"])
def test_points_fall_on_the_pixels_of_the_other_program(capture, ending):
    write_list(capture, ending=ending)
    reports = []
    scene = run(capture, bundle(), report=reports.append)
    assert len(scene.photos) == 6 and len(scene.lenses) == 1 and len(scene.points) == 200
    np.testing.assert_array_equal(scene.points.colors[0], [10, 20, 30])
    assert "No --points: using the 200 sparse points; a dense cloud gives better results." in reports
    points = ball(60, seed=3) * 0.8
    for index, photo in enumerate(scene.photos):
        view = photo.world_to_camera
        uv, _, inside = scene.lenses[0].project(points @ view[:3, :3].T + view[:3, 3])
        assert inside.sum() > 40 and photo.name == f"photo{index}.png"
        np.testing.assert_allclose(uv, pixels(*camera_of(index), points), atol=1e-3)


def test_cameras_that_are_not_registered_are_counted(capture):
    (capture / "images" / "photo1.png").unlink()  # is not needed
    reports = []
    scene = run(capture, bundle(unregistered=(1, 4)), report=reports.append)
    assert [photo.name for photo in scene.photos] == ["photo0.png", "photo2.png", "photo3.png", "photo5.png"]
    assert "2 of 6 cameras are not registered and were left out." in reports


def test_points_come_from_a_file_or_a_function_if_there_are_none(capture):
    write_ply(capture / "dense.ply", ball(), None, None)
    again = ImportConfig(force=True, prepare=PLAIN.prepare)
    assert len(run(capture, bundle(), points=capture / "dense.ply").points) == 500
    make = lambda lenses, photos: RawPoints(ball(300), None, None)  # noqa: E731
    assert len(run(capture, bundle(), points=make, config=again).points) == 200
    assert len(run(capture, bundle(np.zeros((0, 3))), points=make, config=again).points) == 300


def test_the_list_may_be_named_and_must_fit(capture):
    names = [f"C:\\photos\\photo{index}.png" for index in range(6)]
    (capture / "list.txt").rename(capture / "names.txt")
    with pytest.raises(
        UserError, match=r"there is no list\.txt beside it; name the list of photos with --list"
    ):
        run(capture, bundle())
    write_list(capture, names[:5])
    with pytest.raises(UserError, match=r"list\.txt: lists 5 photos, but .*bundle\.out has 6 cameras"):
        run(capture, bundle())
    write_list(capture, names)
    files = (capture / "bundle" / "bundle.out", capture / "list.txt")
    scene = import_bundler(files, capture / "images", None, capture / "scene", PLAIN, lambda _: None)
    assert len(scene.photos) == 6


def test_missing_photos_may_be_left_out(capture):
    (capture / "images" / "photo2.png").unlink()
    with pytest.raises(
        UserError, match=r"photo2\.png: photo not found \(1 of 6 are missing\).*--skip-missing"
    ):
        run(capture, bundle())
    reports = []
    config = ImportConfig(skip_missing=True, prepare=PLAIN.prepare)
    scene = run(capture, bundle(), config=config, report=reports.append)
    assert len(scene.photos) == 5 and any("1 of 6 photos are missing" in text for text in reports)


def test_the_command_imports_a_bundle(capture, capsys):
    (capture / "bundle" / "bundle.out").write_text(bundle())
    (capture / "list.txt").rename(capture / "names.txt")
    (capture / "images" / "photo2.png").unlink()
    words = [str(capture / "bundle" / "bundle.out"), "--images", str(capture / "images"), "--skip-missing"]
    words += [
        "--list",
        str(capture / "names.txt"),
        "--output",
        str(capture / "scene"),
        "--prepare.no-normals",
    ]
    assert _run(import_bundler_command, "adop import bundler", words) == 0
    assert "5 photos, 200 points" in capsys.readouterr().out


def with_line(number: int, text: str) -> str:
    lines = bundle().splitlines()
    lines[number - 1] = text
    return "\n".join(lines)


HOSTILE = {
    "empty": ("", "is cut off after line 0"),
    "other": ("ply\n", "line 1 must read '# Bundle file v0.3'"),
    "old": (with_line(1, "# Bundle file v0.2"), "line 1 must read '# Bundle file v0.3'"),
    "no counts": (with_line(2, "6"), "line 2 must hold the numbers of cameras and points"),
    "negative": (with_line(2, "6 -1"), "line 2 must hold the numbers of cameras and points"),
    "huge": (
        with_line(2, "99999999999999999 0"),
        "line 2: 99999999999999999 cameras and 0 points do not fit into",
    ),
    "many points": (with_line(2, "6 99999999999999999"), "do not fit into"),
    "digits": (with_line(2, "9" * 5000 + " 0"), "line 2 must hold the numbers"),
    "truncated": (bundle()[:-60], "line 630 must hold a point's x y z"),
    "cut off": ("\n".join(bundle().splitlines()[:100]), "is cut off after line 100|do not fit"),
    "focal": (bundle(lens="-1 0 0"), "line 3: focal length"),
    "nan": (bundle(lens="nan 0 0"), "line 3 must hold f k1 k2, all finite"),
    "text": (with_line(3, "f k1 k2"), "line 3 must hold f k1 k2, all finite"),
    "rotation": (with_line(4, "0 1 0"), "line 3: its rotation matrix is not a rotation"),
    "rotation nan": (with_line(4, "nan 0 0"), "line 4 must hold three numbers"),
    "short": (with_line(5, "1 0"), "line 5 must hold three numbers"),
    "long": (with_line(5, "1 " * 100_000), "line 5 must hold three numbers"),
    "far": (with_line(7, "1e300 0 0"), "its pose is not finite, or is huge"),
    "colour": (with_line(34, "300 0 0"), "line 34 must hold a point's red green blue"),
    "views": (
        with_line(35, "5 0 1 2 3"),
        "line 35 must hold a point's number of views, and four numbers for each",
    ),
    "none": (bundle(unregistered=tuple(range(6))), "none of its 6 cameras is registered"),
    "binary": ("# Bundle file v0.3\n\0\1", "line 2 must hold the numbers"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_errors_in_the_bundle_are_one_sentence(capture, name):
    text, expected = HOSTILE[name]
    assert_refused(lambda: run(capture, text), expected, capture)
