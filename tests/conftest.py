"""Fixtures that tests of several rooms share, and the environment in which all tests run."""

from __future__ import annotations

import dataclasses
import os
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from support.once import once

CHECKOUT = Path(__file__).resolve().parents[1]

# `python -m pytest` puts the current folder first on sys.path. In a checkout adop lacks kernels, scenes and viewer,
# which setuptools maps into the installed package: import that one. A checkout that links the three is left alone.
if not all((CHECKOUT / "adop" / name).is_dir() for name in ("kernels", "scenes", "viewer")):
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != CHECKOUT]

# OpenMP threads that wait by spinning are ten times slower when another process, such as a second worker, runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
if "PYTEST_XDIST_WORKER" in os.environ:
    # The workers share the cores: several threads in each would only wait for one another.
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from adop.scene.point_cloud import thinned  # noqa: E402
from adop.scene.read import load_scene  # noqa: E402
from adop.scene.scene import demo_scene_folder  # noqa: E402
from adop.scene.write import save_scene  # noqa: E402
from support.small_scene import with_points  # noqa: E402 (adop and torch read the settings above when imported)


def pytest_configure(config: pytest.Config) -> None:
    """Hide the GPU unless tests marked cuda are selected: the others compare CPU results, some of them bit for bit."""
    wanted = config.option.markexpr
    if "cuda" not in wanted.replace("not cuda", ""):
        os.environ["CUDA_VISIBLE_DEVICES"] = ""


@pytest.fixture(scope="session")
def demo_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a copy of the demo scene with prepared points, so that tests write nothing into the checkout."""

    def make(folder: Path) -> None:
        ignored = shutil.ignore_patterns("truth", "points.safetensors")
        shutil.copytree(demo_scene_folder(), folder, ignore=ignored)
        load_scene(folder, report=lambda _: None)

    return once(tmp_path_factory, "demo", make)


@pytest.fixture(scope="session")
def small_folder(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the demo scene reduced to a third of its photos and points, for tests that train."""

    def make(folder: Path) -> None:
        scene = with_points(load_scene(demo_folder, report=lambda _: None), slice(None, None, 3))
        save_scene(dataclasses.replace(scene, photos=scene.photos[::3]), folder)

    return once(tmp_path_factory, "small", make)


@pytest.fixture(scope="session")
def tiny_folder(demo_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the demo scene with ten photos of half their width and a twelfth of its points, for quick trainings."""

    def make(folder: Path) -> None:
        scene = load_scene(demo_folder, report=lambda _: None)
        points = thinned(scene.points, len(scene.points) // 12)
        lenses = tuple(lens.scaled(lens.width // 2, lens.height // 2) for lens in scene.lenses)
        # Photos larger than their lens are written in the lens's size.
        save_scene(
            dataclasses.replace(scene, points=points, lenses=lenses, photos=scene.photos[:30:3]), folder
        )

    return once(tmp_path_factory, "tiny_scene", make)


@pytest.fixture(scope="session")
def trained_folder(small_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the run folder of a training of three steps on the small scene."""
    from adop.config import DensifyConfig, GrowConfig, LearnConfig, RenderConfig, TrainConfig
    from adop.training.train import train

    config = TrainConfig(
        steps=3,
        crop=64,
        render=RenderConfig(levels=4),
        grow=GrowConfig(longest_side=100, max_photos=4),
        densify=DensifyConfig(max_points=100_000),
        test_every=20,
        scene=str(small_folder),
        learn=LearnConfig(poses="off", intrinsics="off", distortion="off"),
    )

    def make(folder: Path) -> None:
        train(small_folder, folder, config, say=lambda _: None)

    return once(tmp_path_factory, "trained", make)


@pytest.fixture
def rng() -> np.random.Generator:
    """Return a random generator with the same seed for every test."""
    return np.random.default_rng(0)
