"""Ctrl-C and SIGTERM as a question that a loop asks, instead of an exception or an end at any point."""

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

Handler = Any  # what `signal.getsignal` returns


@contextmanager
def interrupts() -> Iterator[Callable[[], bool]]:
    """Yield a function that returns whether the program was asked to end; a second Ctrl-C raises KeyboardInterrupt.

    Ctrl-C asks it, and so does SIGTERM, which `torchrun` and the queues of clusters send, often more than once.
    Signals reach only the main thread; in any other thread the function always returns False.
    """
    pressed: list[int] = []

    def press(number: int, before: Handler) -> None:
        if pressed and number == signal.SIGINT:
            raise KeyboardInterrupt
        pressed.append(number)

    with signals_call(press):
        yield lambda: bool(pressed)


@contextmanager
def signals_call(handle: Callable[[int, Handler], None]) -> Iterator[None]:
    """Let Ctrl-C and SIGTERM call `handle` with their number and the handler before; in the main thread alone."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}

    def call(number: int, frame: object) -> None:
        handle(number, before[signal.Signals(number)])

    for number in before:
        signal.signal(number, call)
    try:
        yield
    finally:
        for number, handler in before.items():
            if signal.getsignal(number) is call:  # else `ignore_termination` was called
                signal.signal(number, signal.SIG_DFL if handler is None else handler)


def ignore_termination() -> None:
    """Ignore SIGTERM from here on, in a process that is about to end by itself and has a sentence to print first."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
