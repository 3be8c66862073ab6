"""Which cameras see which points, and normals turned to them."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import Lens, View
from adop.scene.ply import RawPoints

MAX_VIEWS = 100  # photos, evenly spread, that look at a cloud: enough to orient it, and bounded in time


class PointVisibility:
    """How the cameras see each point; a coarse depth image of the points themselves judges what hides what.

    Args: xyz [N,3] f32, world; views: the photos' cameras, of which at most 100, evenly spread, look.
    """

    def __init__(self, xyz: np.ndarray, views: Sequence[View]) -> None:
        count = len(xyz)
        self.distance = np.full(count, np.inf, np.float32)
        self.towards = np.zeros((count, 3), np.float32)  # nearest camera that sees the point, unit
        self.mean = np.zeros((count, 3), np.float32)  # sum of unit directions to the cameras that see it
        self.seen = np.zeros(count, np.int32)  # how many do
        chosen = sorted({round(i) for i in np.linspace(0, len(views) - 1, MAX_VIEWS)}) if views else []
        self.views = [views[i] for i in chosen]
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

    def select(self, keep: np.ndarray) -> PointVisibility:
        result = object.__new__(PointVisibility)
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
    local = (matrix[:3, :3] @ xyz.T + matrix[:3, 3:]).T
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
    slack = max(0.03, 2.0 * cell / float(lens.intrinsics[0]))  # of the depth: a surface slanted by 60 degrees
    front = depth <= (1.0 + slack) * nearest[where]
    return index[front], depth[front]


def turned_normals(
    raw: RawPoints, sight: PointVisibility, neighbours: int, report: Callable[[str], None]
) -> np.ndarray | None:
    """Return unit normals [N,3] f32, kept or estimated, turned to the cameras.

    Args: neighbours: how many an estimated normal is made of; 0: none is estimated, None is returned instead.
    Raises: UserError where Open3D is needed and cannot be imported.
    """
    normals, known = None, np.zeros(len(raw.xyz), bool)
    if raw.normals is not None:
        length = np.linalg.norm(raw.normals.astype(np.float64), axis=1)
        known = np.isfinite(length) & (length > 1e-12)
        safe = np.where(known, length, 1.0)[:, None]
        normals = np.where(known[:, None], raw.normals / safe, 0).astype(np.float32)
    if known.mean() < 0.5:
        if not neighbours:
            return None
        normals = estimate_normals(raw.xyz, neighbours)
        report(f"{np.sum(~known)} of {len(known)} points have no normal: all were estimated.")
        known[:] = False
    assert normals is not None  # either kept or estimated
    normals[~known & ~normals.any(axis=1)] = sight.towards[~known & ~normals.any(axis=1)]
    if sight.views:
        _turn(normals, known, sight, report)
    return normals


def _turn(
    normals: np.ndarray, known: np.ndarray, sight: PointVisibility, report: Callable[[str], None]
) -> None:
    """Turn normals in place to the cameras that see the points.

    Given signs are believed but for clear exceptions where most are right, turned round where most are
    wrong, and not believed at all in between.
    """

    def facing(directions: np.ndarray) -> np.ndarray:
        length = np.linalg.norm(directions, axis=1)
        return np.einsum("ij,ij->i", normals, directions) / np.maximum(length, 1e-30)

    believed = known.copy()
    seen = known & (sight.seen > 0)
    wrong = float((facing(sight.towards)[seen] < 0).mean()) if seen.any() else 0.0
    if wrong > 0.8:
        report("The normals point away from the cameras: all were turned round.")
        normals[known] *= -1
    elif wrong > 0.2:
        report(f"{100 * wrong:.0f} % of the normals point away from the cameras: all were turned.")
        believed[:] = False
    clear = np.where(believed, -0.2, 0.0)
    sure = sight.seen >= np.clip(len(sight.views) // 4, 1, 3)  # one or two photos may look through a gap
    flip = (facing(sight.mean) < clear) & (~believed | (facing(sight.towards) < clear) & sure)
    if np.any(flip & believed):
        report(f"{np.sum(flip & believed)} normals faced away from the cameras and were turned round.")
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
