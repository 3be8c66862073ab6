"""Importing Metashape's cameras: a projection written from its manual gives the pixels of the imported scene."""

import numpy as np
import pytest

from adop.__main__ import _run
from adop.cli.other_programs import import_metashape_command
from adop.errors import UserError
from adop.geometry.rigid_motion import invert_rigid, rigid
from adop.importers.import_config import ImportConfig
from adop.importers.import_scene import import_metashape
from adop.scene.ply import write_ply
from support.imports import PLAIN, assert_refused
from support.small_scene import HEIGHT, WIDTH, ball, poses, write_photos

LENS = {
    "f": 50.0,
    "cx": 0.6,
    "cy": -0.4,
    "b1": 0.7,
    "k1": -0.05,
    "k2": 0.02,
    "k3": -0.01,
    "p1": 2e-3,
    "p2": -1e-3,
}
# The component's place: world = SCALE * ROTATION @ chunk + SHIFT.
SCALE, SHIFT = 2.5, np.array([3.0, -4.0, 5.0])
ROTATION = np.array([[0.36, 0.48, -0.8], [-0.8, 0.6, 0.0], [0.48, 0.64, 0.6]])


def pixels(lens: dict, kind: str, camera_points: np.ndarray) -> np.ndarray:
    """Project as the manual of Metashape Professional says, appendix on camera models, frame and fisheye cameras."""
    value = {**dict.fromkeys(("cx", "cy", "b1", "b2", "k1", "k2", "k3", "k4", "p1", "p2"), 0.0), **lens}
    x, y = (camera_points[:, :2] / camera_points[:, 2:]).T
    if kind != "frame":
        r0 = np.hypot(x, y)
        x, y = x * np.arctan(r0) / r0, y * np.arctan(r0) / r0
    r = np.hypot(x, y)
    radial = 1 + value["k1"] * r**2 + value["k2"] * r**4 + value["k3"] * r**6 + value["k4"] * r**8
    xd = x * radial + (value["p1"] * (r**2 + 2 * x**2) + 2 * value["p2"] * x * y)
    yd = y * radial + (value["p2"] * (r**2 + 2 * y**2) + 2 * value["p1"] * x * y)
    u = WIDTH * 0.5 + value["cx"] + xd * value["f"] + xd * value["b1"] + yd * value["b2"]
    v = HEIGHT * 0.5 + value["cy"] + yd * value["f"]
    return np.stack([u, v], axis=1)


def numbers(values) -> str:
    return " ".join(repr(float(value)) for value in np.ravel(values))


def camera_xml(
    index: int, attributes: str = "", transform: str | None = None, label: str | None = None
) -> str:
    pose = numbers(invert_rigid(poses()[index])) if transform is None else transform
    inner = f"<transform>{pose}</transform><orientation>1</orientation>" if pose else ""
    label = f"photo{index}" if label is None else label
    return (
        f'<camera id="{index}" sensor_id="0" component_id="0" label="{label}" {attributes}>{inner}</camera>'
    )


def calibration_xml(lens: dict, kind: str = "frame", size: str = f'width="{WIDTH}" height="{HEIGHT}"') -> str:
    values = "".join(f"<{name}>{value!r}</{name}>" for name, value in lens.items())
    initial = '<calibration type="frame" class="initial"><f>1.0</f></calibration>'
    adjusted = f'<calibration type="{kind}" class="adjusted"><resolution {size}/>{values}</calibration>'
    return f'<sensor id="0" label="a" type="{kind}"><resolution {size}/>{initial}{adjusted}</sensor>'


TRANSFORM = (
    f'<transform><rotation locked="false">{numbers(ROTATION)}</rotation><translation>{numbers(SHIFT)}</translation>'
    f"<scale>{SCALE}</scale></transform>"
)


def document(sensor: str | None = None, cameras: list[str] | None = None, component: str = TRANSFORM) -> str:
    sensor = calibration_xml(LENS) if sensor is None else sensor
    cameras = [camera_xml(index) for index in range(6)] if cameras is None else cameras
    group = f'<group id="0" label="g" type="folder">{cameras[0]}</group>'
    return f"""<?xml version="1.0" encoding="UTF-8"?>
<document version="2.0.0"><chunk label="Chunk 1" enabled="true">
<sensors next_id="1">{sensor}</sensors>
<components next_id="1" active_id="0"><component id="0" label="Component 1">{component}</component></components>
<cameras next_id="6">{group}{"".join(cameras[1:])}</cameras>
<reference>LOCAL_CS["Local Coordinates (m)"]</reference></chunk></document>"""


def world(chunk_points: np.ndarray) -> np.ndarray:
    return SCALE * chunk_points @ ROTATION.T + SHIFT


@pytest.fixture
def capture(tmp_path):
    write_photos(tmp_path / "images")
    write_ply(tmp_path / "dense.ply", world(ball()), None, None)
    return tmp_path


def run(folder, text, config=PLAIN, report=lambda _: None, points="dense.ply"):
    (folder / "cameras.xml").write_text(text)
    file = folder / "cameras.xml"
    return import_metashape(file, folder / "images", folder / points, folder / "scene", config, report)


def compare(scene, lens, kind="frame", placed=True, tolerance_px=1e-3):
    """Compare the pixels of points in every photo with the other program's projection."""
    chunk = ball(60, seed=3) * 0.8
    expected_world = world(chunk) if placed else chunk
    for index, photo in enumerate(scene.photos):
        assert photo.name == f"photo{index}.png"
        pose = poses()[index]
        expected = pixels(lens, kind, chunk @ pose[:3, :3].T + pose[:3, 3])
        own, view = scene.lenses[photo.lens], photo.world_to_camera
        moved = expected_world - scene.world_offset
        uv, _, inside = own.project(moved @ view[:3, :3].T + view[:3, 3])
        assert inside.sum() > 40
        np.testing.assert_allclose(uv, expected, atol=tolerance_px)


def test_a_frame_camera_sees_the_same_pixels(capture):
    reports = []
    scene = run(capture, document(), report=reports.append)
    compare(scene, LENS)
    assert not any("fitted" in text or "left out" in text for text in reports)


def test_a_fisheye_camera_sees_the_same_pixels(capture):
    lens = {"f": 45.0, "cx": 0.6, "cy": -0.4, "b1": 0.7, "k1": 0.05, "k2": -0.02, "k3": 0.01, "k4": -0.003}
    for kind in ("fisheye", "equidistant_fisheye"):
        scene = run(
            capture, document(calibration_xml(lens, kind)), ImportConfig(force=True, prepare=PLAIN.prepare)
        )
        assert scene.lenses[0].model == "fisheye"
        compare(scene, lens, kind)


def test_a_fourth_radial_coefficient_is_fitted_and_said(capture):
    lens = {"f": 50.0, "k1": -0.0919367147, "k2": -0.0762807468, "k3": 0.1162639394, "k4": -0.0761413904}
    reports = []
    scene = run(capture, document(calibration_xml(lens)), report=reports.append)
    compare(scene, lens, tolerance_px=0.01)
    assert any("k4 was fitted by other radial terms, to within" in text for text in reports)
    wide = {"f": 1500.0, "k1": 0.05, "k2": -0.1, "k3": 0.2, "k4": -0.15}
    with pytest.raises(UserError, match=r"sensor '0': k4 = -0.15 multiplies r\^8.*they miss 3.8 pixels"):
        size = 'width="4000" height="3000"'
        run(capture, document(calibration_xml(wide, size=size)), ImportConfig(force=True))


def test_a_chunk_without_a_transform_stays_as_it_is(capture):
    write_ply(capture / "chunk.ply", ball(), None, None)
    scene = run(capture, document(component=""), points="chunk.ply")
    compare(scene, LENS, placed=False)


def test_the_transform_of_the_chunk_may_be_a_matrix(capture):
    matrix = rigid(SCALE * ROTATION, SHIFT)
    text = document(component="").replace(
        "<components", f"<transform>{numbers(matrix)}</transform><components"
    )
    compare(run(capture, text), LENS)


def test_small_skew_is_left_out_and_said_and_large_skew_refused(capture):
    reports = []
    scene = run(capture, document(calibration_xml({**LENS, "b2": 0.1})), report=reports.append)
    compare(scene, {**LENS, "b2": 0.1}, tolerance_px=0.05)
    assert any("its skew (b2), at most 0.037 pixels, was left out" in text for text in reports)
    with pytest.raises(UserError, match=r"its skew \(b2\) moves the photo's corners by 3.7 pixels"):
        run(capture, document(calibration_xml({**LENS, "b2": -10.0})), ImportConfig(force=True))
    with pytest.raises(UserError, match=r"its tangential distortion \(p1, p2\) moves"):
        run(capture, document(calibration_xml({**LENS, "p1": 0.02}, "fisheye")), ImportConfig(force=True))


def test_cameras_that_are_not_aligned_or_disabled_are_counted(capture):
    cameras = [
        camera_xml(0),
        camera_xml(1, transform=""),
        camera_xml(2, 'enabled="false"'),
        *map(camera_xml, (3, 4, 5)),
    ]
    reports = []
    scene = run(capture, document(cameras=cameras), report=reports.append)
    assert [photo.name for photo in scene.photos] == ["photo0.png", "photo3.png", "photo4.png", "photo5.png"]
    assert "1 of 6 cameras are disabled and were left out." in reports
    assert "1 of 6 cameras are not aligned and were left out." in reports


def test_of_components_without_a_place_only_the_largest_is_imported(capture):
    cameras = [
        camera_xml(0),
        *(camera_xml(i) for i in range(1, 5)),
        camera_xml(5).replace('ent_id="0"', 'ent_id="1"'),
    ]
    reports = []
    scene = run(capture, document(cameras=cameras), report=reports.append)
    assert len(scene.photos) == 5 and any(
        "1 of 6 cameras belong to other components" in text for text in reports
    )


def test_labels_may_have_endings_folders_and_other_machines_paths(capture):
    (capture / "images" / "deep").mkdir()
    (capture / "images" / "photo3.png").rename(capture / "images" / "deep" / "photo3.png")
    labels = [
        "photo0.png",
        "photo1",
        "/home/x/photo2.png",
        "photo3",
        "C:\\x\\images\\photo4.png",
        "./photo5.png",
    ]
    cameras = [camera_xml(index, label=label) for index, label in enumerate(labels)]
    scene = run(capture, document(cameras=cameras))
    assert [photo.name for photo in scene.photos][:2] == ["deep/photo3.png", "photo0.png"]
    assert len(scene.photos) == 6
    (capture / "images" / "deep" / "photo1.jpg").write_bytes(b"")
    with pytest.raises(
        UserError, match=r"photo 'photo1' may be .*photo1\.png or .*photo1\.jpg; name a folder"
    ):
        run(capture, document(), ImportConfig(force=True))


def test_missing_photos_may_be_left_out(capture):
    (capture / "images" / "photo2.png").unlink()
    with pytest.raises(
        UserError, match=r"photo2: photo not found \(1 of 6 are missing\).*--skip-missing leaves out"
    ):
        run(capture, document())
    reports = []
    scene = run(capture, document(), ImportConfig(skip_missing=True, prepare=PLAIN.prepare), reports.append)
    assert len(scene.photos) == 5 and any(
        "1 of 6 photos are missing and were left out" in text for text in reports
    )
    for index in (0, 1, 3, 4):
        (capture / "images" / f"photo{index}.png").unlink()
    with pytest.raises(UserError, match=r"5 of 6 are missing\); an import needs at least 2 photos"):
        run(capture, document(), ImportConfig(skip_missing=True, force=True))


def test_map_coordinates_are_explained(capture):
    reports = []
    run(capture, document().replace("LOCAL_CS", "PROJCS"), report=reports.append)
    assert any("export its points in geocentric coordinates" in text for text in reports)


def test_the_command_imports_cameras(capture, capsys):
    (capture / "cameras.xml").write_text(document())
    words = [str(capture / "cameras.xml"), "--images", str(capture / "images"), "--prepare.no-normals"]
    words += ["--points", str(capture / "dense.ply"), "--output", str(capture / "scene")]
    assert _run(import_metashape_command, "adop import metashape", words) == 0
    assert "6 photos, 500 points" in capsys.readouterr().out


BOMB = '<!DOCTYPE d [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;&a;&a;&a;&a;">]>\n<document>&b;</document>'
EXTERNAL = '<!DOCTYPE d [<!ENTITY a SYSTEM "file:///etc/passwd">]>\n<document>&a;</document>'
EMPTY_CHUNK = "<document><chunk></chunk></document>"
HOSTILE = {
    "bomb": (BOMB, "declares a document type"),
    "external": (EXTERNAL, "declares a document type"),
    "truncated": (document()[:900], "is not XML, or is cut off"),
    "empty": ("", "is not XML, or is cut off"),
    "binary": ("\0\1\2", "is not XML, or is cut off"),
    "deep": ("<a>" * 100, "too many elements in one another"),
    "other": ("<a/>", "holds no cameras of Metashape"),
    "no cameras": (EMPTY_CHUNK, "holds no cameras of Metashape"),
    "two chunks": (document().replace("</chunk>", "</chunk><chunk/>"), "holds 2 chunks"),
    "none aligned": (document(cameras=[camera_xml(0, transform="")] * 2), "none of its 2 cameras is aligned"),
    "no label": (document(cameras=[camera_xml(0, label="")]), r".*the folder .*images"),
    "twice": (document(cameras=[camera_xml(0), camera_xml(0)]), "'photo0' and 'photo0' are both .*leave one out"),
    "words": (document(cameras=[camera_xml(0, transform="a " * 16)]), "its transform must be 16 finite numbers"),
    "short": (document(cameras=[camera_xml(0, transform="1 0 0")]), "its transform must be 16 finite numbers"),
    "many": (document(cameras=[camera_xml(0, transform="1 " * 99999)]), "its transform must be 16 finite numbers"),
    "nan": (document(cameras=[camera_xml(0, transform="nan " * 16)]), "its transform must be 16 finite numbers"),
    "stretched": (document(cameras=[camera_xml(0, transform="2 " * 16)]), "camera 'photo0': its rotation matrix is not"),
    "scale": (document(component=TRANSFORM.replace("2.5", "-1")), "component '0': its scale is -1"),
    "huge": (document(component=TRANSFORM.replace("2.5", "1e300")), "its pose is not finite, or is huge"),
    "no scale": (document(component=TRANSFORM.replace("scale", "size")), "its scale must be one finite number"),
    "no sensor": (document(sensor=""), "sensor '0': has no calibration"),
    "no focal": (document(calibration_xml({"cx": 1.0})), "sensor '0': has no focal length f"),
    "negative": (document(calibration_xml({**LENS, "f": -1.0})), "sensor '0': focal length"),
    "focal nan": (document(calibration_xml({**LENS, "f": float("nan")})), "its f must be one finite number"),
    "k1 text": (document(calibration_xml({**LENS, "k1": "x"})), "its k1 must be one finite number"),
    "k4 huge": (document(calibration_xml({**LENS, "k4": 1e300})), "multiplies r"),
    "p3": (document(calibration_xml({**LENS, "p3": 0.1})), "p3 and p4 have no counterpart"),
    "spherical": (document(calibration_xml(LENS, "spherical")), "type 'spherical' have no counterpart"),
    "size": (document(calibration_xml(LENS, size='width="9e9"')), "its resolution is missing or not"),
    "size huge": (document(calibration_xml(LENS, size=f'width="{"9" * 50}" height="1"')), "size: expected"),
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_errors_in_the_xml_are_one_sentence(capture, name):
    text, expected = HOSTILE[name]
    assert_refused(lambda: run(capture, text), expected, capture)
