"""Fixtures shared by the tests."""

from __future__ import annotations

import dataclasses
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from support.once import once

# Threads that wait by spinning lose tenfold where another program wants a core, as the other workers of a test run do.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores: with as many threads each they would only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from support.small_scene import with_points

from adop.scene.read import load_scene
from adop.scene.scene import demo_scene_folder
from adop.scene.write import save_scene


def pytest_configure(config: pytest.Config) -> None:
    """Hide a GPU where no tests marked cuda are asked for: the others compare with the CPU's numbers, some bit by bit."""
    wanted = config.option.markexpr
    if "cuda" not in wanted.replace("not cuda", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the demo scene, so that preparing its points writes nothing into the checkout."""

    def make(folder: Path) -> None:
        ignored = shutil.ignore_patterns("truth", "points.safetensors")
        shutil.copytree(demo_scene_folder(), folder, ignore=ignored)
        load_scene(folder, report=lambda _: None)

    return once(tmp_path_factory, "demo", make)


@pytest.fixture(scope="session")
def small_folder(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The demo scene with a third of its photos and points, for tests that train."""

    def make(folder: Path) -> None:
        scene = with_points(load_scene(demo_folder, report=lambda _: None), slice(None, None, 3))
        save_scene(dataclasses.replace(scene, photos=scene.photos[::3]), folder)

    return once(tmp_path_factory, "small", make)


@pytest.fixture(scope="session")
def trained_folder(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of the small scene, of three steps."""
    from adop.config.config import GrowConfig, LearnConfig, RenderConfig, TrainConfig
    from adop.training.train import train

    config = TrainConfig(
        steps=3,
        crop=64,
        render=RenderConfig(levels=4),
        grow=GrowConfig(side=200),
        test_every=20,
        scene=str(small_folder),
        learn=LearnConfig(poses="off", intrinsics="off", distortion="off"),
    )

    def make(folder: Path) -> None:
        train(small_folder, folder, config, say=lambda _: None)

    return once(tmp_path_factory, "trained", make)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(0)
