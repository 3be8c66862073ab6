"""The page's tools for the scene: captured region, crop box, distances and notes; drawn over the picture and kept."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from adop.run.run import Run
from support import browser
from support.page_pixels import difference, move_slider, near, overlay, pixels


def test_region_crop_box_distance_and_notes(page: Any, run: Run):
    page.uncheck("#cameras")
    start = pixels(page)
    page.click("#fit")
    fitted = pixels(page)
    assert np.abs(fitted[:5, :5] - 118).max() < 8 and difference(fitted, start) > 10
    before = near(overlay(page), (127, 200, 255))
    page.check("#region")
    assert near(overlay(page), (127, 200, 255)) > before + 100
    page.select_option("#surroundings", "white")
    assert pixels(page)[:5, :5].min() > 220
    browser.until(page, "location.hash.includes('outside=white') && location.hash.includes('region=1')")
    page.select_option("#surroundings", "grey")
    page.uncheck("#region")
    page.click("#home")
    assert difference(pixels(page), start) < 1

    page.check("#crop")
    move_slider(page, "crop-right", 0.6)
    move_slider(page, "crop-left", 0.4)
    page.evaluate("document.getElementById('crop-left').dispatchEvent(new Event('change'))")
    assert difference(pixels(page), start) > 5
    assert near(overlay(page), (233, 166, 85)) > 30
    assert json.loads((run.folder / "crop_box.json").read_text())["format"] == "adop-crop-box-1"
    page.uncheck("#crop")
    assert difference(pixels(page), start) < 1

    box = page.locator("#overlay").bounding_box()
    before = near(overlay(page), (127, 224, 195))
    page.click("#measure")
    page.mouse.click(box["x"] + 110, box["y"] + 140)
    browser.until(page, "adop.picks === 1")
    page.mouse.click(box["x"] + 210, box["y"] + 140)
    browser.until(page, "document.getElementById('distance').textContent.includes('scene units')")
    assert near(overlay(page), (127, 224, 195)) > before + 10  # the line between them
    page.fill("#known", "12.5")
    page.locator("#known").blur()
    browser.until(page, "document.getElementById('distance').textContent === 'Distance: 12.50 m'")
    page.click("#measure")
    page.click("#pin")
    page.fill("#note-text", "<img src=x onerror=alert(1)>")
    page.locator("#stage").focus()
    page.keyboard.press("x")
    browser.until(page, "document.querySelectorAll('#notes li').length === 1")
    assert page.locator("#notes img").count() == 0 and "onerror" in page.inner_text("#notes")
    assert near(overlay(page)[80:100, 150:170], (255, 209, 102)) > 20
    page.reload()
    browser.until(page, "document.querySelectorAll('#notes li').length === 1")
    page.click("#notes button")
    browser.until(page, "document.querySelectorAll('#notes li').length === 0")
    assert json.loads((run.folder / "notes.json").read_text())["notes"] == []
    (run.folder / "notes.json").unlink()
