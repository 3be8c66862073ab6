"""What was rendered last for each browser, kept so that it can be developed again; the memory for it is bounded."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import Generic, TypeVar

Kept = TypeVar("Kept")

MAX_KEPT_PIXELS = 2 << 20  # of all browsers together; a pixel of the demo scene takes about 70 bytes


class KeptResults(Generic[Kept]):
    """One result for each owner; the least recently used go first. Safe to share among threads."""

    def __init__(self, max_pixels: int = MAX_KEPT_PIXELS) -> None:
        self._max_pixels = max_pixels
        self._kept: OrderedDict[object, tuple[Kept, int]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, owner: object) -> Kept | None:
        """Return the result of an owner, or None where there is none or it was dropped."""
        with self._lock:
            if owner not in self._kept:
                return None
            self._kept.move_to_end(owner)
            return self._kept[owner][0]

    def keep(self, owner: object, result: Kept, pixels: int) -> None:
        """Keep the newest result of an owner, of so many pixels, and drop those of others that are too many."""
        with self._lock:
            self._kept[owner] = result, pixels
            self._kept.move_to_end(owner)
            while len(self._kept) > 1 and sum(size for _, size in self._kept.values()) > self._max_pixels:
                self._kept.popitem(last=False)

    def drop(self, owner: object) -> None:
        """Forget the result of an owner that has left."""
        with self._lock:
            self._kept.pop(owner, None)
