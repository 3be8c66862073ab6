"""Clean a cloud and measure it, once, when a scene is made.

Every threshold is relative to the distances between neighbours or to the cameras: the unit does not matter.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import View
from adop.scene.ply import RawPoints
from adop.scene.point_cloud import PointCloud, morton_order, order
from adop.scene.visibility import PointVisibility, turned_normals

Report = Callable[[str], None]


@dataclass(frozen=True)
class PrepareConfig:
    """How a cloud is cleaned; the defaults suit dense stereo and sparse tracks alike."""

    duplicate: float = 0.01
    """Of two points nearer than this times the distance to their 4th neighbour, one goes."""
    outlier: float = 8.0
    """A point goes whose 4th neighbour, as a camera sees it, is this times the median away; 0 keeps all."""
    normals: bool = True
    """Estimate normals, with Open3D, where the file has none."""
    neighbours: int = 16
    """How many points an estimated normal is made of."""
    seed: int = 0
    """Of the random part of the level of detail."""


def prepare(
    raw: RawPoints,
    views: Sequence[View],
    config: PrepareConfig | None = None,
    report: Report = lambda _: None,
) -> PointCloud:
    """Clean a cloud, turn its normals to the cameras, measure and order it.

    Args: views: the photos' cameras; report: gets one sentence for each thing that was changed.
    Raises: UserError where fewer than two points remain, or Open3D is needed and cannot be imported.
    """
    config = config or PrepareConfig()
    raw = _without_broken(raw, report)
    raw = _select(raw, morton_order(raw.xyz))  # searches are faster where near points are near in memory
    neighbours = _Neighbours.of(raw.xyz)
    keep = _first_of_duplicates(neighbours, config.duplicate)
    if not keep.all():
        report(f"{np.sum(~keep)} of {len(keep)} points lie on another one and were left out.")
        neighbours, raw = neighbours.without(~keep, raw.xyz), _select(raw, keep)
    sight = PointVisibility(raw.xyz.astype(np.float32), views)
    if config.outlier:
        keep = _no_outliers(neighbours.spacing, sight.distance, config.outlier)
        if not keep.all():
            report(f"{np.sum(~keep)} of {len(keep)} points stand alone and were left out.")
            neighbours = neighbours.without(~keep, raw.xyz)
            raw, sight = _select(raw, keep), sight.select(keep)
    return order(
        raw.xyz.astype(np.float32),
        turned_normals(raw, sight, config.neighbours if config.normals else 0, report),
        raw.colors,
        neighbours.spacing.astype(np.float32),
        config.seed,
    )


@dataclass(frozen=True, eq=False)
class _Neighbours:
    """The (up to) four nearest others of each point."""

    distance: np.ndarray  # [N,K] f64, rising
    index: np.ndarray  # [N,K]

    @property
    def spacing(self) -> np.ndarray:
        return self.distance[:, -1]

    @staticmethod
    def of(xyz: np.ndarray) -> _Neighbours:
        from scipy.spatial import cKDTree

        distance, index = cKDTree(xyz).query(xyz, k=min(5, len(xyz)), workers=-1)
        return _Neighbours(distance[:, 1:], index[:, 1:])

    def without(self, gone: np.ndarray, xyz: np.ndarray) -> _Neighbours:
        """Measure again after points went, only where one of the neighbours did.

        Args: gone [N] bool; xyz: all N points, those that go included.
        """
        from scipy.spatial import cKDTree

        stay = ~gone
        if stay.sum() < 5:
            return _Neighbours.of(xyz[stay])
        number = np.cumsum(stay) - 1
        distance, index = self.distance[stay], number[self.index[stay]]
        affected = gone[self.index[stay]].any(axis=1)
        if affected.any():
            new_distance, new_index = cKDTree(xyz[stay]).query(xyz[stay][affected], k=5, workers=-1)
            distance[affected], index[affected] = new_distance[:, 1:], new_index[:, 1:]
        return _Neighbours(distance, index)


def _select(raw: RawPoints, keep: np.ndarray) -> RawPoints:
    return RawPoints(
        raw.xyz[keep],
        None if raw.normals is None else raw.normals[keep],
        None if raw.colors is None else raw.colors[keep],
        raw.source,
    )


def _without_broken(raw: RawPoints, report: Report) -> RawPoints:
    """Leave out points that are not finite (also in float32) or that repeat another one exactly."""
    finite = (np.abs(raw.xyz) < 1e18).all(axis=1)  # squares must stay finite in float32
    if not finite.all():
        report(f"{np.count_nonzero(~finite)} of {len(finite)} points are not finite and were left out.")
        raw = _select(raw, finite)
    again = _repeats(raw.xyz.astype(np.float32))
    if again.any():
        report(f"{np.sum(again)} of {len(again)} points repeat another one and were left out.")
        raw = _select(raw, ~again)
    if len(raw.xyz) < 2:
        raise UserError(f"{raw.source}: has {len(raw.xyz)} usable points; a scene needs at least two.")
    return raw


def _repeats(xyz: np.ndarray) -> np.ndarray:
    """Tell [N] bool which points equal an earlier one."""
    index = np.lexsort(xyz.T)  # stable: the first of equals comes first
    again = np.zeros(len(xyz), bool)
    again[index[1:]] = (xyz[index[1:]] == xyz[index[:-1]]).all(axis=1)
    return again


def _first_of_duplicates(neighbours: _Neighbours, fraction: float) -> np.ndarray:
    """Keep [N] bool: all but the later one of two neighbours that nearly coincide."""
    close = neighbours.distance[:, 0] < fraction * neighbours.spacing
    return ~(close & (neighbours.index[:, 0] < np.arange(len(close))))


def _no_outliers(spacing: np.ndarray, distance: np.ndarray, factor: float) -> np.ndarray:
    """Keep [N] bool: points whose spacing, as their nearest camera sees it, is not far above the median."""
    with np.errstate(divide="ignore", invalid="ignore"):
        angle = spacing / distance
    limit = factor * float(np.median(angle))
    return ~(angle > limit) if limit > 0 else np.ones(len(angle), bool)
