"""Folders that are slow to make: each is made once in a test run, however many workers the run has."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from filelock import FileLock


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], None]) -> Path:
    """Return the folder `name` of this test run; the first worker that asks for it calls `make(folder)` to fill it."""
    root = factory.getbasetemp()
    root = root.parent if "PYTEST_XDIST_WORKER" in os.environ else root
    folder, unfinished = root / name, root / f"{name}_unfinished"
    with FileLock(root / f"{name}.lock"):
        if not folder.exists():
            make(unfinished)
            unfinished.rename(folder)
    return folder
