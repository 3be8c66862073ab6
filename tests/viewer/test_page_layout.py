"""The page in windows of all sizes, by touch and by keyboard alone."""

from __future__ import annotations

import threading
from typing import Any

import numpy as np
import pytest

from adop.viewer.server.server import Viewer
from support import browser
from support.page_pixels import difference, pixels, screenshot

# Controls that are visible and yet do not receive a click in their middle.
HIDDEN_CONTROLS = """[...document.querySelectorAll("button, select, input, [role=slider]")].filter((control) => {
  if (control.closest("dialog, #keys") || control.id === "playhead") return false;
  if (!control.checkVisibility({ visibilityProperty: true })) return false;
  control.scrollIntoView({ block: "center", inline: "center" });
  const box = control.getBoundingClientRect();
  const top = document.elementFromPoint(box.x + box.width / 2, box.y + box.height / 2);
  return !top || !(control === top || control.contains(top) || control.closest("label")?.contains(top));
}).map((control) => control.id || control.outerHTML.slice(0, 80))"""
SMALL_TARGETS = """[...document.querySelectorAll("button, select, input, a")].filter((control) => {
  const box = (control.closest("label") || control).getBoundingClientRect();
  const extra = control.closest("#keys") ? 16 : 0;
  return box.width > 0 && !control.closest("#keys") && (box.width + extra < 44 || box.height + extra < 44);
}).map((control) => control.id || control.outerHTML.slice(0, 80))"""
WITHOUT_NAME = """[...document.querySelectorAll("canvas, img, button, select, input, [role=slider]")].filter((control) =>
  !(control.ariaLabel || control.alt || control.textContent.trim() || control.title || control.labels?.length
    || control.querySelector("img[alt]"))).map((control) => control.outerHTML.slice(0, 80))"""


def has_focus(page: Any, selector: str) -> bool:
    return bool(page.evaluate(f"document.activeElement?.matches('{selector}')"))


def test_no_control_is_hidden_and_the_first_picture_is_announced(viewer: Viewer, chromium: Any):
    held = threading.Event()
    blocked = threading.Thread(target=viewer.shared.render_thread.submit, args=(held.wait,))
    blocked.start()
    with browser.opened(chromium, viewer.url, viewport={"width": 1440, "height": 900}) as page:
        browser.until(page, "adop.hello")
        assert "Drawing" in page.inner_text("#drawing")
        assert screenshot(page, "#stage").min(axis=(0, 1)).max() > 10  # no black canvas under the text
        held.set()
        blocked.join()
        browser.wait_for_rest(page)
        assert page.locator("#drawing").is_hidden()
        for width, height in ((1440, 900), (1280, 720), (900, 700)):
            page.set_viewport_size({"width": width, "height": height})
            narrow = width <= 900
            assert (page.locator("#stage").bounding_box()["width"] == width) == narrow
            assert page.locator("#panel").is_visible() != narrow
            page.click("[data-tab=path]")
            page.click("#add-key")
            page.locator("#keys button").last.click()
            assert page.locator("#key-fields").is_visible()
            assert page.evaluate(HIDDEN_CONTROLS) == []
            page.click("[data-tab=photos]")
        page.click("#panel-toggle")
        assert page.locator("#panel").is_visible() and page.evaluate(HIDDEN_CONTROLS) == []
        page.keyboard.press("Escape")
        assert page.locator("#panel").is_hidden()


def test_the_page_works_by_touch(viewer: Viewer, chromium: Any):
    size = {"width": 390, "height": 844}
    with browser.opened(chromium, viewer.url, viewport=size, has_touch=True, is_mobile=True) as page:
        browser.until(page, "!!(window.adop && adop.frame)")
        assert page.locator("#stage").bounding_box()["width"] == 390 and page.locator("#photos").is_hidden()
        assert page.inner_text("#hint").startswith("One finger orbits")
        for opener in ("[data-tab=path]", "#panel-toggle"):
            page.tap(opener)
            assert page.evaluate(SMALL_TARGETS) == []
        page.tap("#panel-toggle")
        page.tap("[data-tab=path]")
        start = pixels(page)
        wire = page.context.new_cdp_session(page)

        def touch(kind: str, *fingers: tuple[float, float]) -> None:
            points = [{"x": x, "y": y, "id": i} for i, (x, y) in enumerate(fingers)]
            wire.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": points})

        touch("touchStart", (150, 300))
        for x in (170, 190, 210):
            touch("touchMove", (x, 300))
        touch("touchEnd")
        browser.wait_for_rest(page)
        orbited, frame = pixels(page), page.evaluate("adop.frame")
        assert difference(orbited, start) > 5
        touch("touchStart", (150, 300), (250, 300))
        for spread in (15, 30, 45):
            touch("touchMove", (150 - spread, 300), (250 + spread, 300))
        touch("touchEnd")
        browser.wait_for_rest(page)
        zoomed = page.evaluate("adop.frame")
        assert difference(pixels(page), orbited) > 5
        before, after = (
            np.linalg.norm(np.array(f["camera_to_world"]).reshape(4, 4)[:3, 3] - f["pivot"])
            for f in (frame, zoomed)
        )
        assert before / after == pytest.approx(1.9, rel=0.05)  # as the fingers' distance


def test_the_page_works_by_keyboard_alone(page: Any):
    assert page.evaluate(WITHOUT_NAME) == []
    start = pixels(page)
    page.keyboard.press("2")
    assert difference(pixels(page), start) > 10
    pressed = "[...document.querySelectorAll('[aria-pressed=true]')].map((b) => b.textContent)"
    assert {"Points", "Learned", "Photos"} <= set(page.evaluate(pressed))
    page.keyboard.press("1")
    page.keyboard.press("]")
    browser.until(page, "adop.frame.photo === 0")
    page.keyboard.press("c")
    browser.until(page, "document.getElementById('compare-photo').complete && adop.state.matched === 0")
    before = screenshot(page, "#stage")
    page.locator("#compare-handle").focus()
    camera = page.evaluate("adop.frame.camera_to_world")
    for _ in range(6):
        page.keyboard.press("ArrowRight")
    assert page.get_attribute("#compare-handle", "aria-valuenow") == "62"
    assert difference(screenshot(page, "#stage")[:, 160:180], before[:, 160:180]) > 2
    page.wait_for_timeout(100)
    assert page.evaluate("adop.frame.camera_to_world") == camera
    page.keyboard.press("c")
    page.keyboard.press("?")
    assert page.locator("#shortcuts").is_visible() and "zoom in" in page.inner_text("#shortcuts")
    page.keyboard.press("Escape")
    page.locator("#stage").focus()
    pixel = screenshot(page, "#stage")[0, 100]
    assert np.abs(pixel - (233, 166, 85)).max() < 12  # the ring of the focus
    page.keyboard.press("+")
    browser.until(page, "adop.frame.photo === null")
    page.click("[data-tab=path]")
    page.keyboard.press("k")
    page.locator("#keys button").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")
    assert has_focus(page, "#keys button")
    assert page.get_attribute("#keys button", "aria-label") == "Key frame at 0.30 s"
