"""Ctrl-C and SIGTERM as a question, and ignored by a process that has its last sentence to say."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator

import pytest

from adop.interrupts import ignore_termination, interrupts


@pytest.fixture(autouse=True)
def handlers_restored() -> Iterator[None]:
    """Give both signals the handlers back that they had."""
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_both_signals_are_asked_for_a_second_ctrl_c_ends_and_the_handlers_come_back() -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    with interrupts() as interrupted:
        assert not interrupted()
        os.kill(os.getpid(), signal.SIGTERM)
        os.kill(os.getpid(), signal.SIGTERM)
        assert interrupted()
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)] == before


def test_a_process_with_its_last_sentence_to_say_is_not_ended_by_sigterm_when_the_loop_is_left() -> None:
    ended: list[int] = []
    signal.signal(signal.SIGTERM, lambda number, frame: ended.append(number))
    with interrupts():
        ignore_termination()
    os.kill(os.getpid(), signal.SIGTERM)
    assert not ended
