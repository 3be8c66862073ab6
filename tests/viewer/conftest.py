"""Fixtures for the tests of the viewer."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from adop.run.run import Run, load
from adop.viewer.app import view_run
from adop.viewer.server.server import Viewer
from support import browser
from support.page_pixels import shrink_stage
from support.viewer_client import Client


@pytest.fixture(scope="session")
def viewed_folder(trained_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a run of three steps, a copy of this worker's own: viewers write into it."""
    return Path(shutil.copytree(trained_folder, tmp_path_factory.mktemp("viewed") / "run"))


@pytest.fixture(scope="module")
def run(viewed_folder: Path) -> Run:
    """A run of three steps."""
    return load(viewed_folder, say=lambda _: None)


@pytest.fixture
def viewer(run: Run) -> Iterator[Viewer]:
    """A viewer of the run; what it kept with the run is removed afterwards."""
    with view_run(run) as viewer:
        yield viewer
    for name in ("crop_box.json", "notes.json"):
        (run.folder / name).unlink(missing_ok=True)


@pytest.fixture
def client(viewer: Viewer) -> Iterator[Client]:
    """A browser with a view of 160 x 90 pixels, at rest."""
    with Client(viewer.url) as client:
        client.send(type="size", width=160, height=90)
        client.frame_at_rest()
        yield client


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running browser."""
    if browser.missing():
        pytest.skip(str(browser.missing()))
    with browser.browser() as chromium:
        yield chromium


@pytest.fixture
def page(viewer: Viewer, chromium: Any) -> Iterator[Any]:
    """The page of a new viewer, with a view of 320 x 180 pixels; nothing may go wrong in it."""
    problems: list[str] = []
    page = chromium.new_page(viewport={"width": 1280, "height": 700})
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
    page.goto(viewer.url)
    browser.until(page, "!!(window.adop && adop.frame)")
    shrink_stage(page, 320, 180)
    yield page
    page.close()
    assert not problems
