"""What the page keeps: the view in its address, key frames over a reload, the exposure over a comparison."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from PIL import Image

from adop.run.run import Run
from support import browser
from support.page_pixels import difference, move_slider, pixels, screenshot, shrink_stage


def address_is_written(page: Any, text: str) -> str:
    """Wait until the address is that of what is shown, which has a text in it, and return it."""
    browser.wait_for_rest(page)
    browser.until(page, f"location.hash.includes({text!r}) && location.hash.slice(1) === adop.address()")
    return str(page.evaluate("location.href"))


def reopen(page: Any, url: str) -> np.ndarray:
    """Open an address in the same window, from nothing, and return its pixels."""
    page.goto("about:blank")
    page.goto(url)
    show(page)
    return pixels(page)


def show(page: Any) -> None:
    """Wait until a page that was loaded again shows its first picture."""
    browser.until(page, "!!(window.adop && adop.frame)")
    shrink_stage(page, 320, 180)


def test_reload_link_and_back_keep_the_view_and_the_key_frames(page: Any):
    start = pixels(page)
    bare = page.evaluate("location.href")
    assert "#" not in bare
    page.click("[data-tab=path]")
    page.click("#add-key")
    page.keyboard.press("2")
    move_slider(page, "brightness", -1.25)
    browser.drag(page, 60, 10)
    shown = pixels(page)
    address_is_written(page, "camera=")
    link = address_is_written(page, "ev=1.25")
    assert "layer=points" in link
    page.reload()
    show(page)
    assert difference(pixels(page), shown) < 1
    assert page.locator("#keys button").count() == 1
    assert page.evaluate("adop.state.exposure") == 1.25
    page.keyboard.press("]")
    browser.until(page, "adop.frame.photo === 0")
    address_is_written(page, "photo=0")
    page.go_back()
    browser.until(page, "adop.frame.photo === null")
    assert difference(pixels(page), shown) < 1
    assert difference(reopen(page, bare), start) < 1
    assert difference(reopen(page, link), shown) < 1


def test_a_hostile_address_opens_the_page(page: Any):
    url = page.evaluate("location.href")
    hostile = "#camera=1,2,NaN&pivot=a&focal=1e999&layer=<b>&ev=1e99&temperature=x&photo=-7&both=2&compare=1&__proto__=1"
    assert reopen(page, url + hostile).std() > 10
    assert page.evaluate("adop.state.layer") == "neural"


def test_a_comparison_has_the_photos_exposure_and_gives_back_the_own_one(page: Any, run: Run):
    photo = 3
    target = np.asarray(Image.fromarray(run.cache.get(photo).numpy()).resize((240, 180))).astype(float)
    move_slider(page, "brightness", -3)
    page.click(f"#photos button:nth-child({photo + 1})")
    dark = pixels(page)
    page.click("#compare-button")
    browser.until(page, f"adop.state.matched === {photo}")
    pixels(page)
    page.keyboard.press("Escape")
    render = screenshot(page, "#stage")[20:130, 170:270]  # right of the divider
    right = (slice(20, 130), slice(170, 270))
    photo_there = target[20:130, 130:230]
    assert difference(render, photo_there) < 0.7 * difference(dark[right], photo_there)
    expected = run.photo_settings(photo).exposure
    assert page.evaluate("adop.state.exposure") == pytest.approx(expected, abs=1e-3)
    assert "ev=3" in address_is_written(page, "compare=1")
    page.reload()  # the comparison is in the address, and so is the own exposure
    show(page)
    browser.until(page, f"adop.state.matched === {photo}")
    page.uncheck("#compare-match")
    browser.until(page, "adop.state.matched === null")
    assert difference(pixels(page)[right], dark[right]) < 1
    page.check("#compare-match")
    browser.until(page, f"adop.state.matched === {photo}")
    page.click("#compare-button")
    browser.until(page, "adop.state.matched === null")
    assert difference(pixels(page), dark) < 1
