"""Progress of long work in named stages: which one runs, and how much time is left, from the first second on."""

from __future__ import annotations

import io
import sys
import threading
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from tqdm import tqdm

QUIET_SECONDS = 4.5  # between lines where the output is not a terminal
REDRAW_SECONDS = 0.25  # of the line on a terminal
TRUSTED_SECONDS = 5.0  # of expected work that the estimate of the time left weighs against what was measured
CLEAR_LINE = "\r\x1b[K"

Expected = Mapping[str, float | tuple[float, ...]]  # seconds of each stage, or of each of its bars

_running: ContextVar[Stages | None] = ContextVar("running stages", default=None)


@dataclass(frozen=True)
class StageStatus:
    """Where work in stages stands."""

    work: str
    stage: str
    number: int  # of the stage, from 1
    count: int  # of stages
    seconds_left: float  # of all stages, estimated
    done: str = ""  # how much of the stage's present loop, as "3 of 8"

    def __str__(self) -> str:
        """Return one line of text."""
        done = f" ({self.done})" if self.done else ""
        left = duration(self.seconds_left)
        return f"{self.work}, {self.number} of {self.count}: {self.stage}{done}, {left} left in all"


def duration(seconds: float) -> str:
    """Return a duration as minutes and seconds, or hours, minutes and seconds."""
    minutes, rest = divmod(max(0, round(seconds)), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"


class Stages:
    """Named stages of work, as a context manager: shows the present stage and the time left while it is entered.

    On a terminal one line is rewritten; elsewhere a line is printed at each stage, and every few seconds. Bars (`Bar`)
    that run meanwhile, on the thread that entered, are not shown: they tell how much of the stage is done. A bar within
    another one tells nothing.

    Args:
        work: what is done, for the line.
        expected: seconds that each stage will take, roughly, in order; of a stage with several bars in turn, those of
            each bar. What is measured corrects them as a whole.
        say: prints a sentence; use `self.say` while the stages run, which keeps it apart from the line.
    """

    def __init__(self, work: str, expected: Expected, say: Callable[[str], None] = print) -> None:
        self._work, self._say = work, say
        self._expected = {name: _bars(seconds) for name, seconds in expected.items()}
        self._names = list(expected)
        self._stage = 0
        self._bar: Bar | None = None  # that runs
        self._bars_begun = 0  # in the stage
        self._share = self._least_share = 0.0  # of the bar, or of a stage without bars, that is done
        self._begun = time.monotonic()
        self._terminal = sys.stderr.isatty()
        self._lock = threading.Lock()  # guards the output
        self._ended = threading.Event()

    def begin(self, stage: str) -> None:
        """Begin a stage; those before it are done or were left out."""
        before, self._stage = self._stage, self._names.index(stage)
        self._bar, self._bars_begun, self._share, self._least_share = None, 0, 0.0, 0.0
        if self._stage != before:
            self._show()

    def done(self, share: float) -> None:
        """Set how much of the present bar, or of a stage without bars, is done, in [0, 1]."""
        self._share = min(max(share, self._least_share), 1.0)

    def begin_bar(self, bar: Bar) -> bool:
        """Begin the stage's next bar; return False where another one runs."""
        if self._bar is not None:
            return False
        expected = len(self._expected[self._names[self._stage]])
        self._least_share = 0.0 if self._bars_begun < expected else self._share  # one more: nothing goes back
        self._share = self._least_share
        self._bar, self._bars_begun = bar, self._bars_begun + 1
        return True

    def end_bar(self, bar: Bar) -> None:
        """End a bar."""
        if self._bar is bar:
            self._bar = None

    def status(self) -> StageStatus:
        """Return the present stage and the time left."""
        name, seconds = self._names[self._stage], list(self._expected.values())
        bars, bar = seconds[self._stage], self._bar
        begun = min(max(self._bars_begun, 1), len(bars))
        done = sum(map(sum, seconds[: self._stage])) + sum(bars[: begun - 1]) + self._share * bars[begun - 1]
        elapsed = time.monotonic() - self._begun
        factor = (elapsed + TRUSTED_SECONDS) / (done + TRUSTED_SECONDS)
        left = factor * (sum(map(sum, seconds)) - done)
        counted = f"{bar.n} of {bar.total}" if bar is not None and bar.total else ""
        return StageStatus(self._work, name, self._stage + 1, len(seconds), left, counted)

    def say(self, text: str) -> None:
        """Print a sentence above the line."""
        with self._lock:
            self._clear()
            self._say(text)

    def __enter__(self) -> Stages:
        """Show the first stage."""
        self._begun = time.monotonic()
        self._token = _running.set(self)
        self._show()
        self._thread = threading.Thread(target=self._keep_showing, name="adop-progress", daemon=True)
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Remove the line."""
        _running.reset(self._token)
        self._ended.set()
        self._thread.join()
        with self._lock:
            self._clear()

    def _keep_showing(self) -> None:
        while not self._ended.wait(REDRAW_SECONDS if self._terminal else QUIET_SECONDS):
            self._show()

    def _show(self) -> None:
        with self._lock:
            self._clear()
            print(self.status(), end="" if self._terminal else "\n", file=sys.stderr, flush=True)

    def _clear(self) -> None:
        if self._terminal:
            print(CLEAR_LINE, end="", file=sys.stderr, flush=True)


def _bars(seconds: float | tuple[float, ...]) -> tuple[float, ...]:
    return seconds if isinstance(seconds, tuple) else (seconds,)


class Bar(tqdm):
    """The progress of a loop, which leaves nothing behind on a terminal; elsewhere a line is printed every few seconds.

    Within `Stages` it is not shown, and tells them how much is done. Args: those of tqdm.
    """

    def __init__(self, *args: Any, **options: Any) -> None:
        self._stages = _running.get()
        self._tells = False  # the stages
        self._drawn = self._stages is None and sys.stderr.isatty()
        self._shown = time.monotonic()  # the last line
        hidden = {} if self._drawn else {"file": io.StringIO()}
        super().__init__(*args, leave=False, dynamic_ncols=True, **hidden, **options)
        self._tells = self._stages is not None and self._stages.begin_bar(self)

    def close(self) -> None:
        """End the bar."""
        super().close()
        if self._stages is not None:
            self._stages.end_bar(self)

    def display(self, msg: str | None = None, pos: int | None = None) -> bool:
        """Draw the bar, print a line, or tell the stages how much is done."""
        if self._drawn:
            return bool(super().display(msg, pos))
        if self._stages is not None:
            if self._tells and self.total:
                self._stages.done(self.n / self.total)
        elif time.monotonic() - self._shown >= QUIET_SECONDS:
            self._shown = time.monotonic()
            print(self._line(), file=sys.stderr, flush=True)
        return True

    def _line(self) -> str:
        name, done = self.desc.removesuffix(": "), self.n - self.initial
        if not self.total:
            return f"{name}: {self.n:,}"
        left = (time.time() - self.start_t) / done * (self.total - self.n) if done > 0 else None
        return f"{name}: {self.n / self.total:.0%}" + ("" if left is None else f", {duration(left)} left")
