"""All that the viewer offers, in windows of three sizes, the smallest by touch; each step is seen in the pixels."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from adop.viewer.server.server import Viewer
from support import browser
from support.page_pixels import difference, move_slider, near, overlay, pixels, screenshot

BLUE, GREEN = (127, 200, 255), (127, 224, 195)  # of the region and of a distance
NEUTRAL = 118  # grey, in which the picture ends far outside the captured region
# Fewer pixels than the window has: the pictures are drawn on a CPU.
WINDOWS = {
    "wide": {"viewport": {"width": 1440, "height": 900}, "device_scale_factor": 0.35},
    "narrow": {"viewport": {"width": 900, "height": 700}, "device_scale_factor": 0.5},
    "phone": {
        "viewport": {"width": 390, "height": 844},
        "device_scale_factor": 1,
        "has_touch": True,
        "is_mobile": True,
    },
}

pytestmark = [
    pytest.mark.skipif(browser.missing() is not None, reason=str(browser.missing())),
    pytest.mark.long,
]


@pytest.fixture(params=WINDOWS)
def page(viewer: Viewer, chromium: Any, request: pytest.FixtureRequest) -> Iterator[Any]:
    """The page in a window of its own; nothing may go wrong in it."""
    with browser.opened(chromium, viewer.url, **WINDOWS[request.param]) as page:
        browser.until(page, "!!(window.adop && adop.frame)")
        yield page


def with_panel(page: Any, act: Callable[[], object]) -> None:
    """Do something with the controls, for which the panel is unfolded where it does not fit beside the view."""
    folded = page.locator("#panel-toggle").is_visible()
    if folded:
        page.click("#panel-toggle")
    act()
    if folded:
        page.click("#panel-toggle")
        assert page.locator("#panel").is_hidden()


def drawn(page: Any, colour: tuple[int, int, int]) -> int:
    """Return how many pixels of the view have a colour of the lines over it, roughly."""
    return near(overlay(page), colour, 60)


def around(page: Any, x: float, y: float) -> np.ndarray:
    """Return the pixels of the view, with what is drawn over it, around a place in shares of its size."""
    shown = overlay(page)
    row, column = int(y * shown.shape[0]), int(x * shown.shape[1])
    return shown[row - 8 : row + 8, column - 8 : column + 8]


def test_the_first_picture_is_exposed_well_and_follows_a_drag(page: Any):
    start = pixels(page)
    assert start.std() > 15 and (start > 250).all(2).mean() < 0.05 and 60 < start.mean() < 190
    browser.drag(page, 80, 10)
    assert difference(pixels(page), start) > 5
    with_panel(page, lambda: page.click("#home"))
    assert difference(pixels(page), start) < 1


def test_outside_the_captured_region_the_picture_fades_within_a_frame(page: Any):
    page.keyboard.press("Escape")
    with_panel(page, lambda: (page.uncheck("#cameras"), page.click("#fit")))
    assert np.abs(pixels(page)[:4, :4] - NEUTRAL).max() < 8
    before = drawn(page, BLUE)
    with_panel(page, lambda: page.check("#region"))
    assert drawn(page, BLUE) > before + 15
    with_panel(page, lambda: page.select_option("#surroundings", "black"))
    assert pixels(page)[:4, :4].max() < 20
    with_panel(page, lambda: page.click("#home"))
    places = []
    for _ in range(5):
        browser.wait_for_rest(page)
        places.append(np.array(page.evaluate("adop.frame.camera_to_world")).reshape(4, 4)[:3, 3])
        page.evaluate("adop.send({type: 'move', fly: [0, -2, 0]})")
    steps = np.linalg.norm(np.diff(places, axis=0), axis=1)
    assert steps[-1] < 0.3 * steps[0]  # away from the region, a motion is slower


def test_a_crop_box_hides_what_is_outside(page: Any):
    start = pixels(page)
    with_panel(
        page,
        lambda: (
            page.check("#crop"),
            move_slider(page, "crop-right", 0.6),
            move_slider(page, "crop-left", 0.4),
        ),
    )
    assert difference(pixels(page), start) > 4
    with_panel(page, lambda: page.uncheck("#crop"))
    assert difference(pixels(page), start) < 1


def test_a_comparison_takes_the_photos_exposure(page: Any):
    page.keyboard.press("]")
    browser.until(page, "adop.frame.photo === 0")
    before = pixels(page)
    page.keyboard.press("c")
    browser.until(page, "document.getElementById('compare-photo').complete && adop.state.matched === 0")
    browser.wait_for_rest(page)
    assert page.locator("#compare-handle").is_visible()
    assert difference(screenshot(page, "#stage"), before) > 2
    assert page.get_attribute("#compare-button", "aria-pressed") == "true"
    page.keyboard.press("c")
    browser.until(page, "adop.state.matched === null")
    assert difference(pixels(page), before) < 1


def test_the_view_and_the_key_frames_survive_a_reload(page: Any):
    start = pixels(page)
    page.click("[data-tab=path]")
    page.click("#add-key")
    page.keyboard.press("2")
    pictures = []
    for _ in range(2):
        browser.wait_for_rest(page)
        browser.until(page, "location.hash.includes('layer=points')")
        page.reload()
        browser.until(page, "!!(window.adop && adop.frame)")
        pictures.append(pixels(page))
        assert page.locator("#keys button").count() == 1
    assert difference(pictures[0], start) > 5 and difference(*pictures) < 1


def test_depth_shows_the_nearest_surface(page: Any):
    start = pixels(page)
    with_panel(page, lambda: page.select_option("#layer", "depth"))
    depth = pixels(page)
    assert difference(depth, start) > 10
    grey = depth.mean(2)
    middle = np.median(np.stack([np.roll(grey, (v, u), (0, 1)) for v in (-1, 0, 1) for u in (-1, 0, 1)]), 0)
    assert (np.abs(grey - middle)[2:-2, 2:-2] > 40).mean() < 0.02  # specks of back sides would differ


def test_a_distance_and_a_note_are_drawn_and_kept(page: Any):
    with_panel(page, lambda: (page.uncheck("#cameras"), page.click("#measure")))
    box = page.locator("#overlay").bounding_box()
    # Some pixels of the picture are green too, and their number changes until it is final.
    browser.until(page, "adop.frame && adop.frame.final")
    before = drawn(page, GREEN)
    for count, share in enumerate((0.4, 0.6), 1):
        page.mouse.click(box["x"] + share * box["width"], box["y"] + 0.8 * box["height"])
        browser.until(page, f"adop.picks === {count}")
    browser.until(page, "document.getElementById('distance').textContent.includes('scene units')")
    assert drawn(page, GREEN) > before + 3
    with_panel(page, lambda: (page.fill("#known", "12.5"), page.locator("#known").blur()))
    browser.until(page, "document.getElementById('distance').textContent === 'Distance: 12.50 m'")
    with_panel(page, lambda: (page.click("#measure"), page.click("#pin"), page.fill("#note-text", "a wall")))
    before = around(page, 0.5, 0.8)
    page.mouse.click(box["x"] + 0.5 * box["width"], box["y"] + 0.8 * box["height"])
    browser.until(page, "document.querySelectorAll('#notes li').length === 1")
    assert difference(around(page, 0.5, 0.8), before) > 4
    page.reload()
    browser.until(page, "document.querySelectorAll('#notes li').length === 1")
