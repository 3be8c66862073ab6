"""The one thread that renders for all browsers, one job after the other; a job can be cancelled while it renders."""

from __future__ import annotations

import queue
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
from adop.model.environment_lookup import pixel_angle
from adop.model.pipeline import Pipeline, Radiance
from adop.run.run import Run

Result = TypeVar("Result")


class RenderCancelledError(Exception):
    """The image is no longer wanted."""


@dataclass(frozen=True)
class TimedRadiance:
    """A rendered view, and the time that each stage took."""

    radiance: Radiance
    stages: dict[str, float]  # seconds by name of the stage


class RenderThread:
    """Run rendering jobs for all browsers, first come, first served.

    With a single thread, torch uses one pool of worker threads and memory does not grow with the number of browsers.

    Args:
        run: what is rendered.
        gate: entered around each job. During training, it lets jobs in between training steps only.
    """

    def __init__(self, run: Run, gate: AbstractContextManager[Any] | None = None) -> None:
        self.run = run
        self._gate = gate or nullcontext()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._urgent_jobs = 0
        self._lock = threading.Lock()
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

    def submit(self, job: Callable[[], Result], urgent: bool = False) -> Result:
        """Run `job` on the thread, wait for it, and return its result or raise its exception."""
        future: Future[Result] = Future()
        with self._lock:
            self._urgent_jobs += urgent
        try:
            self._jobs.put((job, future))
            return future.result()
        finally:
            with self._lock:
                self._urgent_jobs -= urgent

    def close(self) -> None:
        """End the thread after the current job; the jobs that still wait are cancelled."""
        self._jobs.put(None)
        self._thread.join(timeout=10)

    def _work(self) -> None:
        torch.set_grad_enabled(False)  # applies to this thread only
        while (item := self._jobs.get()) is not None:
            job, future = item
            try:
                with self._gate:
                    result = job()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            del job, future, item  # nothing rendered stays in memory while the thread waits
        while not self._jobs.empty():
            left = self._jobs.get()
            if left is not None:
                left[1].set_exception(RenderCancelledError())


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
