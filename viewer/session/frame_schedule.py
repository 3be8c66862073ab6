"""When a browser gets its next frame, and at what scale: quickly while the camera moves, at full size at rest."""

from __future__ import annotations

import time
from dataclasses import dataclass
from enum import IntEnum

from adop.viewer.session.frame_rate import FrameRate

REST_SECONDS = 0.18  # after the last motion message, from which the camera counts as resting
MAX_IN_FLIGHT = 2  # frames that were sent and that the browser has not shown yet
FIRST_REST_SCALE = 0.5  # of the first frame at rest, where even a quick full-size one is slow
PROMPT_SECONDS = 0.15  # rendering time up to which a full-size frame of plain quality comes first at rest
# While the camera rests and the scene is being trained, frames pause for this many times the time that one takes, and
# at least for this many seconds, so that training goes on.
TRAINING_PAUSE, MIN_TRAINING_PAUSE = 5.0, 1.0


class Quality(IntEnum):
    """How a frame is rendered; at rest one follows the other, until the last is what `adop render` writes."""

    QUICK = 0  # see `adop.viewer.drawing.quick_network`
    PLAIN = 1
    FINAL = 2  # antialiased, where that is configured


@dataclass(frozen=True)
class FramePlan:
    """The next frame."""

    scale: float  # relative to the canvas
    quality: Quality


@dataclass(frozen=True)
class SentFrame:
    """The frame that was sent last."""

    version: int  # of the state that it shows
    scale: float
    quality: Quality
    moving: bool  # whether the camera moved
    step: int  # training step
    time: float  # time.monotonic() seconds


class FrameSchedule:
    """Decide when a browser gets its next frame, and at what scale. The session's lock guards it.

    Args: qualities: that frames can have here, from quick to final.
    """

    def __init__(self, qualities: tuple[Quality, ...] = tuple(Quality)) -> None:
        self.frame_rate = FrameRate()  # in motion
        self._qualities = qualities
        self._plain_seconds = 0.0  # of a full-size frame of plain quality
        self.version = 1  # increased by every change of the state
        self.sent_frames = 0
        self._shown_frames = 0
        self._last = SentFrame(version=0, scale=0.0, quality=Quality.QUICK, moving=False, step=-1, time=0.0)
        self._last_motion = 0.0  # time.monotonic() seconds
        self._render_seconds = 0.0  # of the last frame that was rendered, the wait for its turn included

    @property
    def moving(self) -> bool:
        """Whether the camera moves."""
        return time.monotonic() - self._last_motion < REST_SECONDS

    @property
    def last_time(self) -> float:
        """When the last frame was sent, time.monotonic() seconds; 0 before the first."""
        return self._last.time

    def request(self, motion: bool = False) -> None:
        """Request another frame. Args: motion: whether the camera has moved."""
        self.version += 1
        if motion:
            self._last_motion = time.monotonic()

    def rest(self) -> None:
        """Record that the user has let go of the camera: it moves no more."""
        self._last_motion = 0.0
        self.version += 1

    def shown(self, frame: int) -> None:
        """Record that the browser has shown a frame."""
        self._shown_frames = max(self._shown_frames, frame)

    def is_due(self, step: int, adapting: bool) -> bool:
        """Return whether the next frame is due.

        Args:
            step: training step of the parameters.
            adapting: whether automatic exposure has not settled yet.
        """
        if self.sent_frames - self._shown_frames >= MAX_IN_FLIGHT:
            return False
        if self.version != self._last.version:
            return True
        if self.moving:
            return False
        # A frame in motion is compressed more, even at full size: at rest there is always another one.
        if self._last.scale < 1.0 or self._last.quality < Quality.FINAL or self._last.moving or adapting:
            return True
        pause = max(MIN_TRAINING_PAUSE, TRAINING_PAUSE * self._render_seconds)
        return step != self._last.step and time.monotonic() - self._last.time > pause

    def plan(self, version: int, moving: bool, has_full_size: bool) -> FramePlan:
        """Return how the next frame is rendered.

        Args:
            version: of the state that it shows.
            moving: whether the camera moves.
            has_full_size: whether its radiance has been rendered at full size and in final quality already.
        """
        if moving:
            return FramePlan(self.frame_rate.scale(), self._qualities[0])
        if has_full_size:
            return FramePlan(1.0, Quality.FINAL)
        if version == self._last.version and not self._last.moving and self._last.scale >= FIRST_REST_SCALE:
            if self._last.scale < 1.0:
                return FramePlan(1.0, self._last.quality)
            return FramePlan(
                1.0, next(q for q in self._qualities if q > self._last.quality or q == Quality.FINAL)
            )
        if self.frame_rate.is_slow:
            return FramePlan(FIRST_REST_SCALE, self._qualities[0])
        return FramePlan(1.0, Quality.PLAIN if self._plain_seconds < PROMPT_SECONDS else self._qualities[0])

    def rendered(self, plan: FramePlan, moving: bool, seconds: float, renders: int) -> None:
        """Record how long a frame took that was rendered so many times, the wait for its turn included."""
        if moving or plan.quality == self._qualities[0]:
            self.frame_rate.record(plan.scale, seconds / renders)
        if plan.quality > Quality.QUICK:
            self._plain_seconds = seconds / renders / plan.scale**2
        self._render_seconds = seconds

    def sent(self, frame: SentFrame) -> int:
        """Record a frame that is sent and return its number."""
        self.sent_frames += 1
        self._last = frame
        return self.sent_frames

    def failed(self, version: int, step: int) -> None:
        """Record that a frame cannot be rendered, so that it is not tried again until something changes."""
        self._last = SentFrame(version, 1.0, Quality.FINAL, False, step, self._last.time)
