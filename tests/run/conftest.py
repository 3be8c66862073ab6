"""Fixtures of tests of runs."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from adop.run.checkpoint import PACKED, save_packed
from adop.run.run import load


@pytest.fixture(scope="module")
def packed_folder(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The trained run, packed."""
    folder = tmp_path_factory.mktemp("packed") / "run"
    shutil.copytree(trained_folder, folder)
    run = load(folder)
    save_packed(folder / PACKED, run.pipeline, run.progress)
    return folder
