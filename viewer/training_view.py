"""`adop train --view`: the scene in the browser while it is being trained. Images are rendered between steps."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from adop.config import TrainConfig
from adop.errors import UserError
from adop.interrupts import Handler, signals_call
from adop.progress import Stages
from adop.run.run import Run
from adop.training.loop import share_done
from adop.viewer.app import address_text, points_of_scene
from adop.viewer.drawing.render_thread import RenderThread
from adop.viewer.server.server import Viewer
from adop.viewer.session.files import Exporter, Files
from adop.viewer.session.session import SharedResources
from adop.viewer.training_record import MAX_ROWS

STEERING_SECONDS = 0.15  # how long training waits for the next image while a camera moves
MAX_STEP_DELAY = 0.35  # seconds for which images in motion may hold up a training step
ROW_STEPS = 10  # training steps averaged in a row of the curves, at the start
POLL_SECONDS = 0.02


class Gate:
    """Let the render thread work only while the training thread waits at the end of a step.

    The render thread enters the gate as a context manager; the training thread opens it.
    """

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._open = self._inside = False
        self._waiting = 0

    def __enter__(self) -> None:
        """Wait until the gate is open."""
        with self._changed:
            self._waiting += 1
            self._changed.notify_all()
            self._changed.wait_for(lambda: self._open)
            self._waiting -= 1
            self._inside = True

    def __exit__(self, *_: object) -> None:
        """Leave the gate."""
        with self._changed:
            self._inside = False
            self._changed.notify_all()

    @property
    def is_awaited(self) -> bool:
        """Whether a job waits at the gate."""
        return self._waiting > 0

    def open_until(self, done: Callable[[], bool]) -> None:
        """Open the gate until `done()`, and until the current job has left it."""
        with self._changed:
            self._open = True
            self._changed.notify_all()
            while self._inside or not done():
                self._changed.wait(timeout=POLL_SECONDS)
            self._open = False

    def open_permanently(self) -> None:
        """Open the gate for every job from now on."""
        with self._changed:
            self._open = True
            self._changed.notify_all()


class TrainingCurves:
    """Loss and PSNR over the steps, averaged so that there are never more than `MAX_ROWS` rows."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._rows: list[list[float]] = []  # step, loss, PSNR
        self._dropped = 0  # rows that were removed; the index of a row counts them
        self._sums, self._row_steps = [0.0, 0.0, 0.0], ROW_STEPS  # of count, loss and PSNR

    def add(self, step: int, loss: float, psnr: float) -> None:
        """Add a step."""
        for i, value in enumerate((1.0, loss, psnr)):
            self._sums[i] += value
        if self._sums[0] < self._row_steps:
            return
        count, loss_sum, psnr_sum = self._sums
        with self._lock:
            self._rows.append([step, loss_sum / count, psnr_sum / count])
            if len(self._rows) > MAX_ROWS:
                # Connected browsers have all rows already; those that connect later get every other one.
                self._dropped += len(self._rows) - len(self._rows[1::2])
                self._rows, self._row_steps = self._rows[1::2], self._row_steps * 2
        self._sums = [0.0, 0.0, 0.0]

    def rows(self, since: int) -> list[list[float]]:
        """Return the rows (index, step, loss, PSNR) from index `since` on."""
        with self._lock:
            skip = max(0, since - self._dropped)
            return [[self._dropped + skip + i, *row] for i, row in enumerate(self._rows[skip:])]


class LiveView:
    """A callback for `adop.training.train.train` that shows the run in the browser while it is being trained.

    The viewer starts with `show_points`, or else with the first step; its address is passed to `say`. From the first
    step on it shows the run.

    Args: host, port, token: see `adop.viewer.server.server.Viewer`.
    Raises: UserError at once where the port is in use.
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
        self.viewer: Viewer | None = None  # None: nothing is shown yet
        self.paused = False
        self._listen_at, self._say = (host, port, token), say
        self._gate = Gate()
        self._curves = TrainingCurves()
        self._save_requested = False
        self._step = 0
        self._speed_start = (0, time.monotonic())  # step and time from which the speed is measured
        self._live = True
        self._stages: Stages | None = None  # of the preparation, while it runs
        self._has_begun = False  # whether the first step was taken, and the run itself is shown
        self._share = self._first_share = 0.0  # of the training that is done, now and when the speed began

    def show_points(self, scene: Path, folder: Path, config: TrainConfig) -> None:
        """Start the viewer with the points of a scene, to be looked at until training begins.

        Call it before training, which seeds the random numbers.

        Args: folder: the run folder, where renders and camera paths are saved.
        """
        self._start_viewer(points_of_scene(scene, config, config.device, lambda _: None), None, folder)

    def watch(self, stages: Stages) -> None:
        """Show the stages of the preparation from now on."""
        self._stages = stages

    def __call__(self, run: Run, values: dict[str, float]) -> str | None:
        """Record the numbers of a step and let images be rendered; return "save" to have a checkpoint saved."""
        if not self._has_begun:
            self._begin(run)
        assert self.viewer is not None
        self._step, self._share = run.progress.step, share_done(run)
        self._curves.add(run.progress.step, values["loss"], values["psnr"])
        if self._gate.is_awaited:
            self._render_waiting(self.viewer.shared.render_thread)
        if self.paused:
            self._wait_while_paused()
        request, self._save_requested = ("save" if self._save_requested else None), False
        return request

    def _begin(self, run: Run) -> None:
        """Show the run itself, at its first step."""
        self._stages, self._has_begun = None, True
        self._step, self._share = run.progress.step, share_done(run)
        self._measure_speed()
        self._start_viewer(run, self._gate, run.folder)

    def _start_viewer(self, run: Run, gate: Gate | None, folder: Path) -> None:
        """Show a run, in the viewer that is there or in a new one."""
        render_thread, files = RenderThread(run, gate), Files(folder)
        shared = SharedResources(render_thread, files, Exporter(render_thread, files), self)
        if self.viewer is None:
            self.viewer = Viewer(shared, *self._listen_at)
            self._say("\n" + address_text(self.viewer))
        else:
            self.viewer.show(shared)

    def _render_waiting(self, render_thread: RenderThread) -> None:
        """Let the waiting images be rendered; while a camera moves, wait a moment for its next ones as well."""
        begun, last_motion = time.monotonic(), 0.0

        def done() -> bool:
            nonlocal last_motion
            now = time.monotonic()
            if render_thread.has_urgent_job:
                last_motion = now
            if now - begun > MAX_STEP_DELAY:
                return True
            return not self._gate.is_awaited and now - last_motion > STEERING_SECONDS

        self._gate.open_until(done)

    def _wait_while_paused(self) -> None:
        """Wait until training is resumed or Ctrl-C is pressed."""
        with signals_call(_act_first(self._resume)):
            self._gate.open_until(lambda: not self.paused)
        self._measure_speed()

    def _measure_speed(self) -> None:
        """Measure the speed, and the time left, from now on."""
        self._speed_start, self._first_share = (self._step, time.monotonic()), self._share

    def _resume(self) -> None:
        self.paused = False

    # What sessions ask for (`adop.viewer.session.session.Training`).

    def status(self) -> dict[str, Any]:
        """Return where training stands: the stage of the preparation, or step, speed, total and seconds left."""
        status: dict[str, Any] = {"live": self._live, "step": self._step, "paused": self.paused, "speed": 0.0}
        if self._stages is not None:
            stage = self._stages.status()
            return status | {
                "stage": stage.stage,
                "number": stage.number,
                "stages": stage.count,
                "left": round(stage.seconds_left),
            }
        first, begun = self._speed_start
        elapsed = max(time.monotonic() - begun, 1e-3)
        done = self._share - self._first_share
        status |= {"speed": round((self._step - first) / elapsed, 1), "share": round(self._share, 3)}
        return status | ({"left": round((1 - self._share) * elapsed / done)} if done > 0 else {})

    def history(self, since: int) -> list[list[float]]:
        """Return the rows (index, step, loss, PSNR) of the training curves from index `since` on."""
        return self._curves.rows(since)

    def command(self, action: str) -> None:
        """Carry out `pause`, `resume` or `save` at the end of the current step."""
        if action == "save":
            self._save_requested = True
        elif self._live:
            self.paused = action == "pause"

    # After training.

    def finish(self) -> None:
        """Keep the viewer running while a browser is connected or until Ctrl-C; training is finished."""
        self._live = False
        if self.viewer is None:
            return
        self._gate.open_permanently()
        try:
            if self.viewer.browsers:
                self._say(
                    f"the viewer at {self.viewer.url} keeps running while a browser is connected; Ctrl-C stops it"
                )
            while self.viewer.browsers:
                time.sleep(0.5)
        except KeyboardInterrupt:
            self._say("")
        self.close()

    def close(self) -> None:
        """Stop the viewer."""
        self._gate.open_permanently()
        if self.viewer is not None:
            self.viewer.close()


def _act_first(act: Callable[[], None]) -> Callable[[int, Handler], None]:
    """Return what a signal calls: `act`, then the handler before."""

    def handle(number: int, before: Handler) -> None:
        act()
        if callable(before):
            before(number, None)

    return handle
