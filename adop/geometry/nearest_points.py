"""Nearest neighbours among points."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np


def nearest_points(xyz: np.ndarray, places: np.ndarray, count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the distances [M, count] and indices [M, count] of the points [N, 3] nearest to places [M, 3].

    Ctrl-C takes effect when they are found: in the middle, it would free what scipy's threads still write.
    """
    from scipy.spatial import cKDTree

    def find() -> tuple[np.ndarray, np.ndarray]:
        distance, index = cKDTree(xyz).query(places, k=np.arange(1, count + 1), workers=-1)
        return distance, index

    with ThreadPoolExecutor(1) as pool:  # it is waited for, whatever happens here
        return pool.submit(find).result()
