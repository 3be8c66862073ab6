"""What the viewer's page shows, as pixels, and how a test moves its controls."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from PIL import Image

from support import browser


def shrink_stage(page: Any, width: int, height: int) -> None:
    """Give the view exactly this many pixels in a window that stays as wide, with the controls beside the view."""
    page.evaluate(f"document.querySelector('main').style.gridTemplate = '{height}px / {width}px 296px'")
    browser.until(page, f"document.getElementById('stage').clientWidth === {width}")


def pixels(page: Any) -> np.ndarray:
    """Return the pixels [H, W, 3] that the browser shows in the view at rest, without what lies over it."""
    browser.wait_for_rest(page)
    ring = "document.getElementById('stage').style.setProperty('--accent', "  # of the focus
    hide = "for (const part of document.querySelectorAll('#stage > :not(#image)')) part.style.visibility = "
    page.evaluate(f"{ring}'transparent'); {hide}'hidden'")
    image = screenshot(page, "#image")
    page.evaluate(f"{ring}''); {hide}''")
    return image


def screenshot(page: Any, selector: str) -> np.ndarray:
    """Return the pixels [H, W, 3] of an element."""
    image = Image.open(io.BytesIO(page.locator(selector).screenshot()))
    return np.asarray(image.convert("RGB")).astype(float)


def overlay(page: Any) -> np.ndarray:
    """Return the pixels of the view with the lines over it."""
    browser.wait_for_rest(page)
    return screenshot(page, "#stage")


def near(image: np.ndarray, colour: tuple[int, int, int], tolerance: int = 40) -> int:
    """Return how many pixels have a colour, roughly."""
    return int((np.abs(image - colour).max(2) < tolerance).sum())


def difference(a: np.ndarray, b: np.ndarray) -> float:
    """Return the mean absolute difference of two images."""
    return float(np.abs(a - b).mean())


def move_slider(page: Any, name: str, value: float) -> None:
    """Set a slider and fire its input event, as a drag by hand does."""
    page.evaluate(
        f"(() => {{ const s = document.getElementById('{name}'); s.value = {value}; "
        "s.dispatchEvent(new Event('input')); })()"
    )
