"""Fixtures for the tests of the viewer."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from adop.run.run import Run, load
from adop.viewer.app import view_run
from adop.viewer.server.server import Viewer
from support.viewer_client import Client


@pytest.fixture(scope="module")
def run(trained_folder: Path) -> Run:
    """A run of three steps."""
    return load(trained_folder, say=lambda _: None)


@pytest.fixture
def viewer(run: Run) -> Iterator[Viewer]:
    """A viewer of the run."""
    with view_run(run) as viewer:
        yield viewer


@pytest.fixture
def client(viewer: Viewer) -> Iterator[Client]:
    """A browser with a view of 160 x 90 pixels, at rest."""
    with Client(viewer.url) as client:
        client.send(type="size", width=160, height=90)
        client.frame_at_rest()
        yield client
