"""The run and the one thread that draws for all browsers, each in its turn; a drawing can be given up half-way."""

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


class AbandonedError(Exception):
    """The picture is not wanted any more."""


@dataclass(frozen=True)
class Shot:
    """A rendered view and where its time went."""

    radiance: Radiance
    stages: dict[str, float]  # seconds


class Studio:
    """Draw for everybody, first come first served.

    One thread draws, so that torch keeps one team of threads and memory does not grow with the number of browsers.

    Args: gate: entered around each drawing; live training opens it between its steps.
    """

    def __init__(self, run: Run, gate: AbstractContextManager[Any] | None = None) -> None:
        self.run = run
        self._gate = gate or nullcontext()
        self._jobs: queue.SimpleQueue[tuple[Callable[[], Any], Future[Any]] | None] = queue.SimpleQueue()
        self._hurried = 0
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._work, name="adop-draw", daemon=True)
        self._thread.start()

    @property
    def step(self) -> int:
        """The training step whose parameters are drawn."""
        return self.run.progress.step

    @property
    def hurried(self) -> bool:
        """Whether somebody who is steering waits for a drawing."""
        return self._hurried > 0

    def draw(self, job: Callable[[], Result], hurry: bool = False) -> Result:
        """Run `job` on the drawing thread and return its result, or raise what it raised."""
        future: Future[Result] = Future()
        with self._lock:
            self._hurried += hurry
        try:
            self._jobs.put((job, future))
            return future.result()
        finally:
            with self._lock:
                self._hurried -= hurry

    def close(self) -> None:
        """End the thread after the drawing under way; later drawings are abandoned."""
        self._jobs.put(None)
        self._thread.join(timeout=10)

    def _work(self) -> None:
        torch.set_grad_enabled(False)  # of this thread
        while (item := self._jobs.get()) is not None:
            job, future = item
            try:
                with self._gate:
                    result = job()
            except BaseException as error:
                future.set_exception(error)
            else:
                future.set_result(result)
            del job, future, item
        while not self._jobs.empty():
            left = self._jobs.get()
            if left is not None:
                left[1].set_exception(AbandonedError())


def shoot(
    pipeline: Pipeline,
    camera: Camera,
    lens: list[int] | None = None,
    unwanted: Callable[[], bool] = lambda: False,
) -> Shot:
    """Render a camera's radiance (B = 1), asking between the parts whether it is still wanted.

    Raises: AbandonedError.
    """
    with watch(pipeline, unwanted) as stages, torch.no_grad():
        views = None if lens is None else ViewInfo(tuple(lens), pixel_angle(camera))
        radiance = pipeline.render(camera, views, extrapolate=True)
    return Shot(radiance, stages)


@contextmanager
def watch(pipeline: Pipeline, unwanted: Callable[[], bool]) -> Iterator[dict[str, float]]:
    """Time the stages of the pipeline and stop it where its picture is unwanted, by hooks on its modules."""
    stages: dict[str, float] = {}
    device = pipeline.device
    last = time.perf_counter()

    def ask(*_: Any) -> None:
        if unwanted():
            raise AbandonedError

    def mark(name: str) -> Callable[..., None]:
        def note(*_: Any) -> None:
            nonlocal last
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            now = time.perf_counter()
            stages[name] = stages.get(name, 0.0) + now - last
            last = now
            ask()

        return note

    hooks = [
        pipeline.network.register_forward_pre_hook(mark("points")),
        pipeline.network.register_forward_hook(mark("network")),
    ]
    _, *inner = pipeline.network.modules()
    hooks += [module.register_forward_pre_hook(ask) for module in inner]
    try:
        yield stages
    finally:
        for hook in hooks:
            hook.remove()
