"""A coloured surface through the points of a run, by Poisson reconstruction, and the files that hold it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from adop.errors import UserError
from adop.export.points import ExportedPoints, write_ply_columns
from adop.geometry.nearest_points import nearest_points
from adop.images.srgb import srgb_decode
from adop.run.run import Run
from adop.scene.visibility import import_open3d

FARTHEST = 10.0  # times the median distance from the middle; points beyond are no part of the surface
OCTREE_MARGIN = 1.1  # size of Open3D's octree relative to the points
REACH = 2.0  # how far the surface goes on beyond points, in distances to their 4th neighbours


@dataclass(frozen=True, eq=False)
class Mesh:
    """A coloured triangle mesh."""

    vertices: np.ndarray  # [V,3] f64
    normals: np.ndarray  # [V,3] f32, unit
    colours: np.ndarray  # [V,3] f32, values of an image, in [0,1]
    triangles: np.ndarray  # [F,3] i32, anticlockwise seen from outside


def check_mesh(run: Run) -> None:
    """Raise UserError where Open3D cannot be imported, or the points have no normals."""
    import_open3d("to make a mesh")
    if run.pipeline.points.normals is None:
        raise UserError(
            f"{run.folder}: its points have no normals, from which a mesh is made; export to ply."
        )


def poisson_mesh(points: ExportedPoints, depth: int, trim: float) -> Mesh:
    """Return a surface through oriented points.

    Points far from all others, such as those of the sky, are left out.

    Args:
        depth: of the octree.
        trim: share of the vertices that is cut off, those which the fewest points support.

    Raises: UserError where nothing is left of the surface.
    **Source** Kazhdan and Hoppe 2013, screened Poisson surface reconstruction, in Open3D.
    """
    open3d = import_open3d("to make a mesh")
    if points.normals is None:
        raise ValueError("points: expected normals")
    middle = np.median(points.xyz, axis=0)
    distance = np.linalg.norm(points.xyz - middle, axis=1)
    scale = float(np.median(distance)) or 1.0
    near = distance <= FARTHEST * scale
    cloud = open3d.geometry.PointCloud()
    cloud.points = open3d.utility.Vector3dVector((points.xyz[near] - middle) / scale)
    cloud.normals = open3d.utility.Vector3dVector(points.normals[near].astype(np.float64))
    cloud.colors = open3d.utility.Vector3dVector(points.colours[near].astype(np.float64))
    with open3d.utility.VerbosityContextManager(open3d.utility.VerbosityLevel.Error):
        # More threads than one crash now and then (github.com/isl-org/Open3D/issues/6828).
        surface, density = open3d.geometry.TriangleMesh.create_from_point_cloud_poisson(
            cloud, depth=depth, n_threads=1
        )
        sparse = np.asarray(density) < np.quantile(density, trim)
        cell = OCTREE_MARGIN * float(np.ptp(cloud.points, axis=0).max()) / 2**depth
        lonely = ~supported(np.asarray(surface.vertices), np.asarray(cloud.points), cell)
        surface.remove_vertices_by_mask(sparse | lonely)
        surface.compute_vertex_normals()
    if not len(surface.triangles):
        raise UserError("mesh: nothing is left of the surface; trim less of it, or choose a smaller depth.")
    return Mesh(
        np.asarray(surface.vertices) * scale + middle,
        np.asarray(surface.vertex_normals).astype(np.float32),
        np.clip(np.asarray(surface.vertex_colors), 0, 1).astype(np.float32),
        np.asarray(surface.triangles).astype(np.int32),
    )


def supported(vertices: np.ndarray, xyz: np.ndarray, cell: float) -> np.ndarray:
    """Return [V] bool, whether points [N,3] lie at vertices [V,3]: nearer than a cell and some of their own spacings."""
    tree = cKDTree(xyz)
    distance, nearest = (found[:, 0] for found in nearest_points(tree, vertices, 1))
    spacing = nearest_points(tree, xyz[nearest], min(5, len(xyz)))[0][:, -1]
    return distance <= cell + REACH * spacing


def write_mesh(mesh: Mesh, path: Path, ending: str, up: np.ndarray) -> None:
    """Write a mesh as a file of the format that an ending tells: .ply, .obj or .glb.

    Args: up: [3] the direction that is up, which is y in a .glb.
    """
    if ending == ".ply":
        _write_ply(mesh, path)
    elif ending == ".obj":
        _write_obj(mesh, path)
    else:
        _write_glb(mesh, path, up)


def _write_ply(mesh: Mesh, path: Path) -> None:
    """Write a binary PLY file with positions in double precision."""
    colours = np.rint(255 * mesh.colours).astype(np.uint8)
    columns = [(name, mesh.vertices[:, axis]) for axis, name in enumerate("xyz")]
    columns += [(f"n{name}", mesh.normals[:, axis]) for axis, name in enumerate("xyz")]
    columns += [(name, colours[:, channel]) for channel, name in enumerate(("red", "green", "blue"))]
    write_ply_columns(path, columns, triangles=mesh.triangles)


def _write_obj(mesh: Mesh, path: Path) -> None:
    """Write an OBJ file; colours follow the positions, as many programs read them."""
    faces = np.repeat(mesh.triangles + 1, 2, axis=1)  # position and normal have the same number
    with open(path, "w", encoding="ascii") as file:
        np.savetxt(file, np.hstack((mesh.vertices, mesh.colours)), "v %.12g %.12g %.12g %.4f %.4f %.4f")
        np.savetxt(file, mesh.normals, "vn %.4f %.4f %.4f")
        np.savetxt(file, faces, "f %d//%d %d//%d %d//%d")


def _write_glb(mesh: Mesh, path: Path, up: np.ndarray) -> None:
    """Write a binary glTF 2.0 file: colours in linear light, and a node that turns `up` [3] into y, as glTF wants it.

    **Source** Khronos Group, glTF 2.0 specification.
    """
    turn, _ = Rotation.align_vectors([[0.0, 1.0, 0.0]], [up])
    vertices = mesh.vertices.astype("<f4")
    linear = srgb_decode(torch.from_numpy(mesh.colours)).numpy().astype("<f4")
    arrays = (vertices, mesh.normals.astype("<f4"), linear, mesh.triangles.reshape(-1).astype("<u4"))
    starts = np.cumsum([0, *(array.nbytes for array in arrays)]).tolist()
    accessors = [
        {"bufferView": index, "componentType": 5126, "count": len(array), "type": "VEC3"}
        for index, array in enumerate(arrays[:3])
    ]
    accessors[0] |= {"min": vertices.min(axis=0).tolist(), "max": vertices.max(axis=0).tolist()}
    accessors += [{"bufferView": 3, "componentType": 5125, "count": len(arrays[3]), "type": "SCALAR"}]
    attributes = {"POSITION": 0, "NORMAL": 1, "COLOR_0": 2}
    content = {
        "asset": {"version": "2.0", "generator": "adop"},
        "scene": 0,
        "scenes": [{"nodes": [0]}],
        "nodes": [{"mesh": 0, "rotation": turn.as_quat().tolist()}],
        "meshes": [{"primitives": [{"attributes": attributes, "indices": 3, "material": 0}]}],
        "materials": [
            {"pbrMetallicRoughness": {"metallicFactor": 0, "roughnessFactor": 1}, "doubleSided": True}
        ],
        "accessors": accessors,
        "bufferViews": [
            {"buffer": 0, "byteOffset": start, "byteLength": array.nbytes}
            for start, array in zip(starts, arrays, strict=False)
        ],
        "buffers": [{"byteLength": starts[-1]}],
    }
    text = json.dumps(content).encode("ascii")
    text += b" " * (-len(text) % 4)
    with open(path, "wb") as file:
        size = 12 + 8 + len(text) + 8 + starts[-1]
        file.write(b"glTF" + np.array([2, size], "<u4").tobytes())
        file.write(np.array([len(text)], "<u4").tobytes() + b"JSON" + text)
        file.write(np.array([starts[-1]], "<u4").tobytes() + b"BIN\0")
        for array in arrays:
            file.write(np.ascontiguousarray(array).data)
