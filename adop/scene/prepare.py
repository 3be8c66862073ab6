"""Cleaning and measuring a point cloud, once, when a scene is made.

All thresholds are relative to distances between neighbours or to the cameras, so that the unit does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import PosedLens
from adop.geometry.nearest_points import nearest_points
from adop.scene.ply import RawPoints
from adop.scene.point_cloud import PointCloud, PrepareConfig, morton_order, order
from adop.scene.visibility import PointVisibility, oriented_normals

Report = Callable[[str], None]


def prepare(
    raw: RawPoints,
    views: Sequence[PosedLens],
    config: PrepareConfig | None = None,
    report: Report = lambda _: None,
) -> PointCloud:
    """Return the scene's point cloud of raw points: cleaned, normals turned to the cameras, measured and ordered.

    Args: views: the photos' cameras; report: called with a sentence for each change.
    Raises: UserError where fewer than two points remain, or Open3D is needed and cannot be imported.
    """
    config = config or PrepareConfig()
    raw = _without_broken(raw, report)
    raw = _select(raw, morton_order(raw.xyz))  # searches are faster where near points are near in memory
    neighbours = _find_neighbours(raw.xyz)
    keep = _first_of_duplicates(neighbours, config.duplicate)
    if not keep.all():
        report(f"{np.sum(~keep)} of {len(keep)} points nearly coincide with another one and were dropped.")
        neighbours, raw = neighbours.without(~keep, raw.xyz), _select(raw, keep)
    visibility = PointVisibility(raw.xyz.astype(np.float32), views)
    if config.outlier:
        keep = _no_outliers(neighbours.spacing, visibility.distance, config.outlier)
        if not keep.all():
            report(f"{np.sum(~keep)} of {len(keep)} points are far from all others and were dropped.")
            neighbours = neighbours.without(~keep, raw.xyz)
            raw, visibility = _select(raw, keep), visibility.select(keep)
    return order(
        raw.xyz.astype(np.float32),
        oriented_normals(raw, visibility, config.neighbours if config.normals else 0, report),
        raw.colors,
        neighbours.spacing.astype(np.float32),
        config.seed,
        raw.confidence,
    )


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """The four nearest other points of each point; K is smaller where the cloud has fewer."""

    distance: np.ndarray  # [N,K] f64, rising
    index: np.ndarray  # [N,K]

    @property
    def spacing(self) -> np.ndarray:
        """Distance [N] to the farthest of the neighbours."""
        return self.distance[:, -1]

    def without(self, dropped: np.ndarray, xyz: np.ndarray) -> _Neighbours:
        """Return the neighbours after points were dropped; only points that lost one are searched again.

        Args: dropped: [N] bool; xyz: all N points, including those that are dropped.
        """
        from scipy.spatial import cKDTree

        stay = ~dropped
        if stay.sum() < 5:
            return _find_neighbours(xyz[stay])
        number = np.cumsum(stay) - 1
        distance, index = self.distance[stay], number[self.index[stay]]
        affected = dropped[self.index[stay]].any(axis=1)
        if affected.any():
            new_distance, new_index = nearest_points(cKDTree(xyz[stay]), xyz[stay][affected], 5)
            distance[affected], index[affected] = new_distance[:, 1:], new_index[:, 1:]
        return _Neighbours(distance, index)


def _find_neighbours(xyz: np.ndarray) -> _Neighbours:
    from scipy.spatial import cKDTree

    distance, index = nearest_points(cKDTree(xyz), xyz, min(5, len(xyz)))
    return _Neighbours(distance[:, 1:], index[:, 1:])


def _select(raw: RawPoints, keep: np.ndarray) -> RawPoints:
    return RawPoints(
        raw.xyz[keep],
        None if raw.normals is None else raw.normals[keep],
        None if raw.colors is None else raw.colors[keep],
        raw.source,
        None if raw.confidence is None else raw.confidence[keep],
    )


def _without_broken(raw: RawPoints, report: Report) -> RawPoints:
    """Drop points that are not finite, or not in float32, and points that repeat another one exactly."""
    finite = (np.abs(raw.xyz) < 1e18).all(axis=1)  # squares must stay finite in float32
    if not finite.all():
        report(f"{np.count_nonzero(~finite)} of {len(finite)} points are not finite and were dropped.")
        raw = _select(raw, finite)
    again = _repeats(raw.xyz.astype(np.float32))
    if again.any():
        report(f"{np.sum(again)} of {len(again)} points repeat another one and were dropped.")
        raw = _select(raw, ~again)
    if len(raw.xyz) < 2:
        raise UserError(f"{raw.source}: has {len(raw.xyz)} usable points; a scene needs at least two.")
    return raw


def _repeats(xyz: np.ndarray) -> np.ndarray:
    """Return [N] bool, True for points that equal an earlier one."""
    index = np.lexsort(xyz.T)  # stable: the first of equals comes first
    again = np.zeros(len(xyz), bool)
    again[index[1:]] = (xyz[index[1:]] == xyz[index[:-1]]).all(axis=1)
    return again


def _first_of_duplicates(neighbours: _Neighbours, fraction: float) -> np.ndarray:
    """Return [N] bool, False for the later one of two neighbours that nearly coincide."""
    close = neighbours.distance[:, 0] < fraction * neighbours.spacing
    return ~(close & (neighbours.index[:, 0] < np.arange(len(close))))


def _no_outliers(spacing: np.ndarray, distance: np.ndarray, factor: float) -> np.ndarray:
    """Return [N] bool, False where a point's spacing, as its nearest camera sees it, is far above the median."""
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = spacing / distance
    limit = factor * float(np.median(angle))
    return ~(angle > limit) if limit > 0 else np.ones(len(angle), bool)
