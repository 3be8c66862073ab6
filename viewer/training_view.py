"""`adop train --view`: the scene in the browser while it learns. Pictures are drawn between training steps."""

from __future__ import annotations

import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from adop.errors import UserError
from adop.run.run import Run
from adop.viewer.drawing.studio import Studio
from adop.viewer.learning import MOST_ROWS
from adop.viewer.server.server import Viewer
from adop.viewer.session.files import Exporter, Files
from adop.viewer.session.session import House

STEERING = 0.15  # seconds after a steered picture in which another one is awaited
MOST_AT_ONCE = 0.35  # seconds that steering may hold up a step
ROW_STEPS = 10  # training steps in a row of the curves, to begin with


class Gate:
    """Lets the drawing thread in while the training thread stands at a step's end, and never else."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = self._inside = False
        self._waiting = 0

    def __enter__(self) -> None:
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._open)
            self._waiting -= 1
            self._inside = True

    def __exit__(self, *_: object) -> None:
        with self._changed:
            self._inside = False
            self._changed.notify_all()

    @property
    def wanted(self) -> bool:
        """Whether a picture waits to be drawn."""
        return self._waiting > 0

    def open_until(self, enough: Callable[[], bool]) -> None:
        """Let drawings in until `enough`, and wait for the one under way."""
        with self._changed:
            self._open = True
            self._changed.notify_all()
            while self._inside or not enough():
                self._changed.wait(timeout=0.02)
            self._open = False

    def open_for_good(self) -> None:
        """Let every drawing in from now on."""
        with self._changed:
            self._open = True
            self._changed.notify_all()


class LiveView:
    """A callback for `adop.training.train.train` that shows the run in the browser.

    The viewer starts with the first step. `address` is told to `say`.

    Args: host, port, token: as of `adop.viewer.server.server.Viewer`.
    Raises: UserError at once where the port is taken.
    """

    def __init__(
        self,
        host: str = "127.0.0.1",
        port: int = 8090,
        token: str | None = None,
        say: Callable[[str], None] = print,
    ) -> None:
        try:
            family = socket.AF_INET6 if ":" in host else socket.AF_INET
            socket.create_server((host, port), family=family).close()
        except OSError as error:
            raise UserError(
                f"port {port} on {host} cannot be used ({error.strerror}); choose another --port"
            ) from None
        self.viewer: Viewer | None = None
        self.paused = False
        self._where, self._say = (host, port, token), say
        self._gate = Gate()
        self._changed = threading.Condition()
        self._save = False
        self._rows: list[list[float]] = []
        self._sums, self._stride, self._dropped = [0.0, 0.0, 0.0], ROW_STEPS, 0
        self._step, self._begun, self._first = 0, time.monotonic(), 0
        self._live = True

    def __call__(self, run: Run, values: dict[str, float]) -> str | None:
        """Note a step's numbers and let pictures be drawn; "save" asks for a checkpoint."""
        if self.viewer is None:
            self._open(run)
        self._note(run.progress.step, values)
        if self._gate.wanted:
            self._let_draw()
        if self.paused:
            self._rest()
        wish, self._save = ("save" if self._save else None), False
        return wish

    def _open(self, run: Run) -> None:
        from adop.viewer.app import welcome

        studio = Studio(run, self._gate)
        files = Files(run.folder)
        self.viewer = Viewer(House(studio, files, Exporter(studio, files), self), *self._where)
        self._first, self._begun = run.progress.step, time.monotonic()
        self._say("\n" + welcome(self.viewer))

    def _let_draw(self) -> None:
        """Let waiting pictures be drawn; while somebody steers, wait for the next ones a moment."""
        assert self.viewer is not None
        studio, begun = self.viewer.house.studio, time.monotonic()
        steered = 0.0

        def enough() -> bool:
            nonlocal steered
            now = time.monotonic()
            if studio.hurried:
                steered = now
            if now - begun > MOST_AT_ONCE:
                return True
            return not self._gate.wanted and now - steered > STEERING

        self._gate.open_until(enough)

    def _rest(self) -> None:
        """Wait until the run is resumed, or Ctrl-C is pressed."""
        with _interrupt_ends(self._resume):
            self._gate.open_until(lambda: not self.paused)
        self._first, self._begun = self._step, time.monotonic()

    def _resume(self) -> None:
        self.paused = False

    def _note(self, step: int, values: dict[str, float]) -> None:
        self._step = step
        for i, value in enumerate((1.0, values["loss"], values["psnr"])):
            self._sums[i] += value
        if self._sums[0] >= self._stride:
            count, loss, psnr = self._sums
            with self._changed:
                self._rows.append([step, loss / count, psnr / count])
                if len(self._rows) > MOST_ROWS:
                    # Browsers have seen the earlier rows; who comes later gets every other one of them.
                    self._dropped += len(self._rows) - len(self._rows[1::2])
                    self._rows, self._stride = self._rows[1::2], self._stride * 2
            self._sums = [0.0, 0.0, 0.0]

    # What sessions ask for (`session.Learning`).

    def status(self) -> dict[str, Any]:
        """Return step, steps per second, and whether training is paused."""
        speed = (self._step - self._first) / max(time.monotonic() - self._begun, 1e-3)
        return {"live": self._live, "step": self._step, "speed": round(speed, 1), "paused": self.paused}

    def history(self, since: int) -> list[list[float]]:
        """Return rows (index, step, loss, PSNR), means of some steps each, from index `since` on."""
        with self._changed:
            skip = max(0, since - self._dropped)
            return [[self._dropped + skip + i, *row] for i, row in enumerate(self._rows[skip:])]

    def command(self, action: str) -> None:
        """Pause, resume or save; takes effect at the end of the step under way."""
        if action == "save":
            self._save = True
        elif self._live:
            self.paused = action == "pause"

    # The end.

    def finish(self) -> None:
        """Training is done: draw freely, and stay for as long as a browser is connected (Ctrl-C ends it)."""
        self._live = False
        if self.viewer is None:
            return
        self._gate.open_for_good()
        try:
            if self.viewer.browsers:
                self._say(f"the viewer stays at {self.viewer.url} while a browser shows it; Ctrl-C ends it")
            while self.viewer.browsers:
                time.sleep(0.5)
        except KeyboardInterrupt:
            self._say("")
        self.close()

    def close(self) -> None:
        """End the viewer."""
        self._gate.open_for_good()
        if self.viewer is not None:
            self.viewer.close()


@contextmanager
def _interrupt_ends(act: Callable[[], None]) -> Iterator[None]:
    """Let Ctrl-C call `act` beside what it does anyway; only the main thread has signals."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.getsignal(signal.SIGINT)

    def press(number: int, frame: Any) -> None:
        act()
        if callable(before):
            before(number, frame)

    signal.signal(signal.SIGINT, press)
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
