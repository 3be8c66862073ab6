"""A small capture with known ground truth: points on a ball, cameras around it, photos of noise, and COLMAP files."""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import rigid
from adop.scene.point_cloud import order
from adop.scene.scene import Photo, Scene

WIDTH, HEIGHT, FOCAL = 48, 36, 50.0


def looking_at_origin(angle: float, distance: float = 4.0, height: float = 0.5) -> np.ndarray:
    """Return world_to_camera [4,4] of a camera at this angle around the y axis; the world's up is -y."""
    centre = np.array([distance * np.sin(angle), -height, -distance * np.cos(angle)])
    forward = -centre / np.linalg.norm(centre)
    right = np.cross([0.0, 1.0, 0.0], forward)
    right /= np.linalg.norm(right)
    rotation = np.stack([right, np.cross(forward, right), forward])
    return rigid(rotation, -rotation @ centre)


def ball(count: int = 500, seed: int = 0) -> np.ndarray:
    """Return points [N,3] f64 spread evenly over the unit sphere (a Fibonacci lattice) with 0.1 % of noise."""
    i = np.arange(count) + 0.5
    polar, turn = np.arccos(1 - 2 * i / count), np.pi * (1 + 5**0.5) * i
    xyz = np.stack([np.cos(turn) * np.sin(polar), np.cos(polar), np.sin(turn) * np.sin(polar)], axis=1)
    return xyz * (1 + 0.001 * np.random.default_rng(seed).standard_normal((count, 1)))


def poses(count: int = 6, scale: float = 1.0) -> list[np.ndarray]:
    """Return world_to_camera [4,4] of cameras evenly around the ball, their distances times `scale`."""
    matrices = [looking_at_origin(angle) for angle in np.arange(count) * 2 * np.pi / count]
    for matrix in matrices:
        matrix[:3, 3] *= scale
    return matrices


def lens(width: int = WIDTH, height: int = HEIGHT) -> Lens:
    """Return an opencv lens with a little distortion."""
    intrinsics = np.array([FOCAL, FOCAL + 1, width / 2 + 0.25, height / 2 - 0.5])
    return Lens("opencv", width, height, intrinsics, np.array([-0.05, 0.01, 1e-3, -1e-3, 0, 0, 0, 0]))


def write_photos(folder: Path, count: int = 6, size: tuple[int, int] = (WIDTH, HEIGHT)) -> list[Path]:
    """Write photos of noise and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(1)
    files = [folder / f"photo{index}.png" for index in range(count)]
    for file in files:
        Image.fromarray(random.integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)).save(file)
    return files


def small_scene(folder: Path) -> Scene:
    """Return a scene whose photos are written to `folder`; the scene itself is not."""
    files = write_photos(folder)
    matrices = poses(len(files))
    xyz = ball()
    colors = np.random.default_rng(2).integers(0, 256, xyz.shape, dtype=np.uint8)
    cloud = order(xyz.astype(np.float32), xyz.astype(np.float32), colors, np.full(len(xyz), 0.1, np.float32))
    photos = [
        Photo(file, 0, matrix, exposure=10.0 + index, name=file.name)
        for index, (file, matrix) in enumerate(zip(files, matrices, strict=True))
    ]
    return Scene(
        "small", folder, (lens(),), tuple(photos), cloud, np.array([0.0, -1.0, 0.0]), 12.5, 0.01, 100.0
    )


def quaternion(rotation: np.ndarray) -> list[float]:
    """Return the quaternion w x y z of a rotation [3,3]."""
    from scipy.spatial.transform import Rotation

    x, y, z, w = Rotation.from_matrix(rotation).as_quat()
    return [w, x, y, z]


def write_colmap(
    folder: Path,
    text: bool = False,
    names: list[str] | None = None,
    matrices: list[np.ndarray] | None = None,
    camera: tuple[int, str, int, int, list[float]] | None = None,
    points: np.ndarray | None = None,
) -> Path:
    """Write a COLMAP model of one camera, after the format's description and independently of adop's reader."""
    folder.mkdir(parents=True, exist_ok=True)
    matrices = poses() if matrices is None else matrices
    names = [f"photo{index}.png" for index in range(len(matrices))] if names is None else names
    own = lens()
    default = (4, "OPENCV", WIDTH, HEIGHT, [*own.intrinsics, *own.distortion[:4]])
    number, model, width, height, params = camera or default
    points = ball() if points is None else points
    rows = [(quaternion(m[:3, :3]), m[:3, 3].tolist(), name) for m, name in zip(matrices, names, strict=True)]
    if text:
        values = " ".join(repr(float(value)) for value in params)
        (folder / "cameras.txt").write_text(f"# cameras\n7 {model} {width} {height} {values}\n")
        lines = ["# photos"]
        for index, (q, t, name) in enumerate(rows):
            lines += [
                f"{index + 1} {' '.join(repr(float(v)) for v in [*q, *t])} 7 {name}",
                "1.5 2.5 -1" if index else "",
            ]
        (folder / "images.txt").write_text("\n".join(lines) + "\n")
        body = [f"{i} {x!r} {y!r} {z!r} 1 2 3 0.5 1 0" for i, (x, y, z) in enumerate(points.tolist())]
        (folder / "points3D.txt").write_text("\n".join(body) + "\n")
        return folder
    (folder / "cameras.bin").write_bytes(
        struct.pack("<QIiQQ", 1, 7, number, width, height) + struct.pack(f"<{len(params)}d", *params)
    )
    data = struct.pack("<Q", len(rows))
    for index, (q, t, name) in enumerate(rows):
        data += struct.pack("<I7dI", index + 1, *q, *t, 7) + name.encode() + b"\0"
        data += struct.pack("<Q2dq", 1, 1.5, 2.5, -1)
    (folder / "images.bin").write_bytes(data)
    data = struct.pack("<Q", len(points))
    for index, (x, y, z) in enumerate(points.tolist()):
        data += struct.pack("<Q3d3BdQ2I", index, x, y, z, 1, 2, 3, 0.5, 1, 1, 0)
    (folder / "points3D.bin").write_bytes(data)
    return folder


def las_bytes(xyz: np.ndarray, colors: np.ndarray, offset: np.ndarray | None = None) -> bytes:
    """Return a LAS 1.2 file of point format 2, after the specification, with positions in thousandths."""
    offset = np.zeros(3) if offset is None else offset
    bounds = np.stack([xyz.max(axis=0), xyz.min(axis=0)], axis=1)  # largest and smallest x, then y, then z
    head = struct.pack("<4sHHIHH8sBB32s32sHH", b"LASF", 0, 0, 0, 0, 0, bytes(8), 1, 2, b"", b"test", 1, 2020)
    head += struct.pack("<HIIBHI5I", 227, 227, 0, 2, 26, len(xyz), len(xyz), 0, 0, 0, 0)
    head += struct.pack("<12d", 0.001, 0.001, 0.001, *offset, *bounds.ravel())
    whole = np.rint((xyz - offset) / 0.001).astype(np.int64)
    rows = (struct.pack("<3iHBBBBH3H", *p, 0, 9, 2, 0, 0, 0, *c) for p, c in zip(whole, colors, strict=True))
    return head + b"".join(rows)


def can_import_open3d() -> bool:
    """Whether this machine has Open3D and the system libraries that it needs."""
    try:
        import open3d  # noqa: F401
    except (ImportError, OSError):
        return False
    return True


def with_points(scene: Scene, keep: np.ndarray | slice) -> Scene:
    """Return the scene with only some of its points."""
    values = {
        name: getattr(scene.points, name) for name in ("xyz", "normals", "colors", "radius", "lod_radius")
    }
    kept = {name: None if value is None else value[keep] for name, value in values.items()}
    return replace(scene, points=replace(scene.points, **kept))
