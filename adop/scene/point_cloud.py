"""The point cloud of a scene: cleaned, measured, in the order that rendering wants, and stored that way."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import numpy as np

from adop.errors import UserError
from adop.files import check_readable, write_atomically
from adop.ranges import NotNegative, Range, Seed

BLOCK = 256  # points; rendering skips whole blocks
PREPARED_VERSION = 1  # of the stored form; files of another version are made again


@dataclass(frozen=True)
class PrepareConfig:
    """Clean the point cloud; the defaults suit dense stereo and sparse tracks alike."""

    duplicate: NotNegative = 0.01
    """Drop one of two points that are closer than this times the distance to their 4th neighbour."""
    outlier: NotNegative = 8.0
    """Drop a point whose 4th neighbour, as a camera sees it, is this many times the median away; 0 keeps all."""
    normals: bool = True
    """Estimate normals with Open3D where the file has none."""
    neighbours: Annotated[int, Range(3)] = 16
    """Number of neighbours from which a normal is estimated."""
    seed: Seed = 0
    """Seed of the random part of the level of detail."""


@dataclass(frozen=True, eq=False)
class PointCloud:
    """Points in Morton order, in blocks of 256; inside a block they are sorted by falling `lod_radius`."""

    xyz: np.ndarray  # [N,3] f32, world
    normals: np.ndarray | None  # [N,3] f32, unit, on the side of the cameras that see the point
    colors: np.ndarray | None  # [N,3] u8, sRGB as in the photos
    radius: np.ndarray  # [N] f32, distance to the 4th neighbour, scene units
    lod_radius: np.ndarray  # [N] f32, radius * sqrt(1/U), U uniform in (0,1], drawn once for each point
    confidence: np.ndarray | None = None  # [N] f32, in [0,1] from stereo; NaN where it is unknown

    def __len__(self) -> int:
        """Return the number of points N."""
        return len(self.xyz)


def order(
    xyz: np.ndarray,
    normals: np.ndarray | None,
    colors: np.ndarray | None,
    radius: np.ndarray,
    seed: int = 0,
    confidence: np.ndarray | None = None,
) -> PointCloud:
    """Return the cloud of points in any order: Morton order, each block of 256 sorted by falling lod_radius.

    Args: as the fields of PointCloud; seed: of the random numbers U in lod_radius.
    """
    first = morton_order(xyz)
    uniform = 1.0 - np.random.default_rng(seed).random(len(xyz))  # (0,1]: never divides by zero
    lod = (radius[first] * np.sqrt(1.0 / uniform)).astype(np.float32)
    inside = sorted_blocks(lod)
    index = first[inside]

    def take(values: np.ndarray | None, dtype: type) -> np.ndarray | None:
        return None if values is None else np.ascontiguousarray(values[index], dtype=dtype)

    return PointCloud(
        np.ascontiguousarray(xyz[index], np.float32),
        take(normals, np.float32),
        take(colors, np.uint8),
        np.ascontiguousarray(radius[index], np.float32),
        lod[inside],
        take(confidence, np.float32),
    )


def thinned(cloud: PointCloud, count: int) -> PointCloud:
    """Return `count` of the points, those that the level of detail shows longest; their radii grow as they are fewer."""
    keep = np.sort(np.argpartition(cloud.radius / cloud.lod_radius, count)[:count])
    keep = keep[block_order(cloud.xyz[keep], cloud.lod_radius[keep])]
    # Of U < count / N in lod_radius = radius * sqrt(1 / U), U * N / count is uniform again: lod_radius stays as it is.
    return PointCloud(
        cloud.xyz[keep],
        None if cloud.normals is None else cloud.normals[keep],
        None if cloud.colors is None else cloud.colors[keep],
        cloud.radius[keep] * np.float32(np.sqrt(len(cloud) / count)),
        cloud.lod_radius[keep],
        None if cloud.confidence is None else cloud.confidence[keep],
    )


def block_order(xyz: np.ndarray, lod_radius: np.ndarray) -> np.ndarray:
    """Return the indices [N] that put points into Morton order, each block of 256 sorted by falling lod_radius."""
    first = morton_order(xyz)
    return first[sorted_blocks(lod_radius[first])]


def sorted_blocks(lod_radius: np.ndarray, size: int = BLOCK) -> np.ndarray:
    """Return the indices [N] that sort each block of `size` points by falling lod_radius; the last may be shorter."""
    count = len(lod_radius)
    blocks = np.pad(-lod_radius, (0, -count % size), constant_values=np.inf).reshape(-1, size)
    inside = np.argsort(blocks, axis=1, kind="stable") + size * np.arange(len(blocks))[:, None]
    return inside.reshape(-1)[:count]


def morton_order(xyz: np.ndarray) -> np.ndarray:
    """Return the indices [N] that sort points along a Z curve, 21 bits an axis.

    The curve fills the box of the 1st to the 99th percentile, enlarged threefold: a far outlier must not make it coarse
    for all other points.
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
    """Insert two zero bits after each of the 21 low bits."""
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
    """Return size and SHA-256 of a file as text; a prepared cloud stores that of the PLY file it was made from."""
    digest = hashlib.sha256()
    with open(ply, "rb") as file:
        while part := file.read(1 << 22):
            digest.update(part)
    return f"{ply.stat().st_size}-{digest.hexdigest()}"


def save_prepared(cloud: PointCloud, path: Path, ply: Path) -> None:
    """Store a prepared cloud as safetensors, marked with the PLY file that it was made from."""
    from safetensors.numpy import save

    tensors = {"xyz": cloud.xyz, "radius": cloud.radius, "lod_radius": cloud.lod_radius}
    tensors |= {} if cloud.normals is None else {"normals": cloud.normals}
    tensors |= {} if cloud.colors is None else {"colors": cloud.colors}
    tensors |= {} if cloud.confidence is None else {"confidence": cloud.confidence}
    data = save(
        tensors, metadata={"adop": json.dumps({"version": PREPARED_VERSION, "ply": fingerprint(ply)})}
    )
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def load_prepared(path: Path, ply: Path) -> PointCloud | None:
    """Load a prepared cloud, or return None where it is missing, damaged, of another version or another PLY file."""
    from safetensors import SafetensorError, safe_open

    try:
        check_readable(path)
        with safe_open(path, framework="numpy") as file:
            key = json.loads((file.metadata() or {}).get("adop", "{}"))
            if key != {"version": PREPARED_VERSION, "ply": fingerprint(ply)}:
                return None
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (UserError, OSError, SafetensorError, ValueError, TypeError, RecursionError):
        return None  # TypeError: numpy lacks some types of numbers
    cloud = PointCloud(
        *(tensors.get(name) for name in ("xyz", "normals", "colors", "radius", "lod_radius", "confidence"))  # type: ignore[arg-type]
    )
    return cloud if _is_whole(cloud) else None


def _is_whole(cloud: PointCloud) -> bool:
    """Whether all tensors have the shape, type and values of a PointCloud with at least one point."""
    if cloud.xyz is None or cloud.xyz.ndim != 2 or cloud.radius is None or cloud.lod_radius is None:
        return False
    count = len(cloud.xyz)
    wanted = (
        (cloud.xyz, (count, 3), np.float32),
        (cloud.normals, (count, 3), np.float32),
        (cloud.colors, (count, 3), np.uint8),
        (cloud.radius, (count,), np.float32),
        (cloud.lod_radius, (count,), np.float32),
        (cloud.confidence, (count,), np.float32),
    )
    if not all(a is None or (a.shape == shape and a.dtype == dtype) for a, shape, dtype in wanted):
        return False
    # A confidence may be unknown, which is NaN.
    floats = [a for a, _, _ in wanted[:-1] if a is not None and a.dtype == np.float32]
    return count > 0 and all(bool(np.isfinite(a).all()) for a in floats)
