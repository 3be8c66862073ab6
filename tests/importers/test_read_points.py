"""LAS and LAZ points: files written byte by byte after the specification, and files that laspy writes."""

from __future__ import annotations

import struct
import sys
from pathlib import Path

import numpy as np
import pytest

from adop.errors import UserError
from adop.importers.import_scene import import_colmap
from adop.importers.read_points import read_points
from adop.scene.ply import write_ply
from support.imports import PLAIN, silent
from support.mutations import is_one_sentence
from support.small_scene import ball, las_bytes, poses, write_colmap, write_photos

laspy = pytest.importorskip("laspy")

MAP = np.array([512345.0, 4123456.0, 300.0])
COLORS = np.array([[0, 0, 0], [65535, 257, 512], [25700, 40000, 1]], np.uint16)
XYZ = np.array([[1.25, -2.5, 3.0], [0.001, 0.002, -0.003], [-1000.0, 1000.0, 0.0]])


def write(path: Path, content: bytes) -> Path:
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("ending", [".las", ".LAS"])
def test_the_points_of_a_las_file_are_read(tmp_path, ending):
    points = read_points(write(tmp_path / f"a{ending}", las_bytes(XYZ + MAP, COLORS, offset=MAP)))
    np.testing.assert_allclose(points.xyz, XYZ + MAP, rtol=0, atol=1e-9)  # float32 would be off by 0.03
    np.testing.assert_array_equal(points.colors, [[0, 0, 0], [255, 1, 2], [100, 156, 0]])
    assert points.normals is None and points.source.endswith(ending)


def test_colours_of_8_bits_in_fields_of_16_are_found(tmp_path):
    colors = np.array([[0, 10, 255], [1, 2, 3], [7, 8, 9]], np.uint16)
    points = read_points(write(tmp_path / "a.las", las_bytes(XYZ, colors)))
    np.testing.assert_array_equal(points.colors, colors)
    assert read_points(write(tmp_path / "b.las", las_bytes(XYZ, 0 * colors))).colors is None


@pytest.mark.parametrize("compressed", [False, True])
@pytest.mark.parametrize("version, kind", [("1.2", 1), ("1.2", 3), ("1.4", 6), ("1.4", 7), ("1.4", 8)])
def test_what_laspy_writes_is_read(tmp_path, version, kind, compressed):
    header = laspy.LasHeader(version=version, point_format=kind)
    header.scales, header.offsets = [0.001] * 3, MAP
    data = laspy.LasData(header)
    xyz = np.random.default_rng(0).normal(size=(2000, 3)) * 100 + MAP
    data.x, data.y, data.z = xyz.T
    colors = np.random.default_rng(1).integers(0, 65536, (2000, 3), dtype=np.uint16)
    with_colors = kind in (3, 7, 8)
    if with_colors:
        data.red, data.green, data.blue = colors.T
    path = tmp_path / ("a.laz" if compressed else "a.las")
    data.write(str(path))
    points = read_points(path)
    np.testing.assert_allclose(points.xyz, xyz, rtol=0, atol=0.000501)
    if with_colors:
        np.testing.assert_allclose(points.colors, colors / 257.0, atol=0.5)
    else:
        assert points.colors is None


def test_the_ending_tells_the_format(tmp_path):
    write_ply(tmp_path / "a.ply", XYZ, None, None)
    np.testing.assert_allclose(read_points(tmp_path / "a.ply").xyz, XYZ)


def test_a_scene_of_las_points_is_moved_to_the_origin(tmp_path):
    write_photos(tmp_path / "images")
    matrices = poses()
    for matrix in matrices:
        matrix[:3, 3] -= matrix[:3, :3] @ MAP
    write_colmap(tmp_path / "sparse", matrices=matrices)
    write(tmp_path / "a.las", las_bytes(ball() + MAP, np.full((500, 3), 514, np.uint16), offset=MAP))
    scene = import_colmap(
        tmp_path / "sparse", tmp_path / "images", tmp_path / "a.las", tmp_path / "scene", PLAIN, silent
    )
    assert len(scene.points) == 500 and (scene.points.colors == 2).all()
    found = scene.points.xyz + scene.world_offset
    np.testing.assert_allclose(np.sort(found[:, 0]), np.sort(ball()[:, 0] + MAP[0]), atol=1e-3)


def test_without_laspy_the_package_is_named(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "laspy", None)
    with pytest.raises(
        UserError, match=r"a\.las: LAS and LAZ files need another package: pip install 'adop\[las\]'\."
    ):
        read_points(write(tmp_path / "a.las", las_bytes(XYZ, COLORS)))


def patched(offset: int, layout: str, *values: object) -> bytes:
    content = bytearray(las_bytes(XYZ, COLORS))
    struct.pack_into(layout, content, offset, *values)
    return bytes(content)


HOSTILE = {
    "empty": (b"", "is not a LAS file"),
    "ply": (b"ply\nformat ascii 1.0\n" * 30, "is not a LAS file"),
    "header": (las_bytes(XYZ, COLORS)[:150], "is cut off within its header"),
    "cut off": (
        las_bytes(XYZ, COLORS)[:-1],
        "3 points and 0 records before them do not fit into its 304 bytes",
    ),
    "count": (patched(107, "<I", 2**32 - 1), "4294967295 points and 0 records"),
    "first": (patched(96, "<I", 2**32 - 1), "do not fit"),
    "vlrs": (patched(100, "<I", 2**32 - 1), "3 points and 4294967295 records before them do not fit"),
    "kind": (patched(104, "<B", 99), "is cut off or damaged"),
    "packed": (patched(104, "<B", 0x82), "is cut off or damaged"),
    "size": (patched(105, "<H", 0), "do not fit"),
    "short": (patched(105, "<H", 3), "is cut off or damaged"),
    "scale": (patched(131, "<d", float("nan")), "its scale or offset is zero, huge or not a number"),
    "no scale": (patched(131, "<d", 0.0), "its scale or offset is zero"),
    "offset": (patched(155, "<d", float("inf")), "its scale or offset is zero, huge"),
    "huge": (patched(155, "<d", 1e300), "its scale or offset is zero, huge"),
    "version": (patched(25, "<B", 4), "is cut off"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_damaged_files_are_refused_with_one_sentence(tmp_path, name):
    content, expected = HOSTILE[name]
    with pytest.raises(UserError, match=expected) as caught:
        read_points(write(tmp_path / "a.las", content))
    assert is_one_sentence(str(caught.value), tmp_path)


@pytest.mark.parametrize("file", ["a.las", "a.laz"])
def test_files_cut_off_anywhere_are_refused(tmp_path, file):
    header = laspy.LasHeader(version="1.4", point_format=7)
    data = laspy.LasData(header)
    data.x, data.y, data.z = XYZ.T
    data.write(str(tmp_path / file))
    content = (tmp_path / file).read_bytes()
    for length in range(0, len(content), 29):
        with pytest.raises(UserError) as caught:
            read_points(write(tmp_path / file, content[:length]))
        assert is_one_sentence(str(caught.value), tmp_path)
