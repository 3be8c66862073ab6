"""The memory that a training is estimated to need."""

import dataclasses
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from adop.config import DensifyConfig, save_config
from adop.run.memory import (
    GIB,
    MemoryEstimate,
    estimate_memory,
    free_memory,
    left_in_container,
    memory_advice,
)
from adop.run.run import Run, new_run
from support.fast_training import CONFIG

LARGE_CROPS = dataclasses.replace(CONFIG, steps=1, crop=512, batch=8, test_every=0)

# Resource usage would include what this process took before the new one began.
PROGRAM = """
import atexit
atexit.register(lambda: print(next(line for line in open("/proc/self/status") if line.startswith("VmHWM"))))
from adop.__main__ import main
main()
"""


def run_of(folder: Path, config=CONFIG) -> Run:
    return new_run(folder, folder, config, lambda text: None)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc")
def test_the_estimate_is_near_what_a_training_takes(small_folder: Path, tmp_path: Path) -> None:
    """Of its memory, most is that of a step."""
    save_config(LARGE_CROPS, tmp_path / "config.json")
    words = ["train", str(small_folder), "--config", str(tmp_path / "config.json"), "--output", "run"]
    command = [sys.executable, "-c", PROGRAM, *words]
    done = subprocess.run(command, check=True, capture_output=True, text=True, cwd=tmp_path, timeout=200)
    estimate, taken = estimate_memory(run_of(small_folder, LARGE_CROPS)), int(done.stdout.split()[-2]) * 1024
    assert estimate.step > 0.5 * (estimate.total - estimate.program)
    assert 0.6 < estimate.total / taken < 1.5, f"{estimate}, taken: {taken / GIB:.2f} GiB"


def test_each_part_grows_with_what_needs_it(small_folder: Path) -> None:
    small = estimate_memory(run_of(small_folder))
    wide = dataclasses.replace(CONFIG, crop=2 * CONFIG.crop, batch=100)
    assert estimate_memory(run_of(small_folder, wide)).step > 3 * small.step
    dense = dataclasses.replace(CONFIG, densify=DensifyConfig(max_points=10_000_000))
    assert estimate_memory(run_of(small_folder, dense)).points > 10 * small.points
    none = dataclasses.replace(CONFIG, test_every=2)  # fewer photos are trained
    assert estimate_memory(run_of(small_folder, none)).samples < small.samples


def test_advice_begins_with_what_saves_most() -> None:
    estimate = MemoryEstimate(photos=GIB, points=3 * GIB, samples=0, step=2 * GIB, program=GIB // 2)
    enough = memory_advice(estimate, 16 * GIB, CONFIG)
    assert enough == "memory: about 6.5 GiB will be needed, 16.0 GiB are free"
    advice = memory_advice(estimate, 6 * GIB, CONFIG)
    places = [advice.index(word) for word in ("--densify.max-points", "--crop", "--longest-side")]
    assert places == sorted(places) and "lack of memory" in advice
    many_photos = dataclasses.replace(estimate, samples=20 * GIB)
    assert many_photos.total == (20 + 1 + 3) * GIB + GIB // 2
    advice = memory_advice(many_photos, 6 * GIB, CONFIG)
    assert advice.index("--longest-side") < advice.index("--densify.max-points")


def test_free_memory_is_what_the_container_leaves(tmp_path: Path) -> None:
    free = free_memory(torch.device("cpu"))
    assert 0 < free <= os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    assert left_in_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("max\n")
    (tmp_path / "memory.current").write_text("100\n")
    assert left_in_container(tmp_path) is None
    (tmp_path / "memory.max").write_text("1000\n")
    assert left_in_container(tmp_path) == 900
    (tmp_path / "memory").mkdir()
    (tmp_path / "memory" / "memory.limit_in_bytes").write_text("500\n")
    (tmp_path / "memory" / "memory.usage_in_bytes").write_text("300\n")
    assert left_in_container(tmp_path) == 200
