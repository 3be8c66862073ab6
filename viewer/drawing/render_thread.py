"""The one thread that renders for all browsers, one job after the other; a job can be cancelled while it renders."""

from __future__ import annotations

import ctypes
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any, TypeVar

import torch

from adop.geometry.camera import Camera
from adop.model.cameras import ViewInfo
from adop.model.environment import pixel_angle
from adop.model.pipeline import Pipeline
from adop.model.views.view import Radiance
from adop.run.run import Run

Result = TypeVar("Result")

JOB_SECONDS = 0.5  # that a job is expected to take where nothing is known
MIN_JOB_SECONDS = 0.02
URGENT_FACTOR = 4.0  # how much faster a job becomes urgent for which a browser waits whose camera moves
MAX_HOLD_SECONDS = 3.0  # that a job may take at its last try, while a browser whose camera moves waits
GIVE_BACK_SECONDS = 10.0  # between two times that freed memory is given back to the system


class RenderCancelledError(Exception):
    """The image is no longer wanted."""


@dataclass(frozen=True)
class TimedRadiance:
    """A rendered view, and the time that each stage took."""

    radiance: Radiance
    stages: dict[str, float]  # seconds by name of the stage


@dataclass(frozen=True, eq=False)
class _Job:
    """A job that waits."""

    run: Callable[[], Any]
    future: Future[Any]
    urgent: bool  # whether a browser whose camera moves waits for it
    seconds: float  # that it is expected to take
    submitted: float  # time.monotonic() seconds

    def urgency(self, now: float) -> float:
        """Return how long it has waited, in units of how long it takes; more where a camera moves."""
        return (now - self.submitted) / self.seconds * (URGENT_FACTOR if self.urgent else 1.0)


class RenderThread:
    """Run rendering jobs for all browsers.

    The next job is the one whose wait is longest compared with the time that it takes. Jobs that take equally long run
    in order, and a browser with small images does not wait for all those with large ones (highest response ratio
    next; P. Brinch Hansen, Short-term scheduling in multiprogramming systems, 1971).

    With a single thread, torch uses one pool of worker threads and memory does not grow with the number of browsers.

    Args:
        run: what is rendered.
        gate: entered around each job. During training, it lets jobs in between training steps only.
    """

    def __init__(self, run: Run, gate: AbstractContextManager[Any] | None = None) -> None:
        self.run = run
        self._gate = gate or nullcontext()
        self._gives_back = gate is None  # a training needs its memory again for the next step
        self._given_back = 0.0  # when, time.monotonic() seconds
        self._jobs: list[_Job] = []  # that wait, in order of arrival
        self._changed = threading.Condition()  # guards the jobs
        self._urgent_jobs = 0
        self._begun = 0.0  # when the current job began, time.monotonic() seconds
        self._begun_before_urgent_ones = False  # whether its turn came although an urgent job waited
        self.is_closed = False
        self._thread = threading.Thread(target=self._work, name="adop-render", daemon=True)
        self._thread.start()

    @property
    def step(self) -> int:
        """The training step of the parameters that are rendered."""
        return self.run.progress.step

    @property
    def has_urgent_job(self) -> bool:
        """Whether a browser whose camera is moving waits for its image."""
        return self._urgent_jobs > 0

    def must_give_way(self, restarts_left: int) -> bool:
        """Return whether the current job must be given up for a browser whose camera moves.

        A job that can be restarted is given up at once. Another one, and one whose turn came although such a browser
        waited already, is given up after `MAX_HOLD_SECONDS`.
        """
        can_hold = restarts_left == 0 or self._begun_before_urgent_ones
        held = time.monotonic() - self._begun
        return self.has_urgent_job and (not can_hold or held > MAX_HOLD_SECONDS)

    def submit(self, job: Callable[[], Result], urgent: bool = False, seconds: float = JOB_SECONDS) -> Result:
        """Run `job` on the thread, wait for it, and return its result or raise its exception.

        Args:
            urgent: whether a browser whose camera moves waits for it.
            seconds: that it is expected to take.

        Raises: RenderCancelledError where the thread has ended.
        """
        future: Future[Result] = Future()
        with self._changed:
            if self.is_closed:
                raise RenderCancelledError
            self._urgent_jobs += urgent
            self._jobs.append(_Job(job, future, urgent, max(seconds, MIN_JOB_SECONDS), time.monotonic()))
            self._changed.notify()
        try:
            return future.result()
        finally:
            with self._changed:
                self._urgent_jobs -= urgent
            del (
                future
            )  # or its exception, whose traceback leads here, would keep the images of a cancelled job alive

    def close(self) -> None:
        """End the thread after the current job; the jobs that still wait are cancelled."""
        with self._changed:
            self.is_closed = True
            self._changed.notify()
        self._thread.join(timeout=10)

    def _work(self) -> None:
        torch.set_grad_enabled(False)  # applies to this thread only
        while (job := self._next()) is not None:
            try:
                with self._gate:
                    self._begun = time.monotonic()
                    result = job.run()
            except BaseException as error:
                job.future.set_exception(error)
            else:
                job.future.set_result(result)
                del result
            del job  # nothing rendered stays in memory while the thread waits
            if self._gives_back and time.monotonic() - self._given_back > GIVE_BACK_SECONDS:
                give_back_memory()
                self._given_back = time.monotonic()
        for left in self._jobs:
            left.future.set_exception(RenderCancelledError())

    def _next(self) -> _Job | None:
        """Wait for a job and take the most urgent one; return None once the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: self._jobs or self.is_closed)
            if self.is_closed:
                return None
            now = time.monotonic()
            chosen = max(self._jobs, key=lambda job: job.urgency(now))
            self._jobs.remove(chosen)
            self._begun_before_urgent_ones = any(job.urgent for job in self._jobs)
            return chosen


def give_back_memory() -> None:
    """Give freed memory back to the system, which the C library keeps otherwise (`adop.__main__.keep_memory`)."""
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform.startswith("linux") else None
    if trim is not None:
        trim(0)


def render_radiance(
    pipeline: Pipeline,
    camera: Camera,
    lenses: list[int] | None = None,
    is_cancelled: Callable[[], bool] = lambda: False,
    antialias: bool = False,
) -> TimedRadiance:
    """Render the radiance of a camera (B = 1).

    Args:
        lenses: [1] the scene's lens that the camera has; None: unknown.
        is_cancelled: called between the parts of the pipeline.
        antialias: see `Pipeline.render`.

    Raises: RenderCancelledError.
    """
    with watch_stages(pipeline, is_cancelled) as stages, torch.no_grad():
        views = None if lenses is None else ViewInfo(tuple(lenses), pixel_angle(camera))
        radiance = pipeline.render(camera, views, extrapolate=True, antialias=antialias)
    return TimedRadiance(radiance, stages)


@contextmanager
def watch_stages(pipeline: Pipeline, is_cancelled: Callable[[], bool]) -> Iterator[dict[str, float]]:
    """Time the pipeline's stages and stop it once it is cancelled, by hooks on its modules.

    Pictures that a GPU replays take a few milliseconds as a whole: they are one stage and not stopped.

    Yields: seconds by name of the stage, filled in while the pipeline renders.
    Raises: RenderCancelledError, from inside the pipeline.
    """
    stages: dict[str, float] = {}
    device = pipeline.device
    last = time.perf_counter()

    def check(*_: Any) -> None:
        if is_cancelled():
            raise RenderCancelledError

    def end_of_stage(name: str) -> Callable[..., None]:
        def record(*_: Any) -> None:
            nonlocal last
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            stages[name] = stages.get(name, 0.0) + now - last
            last = now
            check()

        return record

    if pipeline.replays:
        check()
        yield stages
        end_of_stage("picture")()
        return
    hooks = [
        pipeline.network.register_forward_pre_hook(end_of_stage("points")),
        pipeline.network.register_forward_hook(end_of_stage("network")),
    ]
    _, *inner = pipeline.network.modules()
    hooks += [module.register_forward_pre_hook(check) for module in inner]
    try:
        yield stages
    finally:
        for hook in hooks:
            hook.remove()
