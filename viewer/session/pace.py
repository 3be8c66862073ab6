"""How fine the picture may be while the camera moves, and what a picture's light measures."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

LEAST_SCALE = 0.15
SLOW = 0.4  # seconds
SHARE = 0.85  # of a frame's time that drawing may take; the rest is sending and showing
DARKEST_STOP, BRIGHTEST_STOP, BINS = -10.0, 3.0, 52  # of the histogram, relative to a full sensor
MIDDLE_GREY = 0.17  # sensor light that auto exposure brings the picture's mean to
ADAPTATION = 0.45  # seconds in which auto exposure goes two thirds of its way
SETTLED = 0.02  # stops from its goal at which auto exposure rests


class Pace:
    """Choose the scale of moving pictures so that they come `rate` times a second.

    A picture's time is taken as a fixed part and a part that grows with its pixels. Both are learned: from the moving
    pictures, and from the full one that each rest ends in.

    Args: rate: pictures per second that are wanted.
    """

    def __init__(self, rate: float = 15.0) -> None:
        self.rate = rate
        self._fixed, self._whole = 0.01, 0.3  # seconds; `whole` is of the pixels of a full picture
        self._scale = 0.4

    def scale(self) -> float:
        """Return the scale that the next moving picture should have."""
        budget = max(SHARE / self.rate - self._fixed, 0.2 / self.rate)
        wanted = min(1.0, max(LEAST_SCALE, math.sqrt(budget / max(self._whole, 1e-9))))
        # Another size costs a moment's flicker: small wishes are not followed.
        if abs(math.log(wanted / self._scale)) > 0.12 or wanted == 1.0:
            self._scale = wanted
        return self._scale

    @property
    def slow(self) -> bool:
        """Whether a full picture takes so long that a coarser one should come first."""
        return self._whole > SLOW

    def note(self, scale: float, seconds: float) -> None:
        """Learn from a picture's time, the wait for its turn included."""
        share = scale**2
        error = seconds - (self._fixed + share * self._whole)
        # A slow picture is believed at once, a fast one by and by. The error goes to the part that made it: of a small
        # picture mostly the fixed one.
        error *= 0.5 if error > 0 else 0.2
        weight = share * self._whole / (share * self._whole + self._fixed)
        self._fixed = max(1e-4, self._fixed + (1 - weight) * error)
        self._whole = max(1e-4, self._whole + weight * error / share)


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
