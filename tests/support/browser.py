"""Headless Chromium for the tests and measurements of the viewer's page."""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def missing() -> str | None:
    """Return why no browser can be used here, or None where one can."""
    try:
        import playwright  # noqa: F401
    except ImportError:
        return "playwright is not installed (pip install '.[test]')"
    if chromium() is None:
        return "Chromium is not installed (apt-get install chromium) and ADOP_CHROMIUM does not name it"
    return None


def chromium() -> str | None:
    """Return the path of the Chromium program, or None where there is none."""
    named = os.environ.get("ADOP_CHROMIUM")
    return named or next(
        filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
    )


@contextmanager
def browser() -> Iterator[Any]:
    """Yield a running Playwright browser."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium(), args=FLAGS)
        try:
            yield started
        finally:
            started.close()


@contextmanager
def opened(chromium: Any, url: str, **options: Any) -> Iterator[Any]:
    """Open the page in a window of its own; nothing may go wrong in it."""
    problems: list[str] = []
    context = chromium.new_context(**options)
    page = context.new_page()
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(url)
    try:
        yield page
    finally:
        context.close()
    assert not problems


def until(page: Any, expression: str, seconds: float = 20.0) -> Any:
    """Wait until a JavaScript expression is true and return its value.

    Playwright's own `wait_for_function` is blocked by the content security policy of the page.
    """
    end = time.monotonic() + seconds
    while True:
        value = page.evaluate(expression)
        if value:
            return value
        assert time.monotonic() < end, f"waited {seconds} s for {expression}"
        time.sleep(0.03)


def wait_for_rest(page: Any, seconds: float = 20.0) -> None:
    """Wait until the page shows a full-size frame of everything that was sent before."""
    until(
        page, "adop.hello", seconds
    )  # the page sends nothing, no mark either, before its connection is open
    mark = page.evaluate("adop.mark()")
    until(
        page,
        f"adop.frame && adop.frame.mark >= {mark} && adop.frame.final",
        seconds,
    )


def resize_stage(page: Any, width: int, height: int) -> None:
    """Resize the window so that the view has exactly this many pixels."""
    for _ in range(3):
        box = page.evaluate(
            "[document.getElementById('stage').clientWidth, document.getElementById('stage').clientHeight]"
        )
        size = page.viewport_size
        page.set_viewport_size(
            {"width": size["width"] + width - box[0], "height": size["height"] + height - box[1]}
        )
    until(page, f"document.getElementById('stage').clientWidth === {width}")


def drag(page: Any, dx: float, dy: float, steps: int = 12, pause: float = 0.02) -> None:
    """Drag the view by (dx, dy) pixels."""
    box = page.locator("#overlay").bounding_box()
    x, y = box["x"] + box["width"] / 2 - dx / 2, box["y"] + box["height"] / 2 - dy / 2
    page.mouse.move(x, y)
    page.mouse.down()
    for step in range(1, steps + 1):
        page.mouse.move(x + dx * step / steps, y + dy * step / steps)
        time.sleep(pause)
    page.mouse.up()
