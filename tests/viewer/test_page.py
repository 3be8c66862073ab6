"""The page in headless Chromium: the test does what a user does and checks the pixels."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image
from support import browser

from adop.run.run import load
from adop.viewer.app import view_run

pytestmark = pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))


def pixels(page: Any) -> np.ndarray:
    """Return the pixels [H, W, 3] that the browser shows in the view, without the overlay."""
    browser.wait_for_rest(page)
    page.evaluate("document.getElementById('overlay').style.visibility = 'hidden'")
    picture = page.locator("#picture").screenshot()
    page.evaluate("document.getElementById('overlay').style.visibility = ''")
    return np.asarray(Image.open(io.BytesIO(picture)).convert("RGB")).astype(float)


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean absolute difference of two images."""
    return float(np.abs(a - b).mean())


def move_slider(page: Any, name: str, value: float) -> None:
    """Set a slider and fire its input event, as a drag by hand does."""
    page.evaluate(
        f"(() => {{ const s = document.getElementById('{name}'); s.value = {value}; "
        "s.dispatchEvent(new Event('input')); })()"
    )


def test_a_user_navigates_and_renders_a_video(trained_folder: Path):
    run = load(trained_folder, say=lambda _: None)
    problems: list[str] = []
    with view_run(run) as viewer, browser.browser() as chrome:
        page = chrome.new_page(viewport={"width": 1280, "height": 700})
        page.on("pageerror", lambda error: problems.append(str(error)))
        page.on("console", lambda m: problems.append(m.text) if m.type == "error" else None)
        page.goto(viewer.url)
        browser.until(page, "!!(window.adop && adop.frame)")
        browser.resize_stage(page, 320, 180)
        start = pixels(page)
        assert start.shape[:2] == (180, 320) and start.std() > 15

        # Move the camera with mouse, wheel and keys.
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

        # Views and layers.
        page.click("[data-view=points]")
        points = pixels(page)
        assert difference(points, start) > 10
        page.click("[data-view=both]")
        both = pixels(page)
        assert difference(both[:, 10:150], both[:, 170:310]) > 8
        page.select_option("#layer", "depth")
        assert difference(pixels(page), start) > 10
        page.click("[data-view=neural]")

        # One stop more doubles the light where nothing is clipped.
        page.click("[data-response=linear]")
        move_slider(page, "brightness", -1)
        dark = pixels(page)
        move_slider(page, "brightness", 0)
        bright = pixels(page)
        inside = (bright > 60) & (bright < 200)
        assert np.median(bright[inside] / dark[inside]) == pytest.approx(2, rel=0.1)
        page.click("#reset-settings")
        assert page.inner_text("#brightness-out") == "0.00"

        # Go to a photo, match its exposure, compare with it.
        page.click("#photos button:nth-child(4)")
        jumped = pixels(page)
        assert difference(jumped, start) > 5
        assert page.inner_text("#photo-name") == run.scene.photos[3].name
        page.click("#match-button")
        exposed = pixels(page)
        photo = np.asarray(Image.fromarray(run.cache.get(3).numpy()).resize((240, 180))).astype(float)
        assert difference(exposed[:, 40:280], photo) < 30
        page.click("#compare-button")
        browser.until(page, "document.getElementById('compare-photo').complete")
        shown = np.asarray(Image.open(io.BytesIO(page.locator("#stage").screenshot())).convert("RGB")).astype(
            float
        )
        assert (
            difference(shown[20:150, 50:140], photo[20:150, 10:100]) < 8
        )  # left of the divider: the photo itself
        page.click("#compare-button")

        # Three key frames, played and rendered.
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

        # Save an image.
        with page.expect_download() as download:
            page.click("#save-png")
        with Image.open(download.value.path()) as saved:
            assert saved.size == (320, 180)

        # The figures of the page, and a reload.
        assert "frames/s" in page.inner_text("#figures") and "network" in page.inner_text("#figures")
        page.reload()
        browser.until(page, "!!(window.adop && adop.frame)")
        assert difference(pixels(page), start) < 1
    assert not problems


def test_a_click_on_a_camera_in_the_view_goes_to_its_photo(trained_folder: Path):
    run = load(trained_folder, say=lambda _: None)
    with view_run(run) as viewer, browser.browser() as chrome:
        page = chrome.new_page(viewport={"width": 1280, "height": 700})
        page.goto(viewer.url)
        browser.until(page, "!!(window.adop && adop.frame)")
        page.evaluate("adop.send({type: 'move', dolly: [-1.2]})")
        browser.wait_for_rest(page)
        marker = browser.until(
            page, "adop.markers().find((s) => s.x > 40 && s.x < 800 && s.y > 40 && s.y < 400)"
        )
        page.mouse.click(marker["x"], marker["y"])
        browser.until(page, "adop.frame.photo !== null")
        chosen = page.evaluate("adop.frame.photo")
        assert page.inner_text("#photo-name") == run.scene.photos[chosen].name
