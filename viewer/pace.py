"""How fine the picture may be while the camera moves, and what a picture's light measures."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

LEAST_SCALE = 0.15
SHARE = 0.85  # of a frame's time that drawing may take; the rest is sending and showing
DARKEST_STOP, BRIGHTEST_STOP, BINS = -10.0, 3.0, 52  # of the histogram, relative to a full sensor
MIDDLE_GREY = 0.17  # sensor light that auto exposure brings the picture's mean to
ADAPTATION = 0.45  # seconds in which auto exposure goes two thirds of its way
SETTLED = 0.02  # stops from its goal at which auto exposure rests


class Pace:
    """Choose the scale of moving pictures so that they come `rate` times a second.

    Args: rate: pictures per second that are wanted.
    """

    def __init__(self, rate: float = 15.0) -> None:
        self.rate = rate
        self._seconds: float | None = None  # per picture of scale 1, by the pictures seen
        self._scale = 0.5

    def scale(self) -> float:
        """Return the scale, in steps of about a tenth, that the next moving picture should have."""
        if self._seconds is None:
            return self._scale
        wanted = math.sqrt(SHARE / self.rate / max(self._seconds, 1e-9))
        wanted = min(1.0, max(LEAST_SCALE, wanted))
        # Another size costs a moment's flicker: small wishes are not followed.
        if abs(math.log(wanted / self._scale)) > 0.12 or wanted == 1.0:
            self._scale = wanted
        return self._scale

    def note(self, scale: float, seconds: float) -> None:
        """Learn from a moving picture's time, the wait for its turn included."""
        whole = seconds / scale**2
        if self._seconds is None:
            self._seconds = whole
        else:
            # A slow picture is believed at once, a fast one by and by.
            weight = 0.5 if whole > self._seconds else 0.15
            self._seconds += weight * (whole - self._seconds)


def histogram(light: Tensor, white: float) -> dict[str, Any]:
    """Return what the sensor light [3, H, W] of a picture measures.

    `bins` [3][52] counts of red, green and blue over stops from -10 to 3 (1 is a full sensor), as shares of the
    pixels; `clipped` and `black` the shares of pixels that are white in some channel, and nearly black in all.
    """
    small = light[:, :: max(1, light.shape[1] // 120), :: max(1, light.shape[2] // 200)].reshape(3, -1).cpu()
    stops = small.clamp_min(2.0**-20).log2()
    place = ((stops - DARKEST_STOP) / (BRIGHTEST_STOP - DARKEST_STOP) * BINS).long().clamp(0, BINS - 1)
    counts = torch.stack([torch.bincount(row, minlength=BINS) for row in place]) / place.shape[1]
    return {
        "bins": [[round(float(share), 4) for share in row] for row in counts],
        "clipped": round(float((small.amax(0) >= white).float().mean()), 4),
        "black": round(float((small.amax(0) <= 1 / 4096).float().mean()), 4),
    }


def metered(light: Tensor) -> float:
    """Return by how many stops (EV, larger is darker) an exposure should change to show [3, H, W] light well.

    The middle of the picture counts most; logarithms are averaged, so that a lamp does not rule the room.
    """
    small = light[:, :: max(1, light.shape[1] // 60), :: max(1, light.shape[2] // 100)].cpu()
    luminance = (small * torch.tensor([0.2126, 0.7152, 0.0722])[:, None, None]).sum(0).clamp(2.0**-12, 2.0**6)
    y = torch.linspace(-1, 1, luminance.shape[0])[:, None]
    x = torch.linspace(-1, 1, luminance.shape[1])
    weight = torch.exp(-1.5 * (x * x + y * y))
    return float((luminance.log2() * weight).sum() / weight.sum()) - math.log2(MIDDLE_GREY)


def adapt(exposure: float, goal: float, seconds: float) -> float:
    """Return the exposure after `seconds` of adapting towards a goal, as an eye does."""
    if abs(goal - exposure) < SETTLED:
        return goal
    return goal + (exposure - goal) * math.exp(-seconds / ADAPTATION)
