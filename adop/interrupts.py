"""Ctrl-C and SIGTERM as a question that a loop asks, instead of an exception or an end at any point."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether the program was asked to end; a second Ctrl-C raises KeyboardInterrupt.

    Ctrl-C asks it, and so does SIGTERM, which `torchrun` and the queues of clusters send, often more than once.
    Signals reach only the main thread; in any other thread the function always returns False.
    """
    pressed: list[int] = []

    def press(number: int, frame: object) -> None:
        if pressed and number == signal.SIGINT:
            raise KeyboardInterrupt
        pressed.append(number)

    if threading.current_thread() is not threading.main_thread():
        yield lambda: False
        return
    before = {number: signal.signal(number, press) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield lambda: bool(pressed)
    finally:
        for number, handler in before.items():
            signal.signal(number, signal.SIG_DFL if handler is None else handler)
