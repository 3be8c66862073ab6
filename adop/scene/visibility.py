"""Which cameras see which points, and normals that face those cameras."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import Lens, PosedLens
from adop.scene.ply import RawPoints

MAX_VIEWS = 100  # photos, evenly spread, that judge a cloud: enough to orient normals, and bounded in time


class PointVisibility:
    """Distance and direction of the cameras that see each point of a cloud.

    At most 100 of the photos, evenly spread, are used. A coarse depth map of the points themselves tells which points
    hide which others. A point that no photo sees takes distance and direction from the nearest camera.
    """

    def __init__(self, xyz: np.ndarray, views: Sequence[PosedLens]) -> None:
        """Find out which of the photos' cameras see the points xyz [N,3] f32, in the world."""
        count = len(xyz)
        self.distance = np.full(count, np.inf, np.float32)  # to the nearest camera that sees the point
        self.direction = np.zeros((count, 3), np.float32)  # unit, to that camera
        # Sum of the unit directions to all cameras that see the point.
        self.direction_sum = np.zeros((count, 3), np.float32)
        self.photo_count = np.zeros(count, np.int32)  # photos that see the point
        chosen = sorted({round(i) for i in np.linspace(0, len(views) - 1, MAX_VIEWS)}) if views else []
        self.views = [views[i] for i in chosen]
        for lens, world_to_camera in self.views:
            self._add_photo(xyz, lens, world_to_camera)
        hidden = ~np.isfinite(self.distance)
        if hidden.any():
            self._use_nearest_camera(xyz, hidden)

    def _add_photo(self, xyz: np.ndarray, lens: Lens, world_to_camera: np.ndarray) -> None:
        index, _ = visible(xyz, lens, world_to_camera)
        centre = (-world_to_camera[:3, :3].T @ world_to_camera[:3, 3]).astype(np.float32)
        direction = centre - xyz[index]
        distance = np.linalg.norm(direction, axis=1)
        direction /= np.maximum(distance, np.finfo(np.float32).tiny)[:, None]
        self.direction_sum[index] += direction
        self.photo_count[index] += 1
        closer = distance < self.distance[index]
        self.distance[index[closer]] = distance[closer]
        self.direction[index[closer]] = direction[closer]

    def _use_nearest_camera(self, xyz: np.ndarray, hidden: np.ndarray) -> None:
        """Take distance and direction of the points `hidden` [N] bool from the nearest camera."""
        from scipy.spatial import cKDTree

        if not self.views:
            self.distance[hidden] = 1.0
            return
        centres = np.stack([-m[:3, :3].T @ m[:3, 3] for _, m in self.views])
        distance, index = cKDTree(centres).query(xyz[hidden])
        offset = centres[index] - xyz[hidden]
        self.distance[hidden] = distance
        self.direction[hidden] = self.direction_sum[hidden] = offset / np.maximum(distance, 1e-30)[:, None]

    def select(self, keep: np.ndarray) -> PointVisibility:
        """Return the visibility of some of the points.

        Args: keep: [N] bool, or indices.
        """
        result = object.__new__(PointVisibility)
        result.views = self.views
        for name in ("distance", "direction", "direction_sum", "photo_count"):
            setattr(result, name, getattr(self, name)[keep])
        return result


def visible(xyz: np.ndarray, lens: Lens, world_to_camera: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Find the points that a photo sees; a coarse depth map of the points tells which ones are hidden.

    Args: xyz: [N,3] f32, world; world_to_camera: [4,4].
    Returns: indices [M] and depths [M] of the visible points.
    """
    matrix = world_to_camera.astype(np.float32)
    local = (matrix[:3, :3] @ xyz.T + matrix[:3, 3:]).T
    uv, depth, inside = lens.project(local)
    index = np.flatnonzero(inside)
    if not len(index):
        return index, np.empty(0, np.float32)
    uv, depth = uv[index], depth[index]
    cell = max(1.0, math.sqrt(4.0 * lens.width * lens.height / len(index)))  # px: four points in a mean cell
    columns = int(lens.width / cell) + 1
    cell_index = (uv[:, 1] / cell).astype(np.int64) * columns + (uv[:, 0] / cell).astype(np.int64)
    nearest = np.full(columns * (int(lens.height / cell) + 1), np.inf, np.float32)
    np.minimum.at(nearest, cell_index, depth)
    tolerance = max(0.03, 2.0 * cell / float(lens.intrinsics[0]))  # relative: a surface slanted by 60 degrees
    front = depth <= (1.0 + tolerance) * nearest[cell_index]
    return index[front], depth[front]


def oriented_normals(
    raw: RawPoints, visibility: PointVisibility, neighbours: int, report: Callable[[str], None]
) -> np.ndarray | None:
    """Return unit normals [N,3] f32, the cloud's own or estimated ones, turned to face the cameras.

    Args: neighbours: number of neighbours from which a normal is estimated; 0 estimates none and returns None where
        fewer than half of the points have a normal.
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
        report(f"{np.sum(~known)} of {len(known)} points had no normal: all normals were estimated.")
        known[:] = False
    assert normals is not None  # kept or estimated
    missing = ~known & ~normals.any(axis=1)
    normals[missing] = visibility.direction[missing]
    if visibility.views:
        _face_cameras(normals, known, visibility, report)
    return normals


def _face_cameras(
    normals: np.ndarray, known: np.ndarray, visibility: PointVisibility, report: Callable[[str], None]
) -> None:
    """Turn normals in place so that they face the cameras that see the points.

    Where most of the `known` normals already do, only clear exceptions are turned. Where most face away, all are
    reversed first. In between their signs carry no information, and the cameras alone decide.
    """

    def cosine(directions: np.ndarray) -> np.ndarray:
        length = np.linalg.norm(directions, axis=1)
        return np.einsum("ij,ij->i", normals, directions) / np.maximum(length, 1e-30)

    trusted = known.copy()
    seen = known & (visibility.photo_count > 0)
    wrong = float((cosine(visibility.direction)[seen] < 0).mean()) if seen.any() else 0.0
    if wrong > 0.8:
        report("The normals point away from the cameras: all were reversed.")
        normals[known] *= -1
    elif wrong > 0.2:
        report(f"{100 * wrong:.0f} % of the normals point away from the cameras: all signs were chosen anew.")
        trusted[:] = False
    limit = np.where(trusted, -0.2, 0.0)
    # One or two photos may see a point through a gap: they do not overrule a trusted normal.
    sure = visibility.photo_count >= np.clip(len(visibility.views) // 4, 1, 3)
    flip = (cosine(visibility.direction_sum) < limit) & (
        ~trusted | (cosine(visibility.direction) < limit) & sure
    )
    if np.any(flip & trusted):
        report(f"{np.sum(flip & trusted)} normals faced away from the cameras and were reversed.")
    normals[flip] *= -1


def estimate_normals(xyz: np.ndarray, neighbours: int = 16) -> np.ndarray:
    """Return unit normals [N,3] f32 of arbitrary sign, estimated by Open3D from each point's nearest neighbours."""
    open3d = import_open3d("to estimate normals")
    centre, scale = np.median(xyz, axis=0), float(np.abs(xyz - np.median(xyz, axis=0)).mean()) or 1.0
    cloud = open3d.geometry.PointCloud()
    cloud.points = open3d.utility.Vector3dVector((xyz - centre) / scale)
    cloud.estimate_normals(open3d.geometry.KDTreeSearchParamKNN(neighbours))
    normals = np.asarray(cloud.normals, dtype=np.float32)
    return np.where(np.isfinite(normals).all(axis=1, keepdims=True), normals, 0).astype(np.float32)


def import_open3d(purpose: str):
    """Return the module open3d; UserError names the system packages that it needs where it cannot be imported."""
    try:
        import open3d
    except (ImportError, OSError) as error:
        raise UserError(
            f"Open3D is needed {purpose} and cannot be imported ({error}); on Debian or Ubuntu: "
            "apt install libusb-1.0-0 libgl1 libegl1 libx11-6 libgomp1."
        ) from error
    return open3d
