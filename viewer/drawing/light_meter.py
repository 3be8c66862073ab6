"""Measurements of a view's light: its histogram, and automatic exposure."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from adop.images.metrics.psnr_ssim import LUMINANCE

MIN_STOP, MAX_STOP, BINS = -10.0, 3.0, 52  # of the histogram, in stops relative to saturation
BLACK_LEVEL = 1 / 4096  # sensor light up to which a pixel counts as black
MIDDLE_GREY = 0.17  # sensor light to which automatic exposure brings the image's mean
MAX_EXPOSURE = 12.0  # EV; automatic exposure stays within plus and minus this
TIME_CONSTANT = 0.45  # seconds in which automatic exposure covers 63 % of the difference to its target
SETTLED_STOPS = 0.02  # difference at which automatic exposure jumps to its target


def histogram(light: Tensor, white: float) -> dict[str, Any]:
    """Return the histogram of sensor light [3, H, W], for the page.

    `bins` [3][52]: the share of pixels per bin of red, green and blue, from -10 to 3 stops, where 0 is saturation.
    `clipped`: the share of pixels with at least one channel at `white` or above. `black`: the share of pixels with
    every channel nearly black.
    """
    small = light[:, :: max(1, light.shape[1] // 120), :: max(1, light.shape[2] // 200)].reshape(3, -1).cpu()
    stops = small.clamp_min(2.0**-20).log2()
    index = ((stops - MIN_STOP) / (MAX_STOP - MIN_STOP) * BINS).long().clamp(0, BINS - 1)
    counts = torch.stack([torch.bincount(row, minlength=BINS) for row in index]) / index.shape[1]
    return {
        "bins": [[round(float(share), 4) for share in row] for row in counts],
        "clipped": round(float((small.amax(0) >= white).float().mean()), 4),
        "black": round(float((small.amax(0) <= BLACK_LEVEL).float().mean()), 4),
    }


def metered_exposure(light: Tensor) -> float:
    """Return the EV (larger is darker) at which light [3, H, W], given at 0 EV, has a middle-grey mean.

    The centre of the image counts most. The mean is that of logarithms, so that a lamp does not darken a whole room.
    """
    small = light[:, :: max(1, light.shape[1] // 60), :: max(1, light.shape[2] // 100)].cpu()
    luminance = (small * torch.tensor(LUMINANCE)[:, None, None]).sum(0).clamp(2.0**-12, 2.0**6)
    y = torch.linspace(-1, 1, luminance.shape[0])[:, None]
    x = torch.linspace(-1, 1, luminance.shape[1])
    weight = torch.exp(-1.5 * (x * x + y * y))
    return float((luminance.log2() * weight).sum() / weight.sum()) - math.log2(MIDDLE_GREY)


def adapt_exposure(exposure: float, target: float, seconds: float) -> float:
    """Return the exposure (EV) after it has approached `target` for `seconds`."""
    if abs(target - exposure) < SETTLED_STOPS:
        return target
    return target + (exposure - target) * math.exp(-seconds / TIME_CONSTANT)


class AutoExposure:
    """Exposure that follows the light of the view gradually, as the eye does."""

    def __init__(self) -> None:
        self._target: float | None = None  # EV; None: nothing has been metered since it was switched on

    def reset(self) -> None:
        """Forget the target: automatic exposure is off."""
        self._target = None

    def has_settled(self, exposure: float) -> bool:
        """Return whether an exposure has reached the target, or there is none."""
        return self._target is None or self._target == exposure

    def adapt(self, exposure: float, target: float, seconds: float) -> float:
        """Return the exposure (EV) after `seconds` of adapting to the `target` EV that the view calls for."""
        self._target = round(min(MAX_EXPOSURE, max(-MAX_EXPOSURE, target)), 3)
        return adapt_exposure(exposure, self._target, min(0.5, seconds))
