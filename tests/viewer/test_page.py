"""The page in headless Chromium: the tests do what a user does and check the pixels."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from adop.run.run import Run
from adop.viewer.app import view_run
from support import browser

pytestmark = pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))
WIDTH, HEIGHT = 320, 180  # px of the view


@pytest.fixture(scope="module")
def chromium() -> Iterator[Any]:
    """A running browser."""
    with browser.browser() as chromium:
        yield chromium


@pytest.fixture
def page(run: Run, chromium: Any) -> Iterator[Any]:
    """The page of a new viewer; nothing may go wrong in it."""
    problems: list[str] = []
    with view_run(run) as viewer:
        page = chromium.new_page(viewport={"width": 1280, "height": 700})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.goto(viewer.url)
        browser.until(page, "!!(window.adop && adop.frame)")
        browser.resize_stage(page, WIDTH, HEIGHT)
        yield page
        page.close()
    assert not problems


def pixels(page: Any) -> np.ndarray:
    """Return the pixels [H, W, 3] that the browser shows in the view at rest, without the overlay."""
    browser.wait_for_rest(page)
    page.evaluate("document.getElementById('overlay').style.visibility = 'hidden'")
    image = screenshot(page, "#image")
    page.evaluate("document.getElementById('overlay').style.visibility = ''")
    return image


def screenshot(page: Any, selector: str) -> np.ndarray:
    """Return the pixels [H, W, 3] of an element."""
    image = Image.open(io.BytesIO(page.locator(selector).screenshot()))
    return np.asarray(image.convert("RGB")).astype(float)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean absolute difference of two images."""
    return float(np.abs(a - b).mean())


def move_slider(page: Any, name: str, value: float) -> None:
    """Set a slider and fire its input event, as a drag by hand does."""
    page.evaluate(
        f"(() => {{ const s = document.getElementById('{name}'); s.value = {value}; "
        "s.dispatchEvent(new Event('input')); })()"
    )


def test_mouse_wheel_and_keys_move_the_camera(page: Any):
    start = pixels(page)
    assert start.shape[:2] == (HEIGHT, WIDTH) and start.std() > 15
    browser.drag(page, 60, 10)
    orbited = pixels(page)
    assert difference(orbited, start) > 5
    page.mouse.wheel(0, -240)
    closer = pixels(page)
    assert difference(closer, orbited) > 3
    page.locator("#stage").focus()
    page.keyboard.down("KeyD")
    page.wait_for_timeout(250)
    page.keyboard.up("KeyD")
    assert difference(pixels(page), closer) > 3
    page.click("#home")
    assert difference(pixels(page), start) < 1


def test_views_and_layers_differ(page: Any):
    start = pixels(page)
    page.click("[data-view=points]")
    assert difference(pixels(page), start) > 10
    page.click("[data-view=both]")
    both = pixels(page)
    assert difference(both[:, 10:150], both[:, 170:310]) > 8
    page.select_option("#layer", "depth")
    assert difference(pixels(page), start) > 10


def test_one_stop_of_brightness_doubles_the_light(page: Any):
    page.click("[data-response=linear]")
    move_slider(page, "brightness", -1)
    dark = pixels(page)
    move_slider(page, "brightness", 0)
    bright = pixels(page)
    inside = (bright > 60) & (bright < 200)
    assert np.median(bright[inside] / dark[inside]) == pytest.approx(2, rel=0.1)
    move_slider(page, "brightness", 1)
    page.click("#reset-settings")
    browser.wait_for_rest(page)
    browser.until(page, "document.getElementById('brightness-out').textContent === '0.00'")


def test_a_photo_is_visited_matched_and_compared(page: Any, run: Run):
    start = pixels(page)
    page.click("#photos button:nth-child(4)")
    assert difference(pixels(page), start) > 5
    assert page.inner_text("#photo-name") == run.scene.photos[3].name
    page.click("#match-button")
    matched = pixels(page)
    photo = np.asarray(Image.fromarray(run.cache.get(3).numpy()).resize((240, 180))).astype(float)
    assert difference(matched[:, 40:280], photo) < 30
    page.click("#compare-button")
    browser.until(page, "document.getElementById('compare-photo').complete")
    left = screenshot(page, "#stage")[20:150, 50:140]  # of the divider: the photo itself
    assert difference(left, photo[20:150, 10:100]) < 8
    page.click("#compare-button")
    assert page.locator("#compare").is_hidden()


def test_key_frames_are_played_and_rendered_to_a_video(page: Any, trained_folder: Path):
    page.click("[data-tab=path]")
    for number in range(3):
        browser.drag(page, 40 - 20 * number, 6)
        browser.wait_for_rest(page)
        page.click("#add-key")
    assert page.locator("#keys button").count() == 3
    page.fill("#path-width", "96")
    page.fill("#path-height", "54")
    page.fill("#path-rate", "4")
    page.fill("#path-name", "user")
    page.locator("#path-name").blur()
    before = pixels(page)
    page.locator("#keys button").first.click()
    assert difference(pixels(page), before) > 3
    page.click("#path-render")
    browser.until(page, "document.getElementById('export-text').textContent.startsWith('Saved to')", 60)
    frames = iio.imread(trained_folder / "renders" / "user.mp4", plugin="pyav")
    assert frames.shape == (17, 54, 96, 3)
    assert difference(frames[0].astype(float), frames[-1].astype(float)) > 5


def test_an_image_is_downloaded_and_a_reload_shows_the_start(page: Any):
    start = pixels(page)
    browser.drag(page, 60, 10)
    browser.wait_for_rest(page)
    with page.expect_download() as download:
        page.click("#save-png")
    with Image.open(download.value.path()) as saved:
        assert saved.size == (WIDTH, HEIGHT)
    assert "frames/s" in page.inner_text("#figures") and "network" in page.inner_text("#figures")
    page.reload()
    browser.until(page, "!!(window.adop && adop.frame)")
    assert difference(pixels(page), start) < 1


def test_a_click_on_a_camera_in_the_view_goes_to_its_photo(page: Any, run: Run):
    page.set_viewport_size({"width": 1280, "height": 700})
    page.evaluate("adop.send({type: 'move', dolly: [-1.2]})")
    browser.wait_for_rest(page)
    marker = browser.until(page, "adop.markers().find((m) => m.x > 40 && m.x < 800 && m.y > 40 && m.y < 400)")
    page.mouse.click(marker["x"], marker["y"])
    browser.until(page, "adop.frame.photo !== null")
    chosen = page.evaluate("adop.frame.photo")
    assert page.inner_text("#photo-name") == run.scene.photos[chosen].name
