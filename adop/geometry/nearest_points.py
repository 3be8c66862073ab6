"""Nearest neighbours among points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from scipy.spatial import cKDTree


def nearest_points(tree: cKDTree, places: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances [M, count] and indices [M, count] of a tree's points nearest to places [M, 3].

    Ctrl-C takes effect when they are found: in the middle, it would free what scipy's threads still write.
    """

    def find() -> tuple[np.ndarray, np.ndarray]:
        distance, index = tree.query(places, k=np.arange(1, count + 1), workers=-1)
        return distance, index

    with ThreadPoolExecutor(1) as pool:  # it is waited for, whatever happens here
        return pool.submit(find).result()
