"""Exported meshes: a surface through the points, in files that Open3D reads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from adop.errors import UserError
from adop.export.export import export_run
from adop.export.export_config import ExportConfig
from adop.export.mesh import Mesh, poisson_mesh, write_mesh
from adop.export.points import ExportedPoints
from adop.run.run import Run
from adop.scene.visibility import import_open3d
from support.small_scene import ball, can_import_open3d

pytestmark = pytest.mark.skipif(not can_import_open3d(), reason="needs Open3D")
FAR = np.array([500_000.25, 4_200_000.5, 80.125])


@pytest.fixture(scope="module")
def half_ball() -> Mesh:
    """The upper half of a ball far from the origin, red at one side and blue at the other, with a point in the sky."""
    xyz = ball(4000)
    xyz = xyz[xyz[:, 2] > 0]
    colours = np.stack([xyz[:, 0] > 0, np.full(len(xyz), 0.5), xyz[:, 0] <= 0], axis=1)
    sky = [
        np.vstack([values, row])
        for values, row in ((xyz, [0, 0, 1e4]), (xyz, [0, 0, -1]), (colours, [1, 1, 1]))
    ]
    points = ExportedPoints(
        sky[0] + FAR,
        sky[1].astype(np.float32),
        sky[2].astype(np.float32),
        None,
        None,
        np.ones(len(sky[0]), bool),
    )
    return poisson_mesh(points, depth=6, trim=0.0)


def test_the_surface_lies_on_the_points_and_ends_where_there_are_none(half_ball: Mesh):
    vertices = half_ball.vertices - FAR
    inside = vertices[:, 2] > 0.05
    assert np.abs(np.linalg.norm(vertices[inside], axis=1) - 1).max() < 0.01
    assert inside.mean() > 0.7 and vertices[:, 2].min() > -0.2 and len(half_ball.triangles) > 1000
    outward = np.einsum("ni,ni->n", half_ball.normals, vertices)
    assert outward[inside].min() > 0.8
    clear = np.abs(vertices[:, 0]) > 0.2
    expected = np.stack([vertices[:, 0] > 0, np.full(len(vertices), 0.5), vertices[:, 0] <= 0], axis=1)
    assert np.abs(half_ball.colours - expected)[clear].max() < 0.1
    corners = vertices[half_ball.triangles]
    sides = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("ni,ni->n", sides, corners.mean(axis=1)) > 0).mean() > 0.99


@pytest.mark.parametrize("ending", [".ply", ".obj", ".glb"])
def test_open3d_reads_the_same_mesh(ending: str, half_ball: Mesh, tmp_path: Path):
    file = tmp_path / f"mesh{ending}"
    near = replace(half_ball, vertices=half_ball.vertices - FAR)  # Open3D reads two of the formats in float32
    write_mesh(near, file, ending, np.array([0.0, 1.0, 0.0]))
    read = import_open3d("to read a mesh").io.read_triangle_mesh(str(file))
    assert len(read.triangles) == len(near.triangles)
    distance, index = cKDTree(near.vertices).query(np.asarray(read.vertices))
    assert distance.max() < 1e-6 and len(set(index)) == len(set(near.triangles.ravel()))
    found, expected = (np.sort(index[np.asarray(read.triangles)], axis=1), np.sort(near.triangles, axis=1))
    np.testing.assert_array_equal(found[np.lexsort(found.T)], expected[np.lexsort(expected.T)])
    if ending != ".glb":  # whose colours are linear
        np.testing.assert_allclose(np.asarray(read.vertex_colors), near.colours[index], atol=0.003)


def test_an_obj_has_all_digits_and_a_glb_is_upright_in_linear_light(half_ball: Mesh, tmp_path: Path):
    write_mesh(half_ball, tmp_path / "mesh.obj", ".obj", np.zeros(3))
    lines = (tmp_path / "mesh.obj").read_text().splitlines()
    found = np.array([line.split()[1:4] for line in lines if line.startswith("v ")], float)
    np.testing.assert_allclose(found, half_ball.vertices, rtol=0, atol=1e-5)
    write_mesh(half_ball, tmp_path / "mesh.glb", ".glb", np.array([0.0, 0.0, 1.0]))
    data = (tmp_path / "mesh.glb").read_bytes()
    assert data[:4] == b"glTF" and int.from_bytes(data[8:12], "little") == len(data)
    length = int.from_bytes(data[12:16], "little")
    content = json.loads(data[20 : 20 + length])
    binary = data[28 + length :]
    view = content["bufferViews"][2]
    linear = np.frombuffer(binary, "<f4", view["byteLength"] // 4, view["byteOffset"]).reshape(-1, 3)
    expected = np.where(
        half_ball.colours <= 0.04045, half_ball.colours / 12.92, ((half_ball.colours + 0.055) / 1.055) ** 2.4
    )
    np.testing.assert_allclose(linear, expected, atol=1e-6)
    x, y, z, w = content["nodes"][0]["rotation"]
    np.testing.assert_allclose(Rotation.from_quat([x, y, z, w]).apply([0, 0, 1]), [0, 1, 0], atol=1e-9)


def test_a_mesh_of_a_run_is_where_its_points_are(refined_run: Run, tmp_path: Path):
    said: list[str] = []
    config = ExportConfig(mesh_depth=7, mesh_trim=0.1)
    export_run(refined_run, "mesh", tmp_path / "mesh.ply", config, said.append)
    read = import_open3d("to read a mesh").io.read_triangle_mesh(str(tmp_path / "mesh.ply"))
    vertices = np.asarray(read.vertices) - refined_run.scene.world_offset
    points = refined_run.pipeline.points.xyz.numpy()
    distance, _ = cKDTree(points).query(vertices)
    back, _ = cKDTree(vertices).query(points)
    spacing = np.median(cKDTree(points).query(points, k=5)[0][:, 4])
    assert np.median(distance) < 2 * spacing and np.median(back) < 2 * spacing and read.has_vertex_colors()
    assert f"{len(vertices):,} coloured vertices" in said[-1]


def test_points_without_normals_make_no_mesh(plain_run: Run, tmp_path: Path):
    plain_run.pipeline.points.normals = None
    with pytest.raises(UserError, match="no normals"):
        export_run(plain_run, "mesh", tmp_path / "mesh.ply", report=lambda _: None)
    assert not list(tmp_path.iterdir())
