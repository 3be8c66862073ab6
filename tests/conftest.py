"""Fixtures shared by the tests."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

from adop.scene import demo_scene_folder, load_scene


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo scene, so that preparing its points writes nothing into the checkout."""
    folder = tmp_path_factory.mktemp("scenes") / "demo"
    shutil.copytree(demo_scene_folder(), folder, ignore=shutil.ignore_patterns("truth", "points.safetensors"))
    load_scene(folder, report=lambda _: None)
    return folder


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
