"""Reading and writing PLY files, among them hostile and damaged ones."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from adop.errors import UserError
from adop.scene.ply import read_ply, write_ply
from support.small_scene import ball, can_import_open3d

HEADER = "ply\nformat {} 1.0\ncomment made by hand\n{}end_header\n"
XYZ = "element vertex {}\nproperty float x\nproperty float y\nproperty float z\n"


def save(path, text, data=b""):
    path.write_bytes(text.encode() + data)
    return path


def test_a_written_file_is_read_unchanged(tmp_path):
    xyz = ball(50).astype(np.float32)
    colors = np.arange(150, dtype=np.uint8).reshape(50, 3)
    write_ply(tmp_path / "a.ply", xyz, -xyz, colors)
    points = read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(points.xyz, xyz)
    np.testing.assert_array_equal(points.normals, -xyz)
    np.testing.assert_array_equal(points.colors, colors)
    write_ply(tmp_path / "b.ply", xyz, None, None)
    points = read_ply(tmp_path / "b.ply")
    assert points.normals is None and points.colors is None and points.xyz.dtype == np.float64


@pytest.mark.parametrize("order", ["<", ">"])
def test_a_binary_file_by_hand(tmp_path, order):
    name = {"<": "binary_little_endian", ">": "binary_big_endian"}[order]
    elements = (
        "element thing 2\nproperty short a\nproperty double b\n"
        "element vertex 2\nproperty uchar red\nproperty double z\nproperty float y\nproperty int quality\n"
        "property uchar green\nproperty float x\nproperty uchar blue\n"
        "element face 1\nproperty list uchar int vertex_indices\n"
    )
    data = struct.pack(order + "hdhd", 1, 2, 3, 4)
    data += struct.pack(order + "BdfiBfB", 10, 3.0, 2.0, -7, 20, 1.0, 30)
    data += struct.pack(order + "BdfiBfB", 11, 3.5, 2.5, -7, 21, 1.5, 31)
    data += struct.pack(order + "B3i", 3, 0, 1, 0)
    points = read_ply(save(tmp_path / "a.ply", HEADER.format(name, elements), data))
    np.testing.assert_array_equal(points.xyz, [[1, 2, 3], [1.5, 2.5, 3.5]])
    np.testing.assert_array_equal(points.colors, [[10, 20, 30], [11, 21, 31]])
    assert points.normals is None


@pytest.mark.parametrize("newline", ["\n", "\r\n"])
def test_an_ascii_file_by_hand(tmp_path, newline):
    elements = "element before 1\nproperty list uchar int a\n" + XYZ.format(2)
    elements += "property float nx\nproperty float ny\nproperty float nz\n"
    text = HEADER.format("ascii", elements) + "3 1 2 3\n1 2 3 0 0 1\n-1e3 nan 3.5 0 1 0\n0 0 0 0 0 0\n"
    points = read_ply(save(tmp_path / "a.ply", text.replace("\n", newline)))
    np.testing.assert_array_equal(points.xyz, [[1, 2, 3], [-1000, np.nan, 3.5]])
    np.testing.assert_array_equal(points.normals, [[0, 0, 1], [0, 1, 0]])


@pytest.mark.parametrize(
    "kind, layout, values, expected",
    [
        ("float", "3f", (0.0, 0.5, 1.0), (0, 128, 255)),
        ("float", "3f", (0.0, 128.0, 300.0), (0, 128, 255)),
        ("ushort", "3H", (0, 32896, 65535), (0, 128, 255)),
        ("ushort", "3H", (0, 128, 255), (0, 128, 255)),
        ("uchar", "3B", (0, 1, 1), (0, 1, 1)),
        ("float", "3f", (float("nan"), -1.0, 1.0), (0, 0, 255)),
    ],
)
def test_colours_of_other_types_become_bytes(tmp_path, kind, layout, values, expected):
    elements = XYZ.format(1) + "".join(f"property {kind} {name}\n" for name in "rgb")
    data = struct.pack("<3f" + layout, 1, 2, 3, *values)
    points = read_ply(save(tmp_path / "a.ply", HEADER.format("binary_little_endian", elements), data))
    assert tuple(points.colors[0]) == expected
    if np.isfinite(values).all():
        text = HEADER.format("ascii", elements) + " ".join(map(str, (1, 2, 3, *values))) + "\n"
        assert tuple(read_ply(save(tmp_path / "b.ply", text)).colors[0]) == expected


def test_a_few_overexposed_colours_make_the_others_not_black(tmp_path):
    elements = XYZ.format(300) + "".join(f"property float {name}\n" for name in "rgb")
    lines = ["1 2 3 0.5 0.5 0.5\n"] * 299 + ["1 2 3 0.5 1.02 0.5\n"]
    points = read_ply(save(tmp_path / "a.ply", HEADER.format("ascii", elements) + "".join(lines)))
    assert points.colors[0].tolist() == [128] * 3 and points.colors[-1].tolist() == [128, 255, 128]


def test_files_without_points_are_read(tmp_path):
    for encoding in ("ascii", "binary_little_endian"):
        points = read_ply(save(tmp_path / "a.ply", HEADER.format(encoding, XYZ.format(0))))
        assert points.xyz.shape == (0, 3)


BINARY = "binary_little_endian"
HOSTILE = {
    "empty": ("", "not a PLY"),
    "other file": ("PK\x03\x04", "not a PLY"),
    "no end": ("ply\nformat ascii 1.0\n", "end_header"),
    "endless header": ("ply\n" + "comment x\n" * 10000, "end_header"),
    "no format": ("ply\n" + XYZ.format(1) + "end_header\n1 2 3\n", "format"),
    "unknown format": (HEADER.format("binary_middle_endian", XYZ.format(1)), "format"),
    "no vertices": (HEADER.format("ascii", ""), "vertex"),
    "no z": (
        HEADER.format("ascii", "element vertex 1\nproperty float x\nproperty float y\n") + "1 2\n",
        "'z'",
    ),
    "huge count": (HEADER.format(BINARY, XYZ.format(10**15)), "cut off"),
    "huge ascii count": (HEADER.format("ascii", XYZ.format(10**15)) + "1 2 3\n", "cut off"),
    "absurd count": (HEADER.format(BINARY, XYZ.format("9" * 40)), "element NAME COUNT"),
    "negative count": (HEADER.format(BINARY, XYZ.format(-1)), "element NAME COUNT"),
    "no count": (HEADER.format(BINARY, XYZ.format("many")), "element NAME COUNT"),
    "cut off": (HEADER.format(BINARY, XYZ.format(2)) + "x" * 23, "cut off"),
    "skips beyond": (
        HEADER.format(BINARY, "element a 999999999\nproperty int b\n" + XYZ.format(1)),
        "cut off",
    ),
    "ascii cut off": (HEADER.format("ascii", XYZ.format(3)) + "1 2 3\n        \n        \n", "promises 3"),
    "ascii words": (HEADER.format("ascii", XYZ.format(1)) + "1 two 3\n", "numbers"),
    "ascii ragged": (HEADER.format("ascii", XYZ.format(2)) + "1 2 3\n1 2 3 4\n", "numbers"),
    "ascii wide": (HEADER.format("ascii", XYZ.format(1)) + "1 2 3 4\n", "promises"),
    "list in vertex": (HEADER.format(BINARY, XYZ.format(1) + "property list uchar int a\n"), "list"),
    "list before": (
        HEADER.format(BINARY, "element a 1\nproperty list uchar int b\n" + XYZ.format(1)),
        "lists",
    ),
    "property first": ("ply\nformat ascii 1.0\nproperty float x\nend_header\n", "before any element"),
    "unknown type": (HEADER.format("ascii", "element vertex 1\nproperty quad x\n"), "known type"),
    "twice": (HEADER.format("ascii", XYZ.format(1) + "property float x\n"), "repeats"),
    "too many": (
        HEADER.format("ascii", XYZ.format(1) + "".join(f"property float p{i}\n" for i in range(300))),
        "too many",
    ),
    "odd word": ("ply\nformat ascii 1.0\nexec rm\nend_header\n", "unknown keyword: 'exec'"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_errors_in_hostile_files_are_one_sentence(tmp_path, name):
    text, expected = HOSTILE[name]
    path = tmp_path / "bad.ply"
    path.write_bytes(text.encode("latin-1"))
    with pytest.raises(UserError, match=expected) as caught:
        read_ply(path)
    assert "bad.ply" in str(caught.value) and "\n" not in str(caught.value)


def test_missing_files_and_folders_are_named(tmp_path):
    with pytest.raises(UserError, match="cannot be read"):
        read_ply(tmp_path / "none.ply")
    with pytest.raises(UserError, match="cannot be read"):
        read_ply(tmp_path)


@settings(max_examples=150, deadline=None)
@given(data=st.data(), encoding=st.sampled_from(["ascii", "binary_little_endian", "binary_big_endian"]))
def test_damaged_files_raise_only_user_errors(tmp_path_factory, data, encoding):
    text = HEADER.format(encoding, XYZ.format(3) + "property uchar red\n").encode()
    body = b"1 2 3 4\n5 6 7 8\n9 1 2 3\n" if encoding == "ascii" else struct.pack("<3fB3fB3fB", *range(12))
    content = bytearray(text + body)
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    content = content[: data.draw(st.integers(0, len(content)))] if data.draw(st.booleans()) else content
    path = tmp_path_factory.getbasetemp() / "damaged.ply"
    path.write_bytes(content)
    try:
        points = read_ply(path)
    except UserError:
        return
    assert points.xyz.ndim == 2 and len(points.xyz) <= len(content)


@pytest.mark.skipif(not can_import_open3d(), reason="Open3D cannot be imported here")
@pytest.mark.parametrize("ascii_file", [True, False])
def test_files_are_exchanged_with_open3d(tmp_path, ascii_file):
    import open3d

    xyz = ball(40)
    cloud = open3d.geometry.PointCloud()
    cloud.points = cloud.normals = open3d.utility.Vector3dVector(xyz)
    cloud.colors = open3d.utility.Vector3dVector(np.linspace(0, 1, 120).reshape(40, 3))
    path = tmp_path / "a.ply"
    open3d.io.write_point_cloud(str(path), cloud, write_ascii=ascii_file)
    points = read_ply(path)
    np.testing.assert_allclose(points.xyz, xyz, atol=1e-6 if ascii_file else 0)
    np.testing.assert_allclose(points.normals, xyz, atol=1e-6)
    write_ply(tmp_path / "b.ply", points.xyz, points.normals, points.colors)
    back = open3d.io.read_point_cloud(str(tmp_path / "b.ply"))
    np.testing.assert_allclose(np.asarray(back.points), xyz, atol=1e-6)
    np.testing.assert_allclose(np.asarray(back.colors) * 255, points.colors, atol=1e-6)


@pytest.mark.parametrize("encoding", ["ascii", "binary_little_endian"])
def test_colours_of_gaussian_splats_are_those_of_their_constant_harmonic(tmp_path, encoding):
    """colour = 0.5 + f_dc / (2 sqrt(pi)), and the normals that such files hold are all zero."""
    names = ("nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2", "f_rest_0", "opacity", "scale_0", "rot_0")
    elements = XYZ.format(2) + "".join(f"property float {name}\n" for name in names)
    half = np.sqrt(np.pi)  # of which the harmonic is 0.5
    rows = [
        (1, 2, 3, 0, 0, 0, 0.0, half, -half, 9, 9, 9, 9),
        (4, 5, 6, 0, 0, 0, 100.0, -100.0, 0.5 * half, 9, 9, 9, 9),
    ]
    text = "".join(" ".join(map(repr, map(float, row))) + "\n" for row in rows)
    data = text.encode() if encoding == "ascii" else b"".join(struct.pack("<13f", *row) for row in rows)
    points = read_ply(save(tmp_path / "a.ply", HEADER.format(encoding, elements), data))
    np.testing.assert_array_equal(points.xyz, [[1, 2, 3], [4, 5, 6]])
    np.testing.assert_array_equal(points.colors, [[128, 255, 0], [255, 0, 191]])
    assert points.normals is None


def test_colours_are_preferred_to_harmonics_and_some_normals_to_none(tmp_path):
    names = ("red", "green", "blue", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2")
    elements = XYZ.format(2) + "".join(f"property float {name}\n" for name in names)
    text = "1 2 3 10 20 30 0 0 0 1 1 1\n4 5 6 40 50 60 0 0 1 1 1 1\n"
    points = read_ply(save(tmp_path / "a.ply", HEADER.format("ascii", elements) + text))
    np.testing.assert_array_equal(points.colors, [[10, 20, 30], [40, 50, 60]])
    np.testing.assert_array_equal(points.normals, [[0, 0, 0], [0, 0, 1]])
