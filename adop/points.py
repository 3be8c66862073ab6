"""Point clouds: cleaned, oriented, measured and ordered once, then loaded as they are.

Every threshold is relative to the distances between neighbours or to the cameras, so the scene's unit does not
matter.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adop.errors import UserError
from adop.lens import Lens
from adop.ply import RawPoints

BLOCK = 256  # points; a block is the unit that rendering skips as a whole
PREPARED_VERSION = 1
View = tuple[Lens, np.ndarray]  # a lens and its world_to_camera [4,4] f64


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


@dataclass(frozen=True)
class PrepareConfig:
    """How a cloud is cleaned; the defaults suit dense stereo and sparse tracks alike."""

    duplicate: float = 0.01  # of two points nearer than this x their 4th-neighbour distance, one goes
    outlier: float = 8.0  # a point goes whose spacing, as a camera sees it, is this x the median; 0 keeps all
    normals: bool = True  # estimate normals (Open3D) where the file has none
    neighbours: int = 16  # of an estimated normal
    seed: int = 0  # of U


def prepare(
    raw: RawPoints,
    views: Sequence[View],
    config: PrepareConfig | None = None,
    report: Callable[[str], None] = lambda _: None,
) -> PointCloud:
    """Clean a cloud, turn its normals to the cameras, measure and order it.

    Args: views: the photos' cameras; report: gets one sentence for each thing that was changed.
    Raises: UserError where fewer than two points remain, or Open3D is needed and cannot be imported.
    """
    config = config or PrepareConfig()
    from scipy.spatial import cKDTree

    raw = _without_broken(raw, report)
    tree = cKDTree(raw.xyz)
    distance, neighbour = _query(tree, raw.xyz)
    keep = _first_of_duplicates(distance, neighbour, config.duplicate)
    if not keep.all():
        report(f"{np.sum(~keep)} of {len(keep)} points lie on another one and were left out.")
        raw = _select(raw, keep)
        distance, _ = _query(cKDTree(raw.xyz), raw.xyz)
    sight = _Sight(raw.xyz.astype(np.float32), views)
    if config.outlier:
        keep = _no_outliers(distance[:, -1], sight.distance, config.outlier)
        if not keep.all():
            report(f"{np.count_nonzero(~keep)} of {len(keep)} points stand alone and were left out.")
            raw, sight = _select(raw, keep), sight.select(keep)
            distance, _ = _query(cKDTree(raw.xyz), raw.xyz)
    normals = _normals(raw, sight, config, report)
    radius = distance[:, -1].astype(np.float32)
    return order(raw.xyz.astype(np.float32), normals, raw.colors, radius, config.seed)


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

    The cube is that of the 1st to 99th percentile, grown threefold: a stray far away must not coarsen the rest.
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


def _select(raw: RawPoints, keep: np.ndarray) -> RawPoints:
    return RawPoints(
        raw.xyz[keep],
        None if raw.normals is None else raw.normals[keep],
        None if raw.colors is None else raw.colors[keep],
    )


def _without_broken(raw: RawPoints, report: Callable[[str], None]) -> RawPoints:
    """Leave out points that are not finite (also in float32) or that repeat another one exactly."""
    finite = (np.abs(raw.xyz) < 1e18).all(axis=1)  # squares must stay finite in float32
    if not finite.all():
        report(f"{np.count_nonzero(~finite)} of {len(finite)} points are not finite and were left out.")
        raw = _select(raw, finite)
    if len(raw.xyz):
        _, first = np.unique(raw.xyz.astype(np.float32), axis=0, return_index=True)
        if len(first) < len(raw.xyz):
            report(
                f"{len(raw.xyz) - len(first)} of {len(raw.xyz)} points repeat another one and were left out."
            )
            raw = _select(raw, np.sort(first))
    if len(raw.xyz) < 2:
        raise UserError(f"the point cloud has {len(raw.xyz)} usable points; a scene needs at least two.")
    return raw


def _query(tree, xyz: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Distances and indices [N, up to 4] of the nearest others."""
    count = min(5, len(xyz))
    distance, index = tree.query(xyz, k=count, workers=-1)
    return distance[:, 1:], index[:, 1:]


def _first_of_duplicates(distance: np.ndarray, neighbour: np.ndarray, fraction: float) -> np.ndarray:
    """Keep [N] bool: all but the later one of two neighbours that nearly coincide."""
    close = distance[:, 0] < fraction * distance[:, -1]
    return ~(close & (neighbour[:, 0] < np.arange(len(distance))))


def _no_outliers(spacing: np.ndarray, distance: np.ndarray, factor: float) -> np.ndarray:
    """Keep [N] bool: points whose spacing over distance (what a camera sees of it) is not far above the median."""
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = spacing / distance
    limit = factor * float(np.median(angle))
    return ~(angle > limit) if limit > 0 else np.ones(len(angle), bool)


class _Sight:
    """How the cameras see each point: distance of the nearest that does, and the directions towards all that do.

    Occlusion is judged by a coarse depth image of the points themselves; at most 100 photos, evenly spread, look.
    """

    def __init__(self, xyz: np.ndarray, views: Sequence[View]) -> None:
        count = len(xyz)
        self.distance = np.full(count, np.inf, np.float32)
        self.towards = np.zeros((count, 3), np.float32)  # nearest camera that sees the point, unit
        self.mean = np.zeros((count, 3), np.float32)  # sum of unit directions to the cameras that see it
        self.seen = np.zeros(count, np.int32)  # how many do
        self.views = (
            [views[i] for i in sorted({round(i) for i in np.linspace(0, len(views) - 1, 100)})]
            if views
            else []
        )
        for lens, world_to_camera in self.views:
            self._look(xyz, lens, world_to_camera)
        unseen = ~np.isfinite(self.distance)
        if unseen.any():
            self._nearest(xyz, unseen)

    def _look(self, xyz: np.ndarray, lens: Lens, world_to_camera: np.ndarray) -> None:
        index, _ = visible(xyz, lens, world_to_camera)
        centre = (-world_to_camera[:3, :3].T @ world_to_camera[:3, 3]).astype(np.float32)
        towards = centre - xyz[index]
        distance = np.linalg.norm(towards, axis=1)
        towards /= np.maximum(distance, np.finfo(np.float32).tiny)[:, None]
        self.mean[index] += towards
        self.seen[index] += 1
        closer = distance < self.distance[index]
        self.distance[index[closer]] = distance[closer]
        self.towards[index[closer]] = towards[closer]

    def _nearest(self, xyz: np.ndarray, which: np.ndarray) -> None:
        """Where no camera sees a point, let the nearest one stand in."""
        from scipy.spatial import cKDTree

        if not self.views:
            self.distance[which] = 1.0
            return
        centres = np.stack([-m[:3, :3].T @ m[:3, 3] for _, m in self.views])
        distance, index = cKDTree(centres).query(xyz[which])
        towards = centres[index] - xyz[which]
        self.distance[which] = distance
        self.towards[which] = self.mean[which] = towards / np.maximum(distance, 1e-30)[:, None]

    def select(self, keep: np.ndarray) -> _Sight:
        result = object.__new__(_Sight)
        result.views = self.views
        for name in ("distance", "towards", "mean", "seen"):
            setattr(result, name, getattr(self, name)[keep])
        return result


def visible(xyz: np.ndarray, lens: Lens, world_to_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the points that a photo sees, judging occlusion by a coarse depth image of the points.

    Args: xyz [N,3] f32, world; world_to_camera [4,4].
    Returns: their indices [M] and depths z [M] (distance for lenses wider than a half sphere).
    """
    matrix = world_to_camera.astype(np.float32)
    local = xyz @ matrix[:3, :3].T + matrix[:3, 3]
    uv, inside = lens.project(local)
    index = np.flatnonzero(inside)
    if not len(index):
        return index, np.empty(0, np.float32)
    depth = local[index, 2] if lens.model == "opencv" else np.linalg.norm(local[index], axis=1)
    cell = max(
        1.0, math.sqrt(4.0 * lens.width * lens.height / len(index))
    )  # px; four points a cell on average
    columns = int(lens.width / cell) + 1
    where = (uv[index, 1] / cell).astype(np.int64) * columns + (uv[index, 0] / cell).astype(np.int64)
    nearest = np.full(columns * (int(lens.height / cell) + 1), np.inf, np.float32)
    np.minimum.at(nearest, where, depth)
    front = depth <= 1.03 * nearest[where]
    return index[front], depth[front]


def _normals(
    raw: RawPoints, sight: _Sight, config: PrepareConfig, report: Callable[[str], None]
) -> np.ndarray | None:
    """Unit normals [N,3] f32, kept or estimated, turned to the cameras; None where neither is wanted nor there."""
    normals, known = None, np.zeros(len(raw.xyz), bool)
    if raw.normals is not None:
        length = np.linalg.norm(raw.normals.astype(np.float64), axis=1)
        known = np.isfinite(length) & (length > 1e-12)
        safe = np.where(known, length, 1.0)[:, None]
        normals = np.where(known[:, None], raw.normals / safe, 0).astype(np.float32)
    if known.mean() < 0.5:
        if not config.normals:
            return None
        report(
            "The points have no normals: estimated from their neighbours, turned to the cameras that see them."
        )
        normals = estimate_normals(raw.xyz, config.neighbours)
        known[:] = False
    assert normals is not None  # either kept or estimated
    normals[~known & ~normals.any(axis=1)] = sight.towards[~known & ~normals.any(axis=1)]
    if sight.views:
        _turn(normals, known, sight, report)
    return normals


def _turn(normals: np.ndarray, known: np.ndarray, sight: _Sight, report: Callable[[str], None]) -> None:
    """Turn estimated normals to where they are seen from; given ones only where they face away from all that see it."""
    seen = known & (sight.seen > 0)
    away = np.einsum("ij,ij->i", normals, sight.towards) < 0
    if seen.any() and away[seen].mean() > 0.7:
        report("The normals point away from the cameras: all were turned round.")
        normals[known] *= -1
    against = np.einsum("ij,ij->i", normals, sight.mean) < 0
    away = np.einsum("ij,ij->i", normals, sight.towards) < 0
    flip = against & (~known | away)
    if np.count_nonzero(flip & known):
        report(f"{np.count_nonzero(flip & known)} normals faced away from the cameras and were turned round.")
    normals[flip] *= -1


def estimate_normals(xyz: np.ndarray, neighbours: int = 16) -> np.ndarray:
    """Estimate unit normals [N,3] f32 of either sign from the nearest neighbours, with Open3D."""
    open3d = import_open3d("to estimate normals")
    centre, scale = np.median(xyz, axis=0), float(np.abs(xyz - np.median(xyz, axis=0)).mean()) or 1.0
    cloud = open3d.geometry.PointCloud()
    cloud.points = open3d.utility.Vector3dVector((xyz - centre) / scale)
    cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(neighbours))
    normals = np.asarray(cloud.normals, dtype=np.float32)
    return np.where(np.isfinite(normals).all(axis=1, keepdims=True), normals, 0).astype(np.float32)


def import_open3d(purpose: str):
    """Import Open3D, or say in one sentence what a bare machine lacks."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise UserError(
            f"Open3D is needed {purpose} and cannot be imported ({error}); on Debian or Ubuntu: "
            "apt install libusb-1.0-0 libgl1 libegl1 libx11-6 libgomp1."
        ) from error
    return open3d


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
    return all(a is None or (a.shape == shape and a.dtype == dtype) for a, shape, dtype in wanted)
