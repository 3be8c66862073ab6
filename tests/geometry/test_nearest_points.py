"""Nearest neighbours, compared with all distances, and Ctrl-C in their midst."""

from __future__ import annotations

import signal
import subprocess
import sys
import time

import numpy as np
from scipy.spatial import cKDTree

from adop.geometry.nearest_points import nearest_points

SEARCH = """
import numpy as np
from scipy.spatial import cKDTree
from adop.geometry.nearest_points import nearest_points

xyz = np.random.default_rng(0).normal(size=(400_000, 3))
print("searching", flush=True)
try:
    while True:
        nearest_points(cKDTree(xyz), xyz, 5)
except KeyboardInterrupt:
    print("interrupted", flush=True)
"""


def test_nearest_points_have_the_smallest_distances(rng: np.random.Generator) -> None:
    xyz, places = rng.normal(size=(40, 3)), rng.normal(size=(7, 3))
    every = np.linalg.norm(places[:, None] - xyz, axis=2)
    for count in (1, 3):
        distance, index = nearest_points(cKDTree(xyz), places, count)
        assert index.tolist() == every.argsort(1)[:, :count].tolist()
        np.testing.assert_allclose(distance, np.sort(every, 1)[:, :count])


def test_ctrl_c_waits_for_scipys_threads() -> None:
    # At any moment; scipy alone ended in a segmentation fault about every second time.
    for seconds in (0.3, 0.6, 0.9):
        with subprocess.Popen([sys.executable, "-c", SEARCH], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None and process.stdout.readline() == "searching\n"
            time.sleep(seconds)
            process.send_signal(signal.SIGINT)
            assert process.communicate()[0] == "interrupted\n" and process.returncode == 0
