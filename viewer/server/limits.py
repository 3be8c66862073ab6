"""How much one client may ask for: rates that refill, and shares of a CPU core."""

from __future__ import annotations

import time
from collections.abc import Callable

SAVED_SECONDS = 0.3  # of CPU that an idle thread saves up, to answer a burst without a pause
PAUSE = 0.5  # seconds after which a thread that rests looks whether its connection was closed


class Allowance:
    """A number of things that may be done: `rate` more each second, and never more than `burst` at once."""

    def __init__(self, rate: float, burst: float) -> None:
        self._rate, self._burst = rate, burst
        self._left, self._counted = burst, time.monotonic()

    def take(self) -> bool:
        """Take one and return True, or return False where none is left."""
        self._refill()
        if self._left < 1:
            return False
        self._left -= 1
        return True

    @property
    def is_full(self) -> bool:
        """Whether nothing has been taken for so long that this allowance is like a new one."""
        self._refill()
        return self._left >= self._burst

    def _refill(self) -> None:
        now = time.monotonic()
        self._left = min(self._burst, self._left + self._rate * (now - self._counted))
        self._counted = now


class Pace:
    """Keep a thread below a share of a CPU core. What it does not read meanwhile waits with the sender.

    Args: share: returns the share, above 0, at this moment.
    """

    def __init__(self, share: Callable[[], float]) -> None:
        self._share = share
        self._owed = 0.0  # seconds of CPU above the share
        self._counted: tuple[float, float] | None = None  # wall-clock and CPU seconds; None: not called yet

    def rest(self, is_over: Callable[[], bool] = lambda: False) -> None:
        """Sleep for as long as the thread has worked too much, or until `is_over()`; always called by one thread."""
        while self._count() > 0 and not is_over():
            time.sleep(min(PAUSE, self._owed / self._share()))

    def _count(self) -> float:
        """Return how much the thread owes, seconds of CPU."""
        now, worked = time.monotonic(), time.thread_time()
        before = self._counted or (now, worked)
        self._counted = now, worked
        self._owed += worked - before[1] - self._share() * (now - before[0])
        self._owed = max(-SAVED_SECONDS, self._owed)
        return self._owed
