"""The resolution at which frames can be rendered while the camera moves."""

from __future__ import annotations

import math

MIN_SCALE = 0.15
SLOW_SECONDS = 0.4  # rendering time from which a full-size frame counts as slow
RENDER_SHARE = 0.98  # share of a frame's time until it is encoded: sending and showing it go on meanwhile
MIN_RENDER_SHARE = 0.2  # share for rendering pixels, however long the fixed part takes
GAIN = 0.3  # share of the error of a frame's expected time by which the estimate follows
# Smallest changes of the scale's logarithm: smaller ones only make the image flicker. Frames that are too slow are
# noticed sooner than those that are too small.
MIN_GROWTH, MIN_DECLINE = 0.12, 0.06


class FrameRate:
    """Choose the scale of the frames during motion so that `target` frames per second are reached.

    The time of a frame is modelled as a fixed part plus a part proportional to its pixels. Both are estimated from
    the frames rendered so far.

    Args: target: frames per second.
    """

    def __init__(self, target: float = 15.0) -> None:
        self.target = target
        self._fixed_seconds = 0.01
        self._pixel_seconds = 0.3  # for the pixels of a frame at full scale
        self._scale = 0.4

    def scale(self) -> float:
        """Return the scale for the next frame during motion; 1 is the full size of the canvas."""
        seconds = max(RENDER_SHARE / self.target - self._fixed_seconds, MIN_RENDER_SHARE / self.target)
        wanted = min(1.0, max(MIN_SCALE, math.sqrt(seconds / max(self._pixel_seconds, 1e-9))))
        if not -MIN_DECLINE <= math.log(wanted / self._scale) <= MIN_GROWTH or wanted == 1.0:
            self._scale = wanted
        return self._scale

    @property
    def is_slow(self) -> bool:
        """Whether a full-size frame takes so long that a smaller one should come first."""
        return self._pixel_seconds > SLOW_SECONDS

    def record(self, scale: float, seconds: float) -> None:
        """Update the estimate with the time of a frame, including the time that it waited to be rendered."""
        share = scale**2
        error = seconds - (self._fixed_seconds + share * self._pixel_seconds)
        # Each part takes its share of the error: in a small frame, most of the time is the fixed part's.
        error *= GAIN
        weight = share * self._pixel_seconds / (share * self._pixel_seconds + self._fixed_seconds)
        self._fixed_seconds = max(1e-4, self._fixed_seconds + (1 - weight) * error)
        self._pixel_seconds = max(1e-4, self._pixel_seconds + weight * error / share)
