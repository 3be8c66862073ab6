"""The page in headless Chromium: the tests do what a user does and check the pixels."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import imageio.v3 as iio
import numpy as np
import pytest
from PIL import Image

from adop.run.run import Run
from support import browser
from support.page_pixels import difference, move_slider, pixels, screenshot

pytestmark = pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing()))


def test_mouse_wheel_and_keys_move_the_camera(page: Any):
    start = pixels(page)
    assert start.shape[:2] == (180, 320) and start.std() > 15
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
    opening = pixels(page)
    page.click("[data-response=linear]")
    move_slider(page, "brightness", -1)
    dark = pixels(page)
    move_slider(page, "brightness", 0)
    bright = pixels(page)
    inside = (bright > 60) & (bright < 200)
    assert np.median(bright[inside] / dark[inside]) == pytest.approx(2, rel=0.1)
    move_slider(page, "brightness", 3)
    page.click("#reset-settings")
    assert difference(pixels(page), opening) < 1


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


def test_key_frames_are_played_and_rendered_to_a_video(page: Any, viewed_folder: Path):
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
    frames = iio.imread(viewed_folder / "renders" / "user.mp4", plugin="pyav")
    assert frames.shape == (17, 54, 96, 3)
    assert difference(frames[0].astype(float), frames[-1].astype(float)) > 5


def test_an_image_is_downloaded(page: Any):
    browser.drag(page, 60, 10)
    browser.wait_for_rest(page)
    with page.expect_download() as download:
        page.click("#save-png")
    with Image.open(download.value.path()) as saved:
        assert saved.size == (320, 180)
    assert "frames/s" in page.inner_text("#figures") and "network" in page.inner_text("#figures")


def test_a_click_on_a_camera_in_the_view_goes_to_its_photo(page: Any, run: Run):
    page.evaluate("document.querySelector('main').style.gridTemplate = ''")
    page.evaluate("adop.send({type: 'move', dolly: [-1.2]})")
    browser.wait_for_rest(page)
    marker = browser.until(page, "adop.markers().find((m) => m.x > 40 && m.x < 800 && m.y > 40 && m.y < 400)")
    page.mouse.click(marker["x"], marker["y"])
    browser.until(page, "adop.frame.photo !== null")
    chosen = page.evaluate("adop.frame.photo")
    assert page.inner_text("#photo-name") == run.scene.photos[chosen].name
