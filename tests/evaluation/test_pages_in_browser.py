"""The pages of results in headless Chromium: what a reader does, and the pixels that follow."""

from __future__ import annotations

import io
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from adop.evaluation.pages.comparison import compare_runs
from adop.evaluation.pages.comparison_page import write_comparison
from support import browser
from support.evaluated_runs import metric_lines, write_run

pytestmark = pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
SIZES = ((1440, 900), (390, 844))  # px of the window


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a copy of a run's page and of a page that compares two runs, without the runs."""
    root = tmp_path_factory.mktemp("pages")
    names = ["left/photo 1.jpg", '"><img src=x onerror=alert(1)>']
    runs = [
        write_run(root / "made" / name, names, metrics=metric_lines(200)) for name in ("first", "second <b>")
    ]
    write_comparison(compare_runs(runs), root / "made" / "comparison")
    shutil.copytree(runs[0] / "eval", root / "copied" / "run")
    shutil.copytree(root / "made" / "comparison", root / "copied" / "comparison")
    shutil.rmtree(root / "made")
    return root / "copied"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running browser."""
    with browser.browser() as chromium:
        yield chromium


@pytest.fixture
def open_page(folder: Path, chromium: Any) -> Iterator[Any]:
    """Return a function that opens a page of the folder; nothing may go wrong in it or be asked of elsewhere."""
    problems: list[str] = []
    contexts = []

    def asked(request: Any) -> None:
        if not request.url.startswith(folder.as_uri()):
            problems.append(f"asked for {request.url}")

    def open_(name: str, size: tuple[int, int] = SIZES[0], **options: Any) -> Any:
        context = chromium.new_context(viewport={"width": size[0], "height": size[1]}, **options)
        contexts.append(context)
        page = context.new_page()
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda message: problems.append(message.text))
        page.on("dialog", lambda dialog: problems.append("a dialog was opened"))
        page.on("requestfailed", lambda request: problems.append(f"failed: {request.url}"))
        page.on("request", asked)
        page.goto((folder / name / "index.html").as_uri())
        return page

    yield open_
    for context in contexts:
        context.close()
    assert problems == []


def red_share(page: Any) -> float:
    """Return how far the photo, which is red, reaches in the first slider, 0 to 1; beside it is the green render."""
    slider = page.locator(".slider").first
    slider.locator("img.left").evaluate("image => image.decode()")
    slider.locator("img.right").evaluate("image => image.decode()")
    pixels = np.asarray(Image.open(io.BytesIO(slider.screenshot())).convert("RGB")).astype(int)
    row = pixels[pixels.shape[0] // 4]  # above the knob
    return float((row[:, 0] > row[:, 1]).mean())


def box_of(page: Any) -> dict[str, float]:
    slider = page.locator(".slider").first
    slider.scroll_into_view_if_needed()
    return slider.bounding_box()


def test_the_divider_follows_the_mouse_and_the_arrow_keys(open_page: Any):
    page = open_page("run")
    box = box_of(page)
    assert red_share(page) == pytest.approx(0.5, abs=0.02)
    x, y = box["x"], box["y"] + 0.3 * box["height"]
    page.mouse.move(x + 0.5 * box["width"], y)
    page.mouse.down()
    page.mouse.move(x + 0.8 * box["width"], y, steps=4)
    page.mouse.up()
    page.mouse.move(x + 0.1 * box["width"], y)  # not pressed any more
    assert red_share(page) == pytest.approx(0.8, abs=0.02)
    for _ in range(10):
        page.keyboard.press("ArrowLeft")
    assert 0.6 < red_share(page) < 0.75
    page.keyboard.press("End")
    assert red_share(page) > 0.98


def test_the_divider_follows_a_finger(open_page: Any):
    page = open_page("run", SIZES[1], has_touch=True, is_mobile=True)
    box = box_of(page)
    y = box["y"] + 0.3 * box["height"]
    touch = page.context.new_cdp_session(page)
    for kind, share in (("Start", 0.5), ("Move", 0.4), ("Move", 0.3), ("Move", 0.25)):
        points = [{"x": box["x"] + share * box["width"], "y": y}]
        touch.send("Input.dispatchTouchEvent", {"type": f"touch{kind}", "touchPoints": points})
    touch.send("Input.dispatchTouchEvent", {"type": "touchEnd", "touchPoints": []})
    assert red_share(page) == pytest.approx(0.25, abs=0.03)


def test_pictures_are_enlarged_by_a_click_and_closed_by_escape(open_page: Any):
    page = open_page("run")
    large = page.locator("dialog img")
    page.locator("a.enlarge").nth(1).click()
    assert large.is_visible() and large.get_attribute("src").endswith("_render.jpg")
    large.evaluate("image => image.decode()")
    shown = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB")).astype(int)
    assert (shown[..., 1] > shown[..., 0] + 80).mean() > 0.5  # green fills most of the window
    page.keyboard.press("ArrowRight")
    assert large.get_attribute("src").endswith("_error.jpg") and "error" in page.inner_text("dialog span")
    page.keyboard.press("ArrowRight")
    assert large.get_attribute("src").endswith("_photo.jpg")
    page.keyboard.press("Escape")
    assert large.is_hidden()
    page.locator("a.enlarge").nth(3).focus()
    page.keyboard.press("Enter")
    assert large.is_visible() and "onerror" in page.inner_text("dialog span")
    page.locator("dialog .close").click()
    assert large.is_hidden()


def test_any_two_pictures_of_a_comparison_are_chosen(open_page: Any):
    page = open_page("comparison")
    box_of(page)
    assert red_share(page) < 0.02  # two renders
    page.locator("select[data-side=left]").first.select_option(label="photo")
    assert red_share(page) == pytest.approx(0.5, abs=0.02)
    assert page.locator(".slider span.left").first.inner_text() == "photo"
    page.locator("select[data-side=right]").first.select_option(label="photo")
    assert red_share(page) > 0.98  # all but the divider


@pytest.mark.parametrize("name", ["run", "comparison"])
def test_pages_fit_a_phone_and_follow_the_colours_of_the_system(open_page: Any, name: str):
    page, grounds = open_page(name, SIZES[1]), []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme)
        assert page.evaluate("document.documentElement.scrollWidth") == SIZES[1][0]
        grounds.append(np.median(np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("L"))))
        plot = page.locator(".plots img").first
        plot.scroll_into_view_if_needed()
        browser.until(page, "document.querySelector('.plots img').currentSrc.endsWith('.svg')")
        assert plot.evaluate("image => image.currentSrc").endswith("_dark.svg") == (scheme == "dark")
    assert grounds[0] > 230 and grounds[1] < 40
