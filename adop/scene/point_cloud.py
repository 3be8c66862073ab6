"""Point clouds as everything else uses them: measured, ordered, and stored ready to load."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

BLOCK = 256  # points; a block is the unit that rendering skips as a whole
PREPARED_VERSION = 1


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points in Morton order, in blocks of 256; inside a block `lod_radius` falls."""

    xyz: np.ndarray  # [N,3] f32, world
    normals: np.ndarray | None  # [N,3] f32, unit, towards the cameras that see the point
    colors: np.ndarray | None  # [N,3] u8, sRGB as in the photos
    radius: np.ndarray  # [N] f32, distance to the 4th neighbour, scene units
    lod_radius: np.ndarray  # [N] f32, radius * sqrt(1/U), U uniform in (0,1), drawn once

    def __len__(self) -> int:
        return len(self.xyz)


def order(
    xyz: np.ndarray, normals: np.ndarray | None, colors: np.ndarray | None, radius: np.ndarray, seed: int = 0
) -> PointCloud:
    """Draw U, put points into Morton order, and sort each block of 256 by falling lod_radius.

    Args: as the fields of PointCloud, in any order.
    """
    first = morton_order(xyz)
    uniform = 1.0 - np.random.default_rng(seed).random(len(xyz))  # (0,1]: never divides by zero
    lod = (radius[first] * np.sqrt(1.0 / uniform)).astype(np.float32)
    inside = np.lexsort((-lod, np.arange(len(xyz)) // BLOCK))
    index = first[inside]

    def take(values: np.ndarray | None, dtype: type) -> np.ndarray | None:
        return None if values is None else np.ascontiguousarray(values[index], dtype=dtype)

    return PointCloud(
        np.ascontiguousarray(xyz[index], np.float32),
        take(normals, np.float32),
        take(colors, np.uint8),
        np.ascontiguousarray(radius[index], np.float32),
        lod[inside],
    )


def morton_order(xyz: np.ndarray) -> np.ndarray:
    """Return the order [N] of points along a Z curve, 21 bits per axis of the cube that holds all but strays.

    The cube is that of the 1st to 99th percentile, grown threefold: a stray must not coarsen the rest.
    """
    if not len(xyz):
        return np.empty(0, np.int64)
    low, high = np.percentile(xyz.astype(np.float64), [1, 99], axis=0)
    size = float((high - low).max()) or 1.0
    start = low - size
    cells = np.clip((xyz - start) / (3.0 * size) * (1 << 21), 0, (1 << 21) - 1).astype(np.uint64)
    code = _spread(cells[:, 0]) | _spread(cells[:, 1]) << np.uint64(1) | _spread(cells[:, 2]) << np.uint64(2)
    return np.argsort(code, kind="stable")


def _spread(x: np.ndarray) -> np.ndarray:
    """Put two zero bits after each of the 21 low bits."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        x = (x | x << np.uint64(shift)) & np.uint64(mask)
    return x


def fingerprint(ply: Path) -> str:
    """Size and SHA-256 of a file, as text: the key that a prepared cloud belongs to."""
    digest = hashlib.sha256()
    with open(ply, "rb") as file:
        while part := file.read(1 << 22):
            digest.update(part)
    return f"{ply.stat().st_size}-{digest.hexdigest()}"


def save_prepared(cloud: PointCloud, path: Path, ply: Path) -> None:
    """Store a prepared cloud beside the PLY file that it was made from, as safetensors, atomically."""
    from safetensors.numpy import save

    tensors = {"xyz": cloud.xyz, "radius": cloud.radius, "lod_radius": cloud.lod_radius}
    tensors |= {} if cloud.normals is None else {"normals": cloud.normals}
    tensors |= {} if cloud.colors is None else {"colors": cloud.colors}
    data = save(
        tensors, metadata={"adop": json.dumps({"version": PREPARED_VERSION, "ply": fingerprint(ply)})}
    )
    temporary = path.with_name(path.name + ".new")
    temporary.write_bytes(data)
    temporary.replace(path)


def load_prepared(path: Path, ply: Path) -> PointCloud | None:
    """Load a prepared cloud; None where it is missing, damaged, of another version or of another PLY file."""
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(path, framework="numpy") as file:
            key = json.loads((file.metadata() or {}).get("adop", "{}"))
            if key != {"version": PREPARED_VERSION, "ply": fingerprint(ply)}:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError):
        return None
    cloud = PointCloud(
        *(tensors.get(name) for name in ("xyz", "normals", "colors", "radius", "lod_radius"))  # type: ignore[arg-type]
    )
    return cloud if _is_whole(cloud) else None


def _is_whole(cloud: PointCloud) -> bool:
    if cloud.xyz is None or cloud.radius is None or cloud.lod_radius is None:
        return False
    count = len(cloud.xyz)
    wanted = (
        (cloud.xyz, (count, 3), np.float32),
        (cloud.normals, (count, 3), np.float32),
        (cloud.colors, (count, 3), np.uint8),
        (cloud.radius, (count,), np.float32),
        (cloud.lod_radius, (count,), np.float32),
    )
    if not all(a is None or (a.shape == shape and a.dtype == dtype) for a, shape, dtype in wanted):
        return False
    floats = [a for a, _, _ in wanted if a is not None and a.dtype == np.float32]
    return count > 0 and all(bool(np.isfinite(a).all()) for a in floats)
