"""`adop bench frame`: how long a new view of a run takes, part by part, at several sizes."""

from __future__ import annotations

import functools
import json
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Annotated, Any

import torch
import tyro

import adop.model.pipeline
import adop.render.views
from adop.backend.choice import machine_name
from adop.bench.step_profile import Replacements
from adop.errors import UserError
from adop.files import OutputFile, write_text
from adop.model.cameras import LearnedCameras
from adop.model.environment import Environment
from adop.model.network import NeuralRenderer
from adop.model.pipeline import Pipeline
from adop.ranges import Count
from adop.render.camera_settings import CameraSettings
from adop.render.views import render_views
from adop.run.run import Run, load

WARM_UP = 3  # frames that do not count
# What rendering a view calls, in order, as attributes of the class or module that they are looked up in.
Part = tuple[str, type | ModuleType, str]
PARTS: tuple[Part, ...] = (
    ("rays", LearnedCameras, "ray_grid"),
    ("choice of photos", adop.model.pipeline, "choose_photos"),
    ("draw", adop.model.pipeline, "draw"),
    ("environment", Environment, "composite"),
    ("extrapolation", Pipeline, "_continued"),
    ("hole filling", Pipeline, "fill_holes"),
    ("photos", Pipeline, "_shown"),
    ("network", NeuralRenderer, "forward"),
    ("physical camera", adop.render.views, "develop"),
    ("depth", Pipeline, "depth"),
)


@dataclass(frozen=True)
class BenchFrameConfig:
    """Time new views of a run, part by part: on the host, and until the device is done."""

    run: tyro.conf.Positional[Path]
    """Run folder."""
    sizes: Annotated[tuple[str, ...], tyro.conf.arg(metavar="WIDTHxHEIGHT ...")] = ("1920x1080", "1000x664")
    """Sizes of the views, pixels."""
    repeats: Count = 9
    """Number of timed views at each size; medians count."""
    antialias: bool = False
    """Average four renders, as for pictures at rest; False: one, as while a camera moves."""
    json: OutputFile | None = None
    """Write all numbers to this JSON file."""
    scene: Path | None = None
    """Scene folder. None: where it was during training."""
    device: str = "auto"
    """Device to render on: cpu, cuda, cuda:1, ... auto uses a CUDA GPU if there is one."""


@dataclass(frozen=True)
class FrameTimes:
    """Median times of a view of one size, milliseconds."""

    width: int
    height: int
    frame: float  # until the device is done; on a GPU, of a replayed picture
    host: float  # until everything is handed to the device; the same on a CPU
    parts: dict[str, float]  # of a view run operation by operation, each waited for; "rest" lies between them
    parts_host: dict[str, float]  # the same, until handed to the device
    peak_gib: float  # of the device's memory, or of the process on a CPU

    @property
    def per_second(self) -> float:
        """Views a second, one after the other."""
        return 1e3 / self.frame


def bench_frame(config: BenchFrameConfig) -> list[FrameTimes]:
    """Time views of a run's middle photo's camera and print a table. Raises: UserError for sizes that cannot be read."""
    sizes = [parse_size(text) for text in config.sizes]
    run = load(config.run, config.scene, config.device)
    run.pipeline.config = replace(run.pipeline.config, antialias=config.antialias)
    results = [time_frames(run, *size, config.repeats) for size in sizes]
    machine = f"{machine_name(run.device)}, torch {torch.__version__}"
    print(f"{machine}; {len(run.pipeline.points):,} points, {run.config.render.levels} levels")
    for result in results:
        print_frame(result)
    if config.json is not None:
        rows = [asdict(result) | {"per_second": result.per_second} for result in results]
        values = {"machine": machine, "points": len(run.pipeline.points), "frames": rows}
        write_text(config.json, json.dumps(values, indent=1) + "\n")
    return results


def parse_size(text: str) -> tuple[int, int]:
    """Return width and height of a text such as 1920x1080. Raises: UserError."""
    parts = text.lower().split("x")
    if len(parts) != 2 or not all(part.isdecimal() and 2 <= int(part[:6]) <= 16_384 for part in parts):
        raise UserError(f"--sizes: {text!r} is no size; write it as 1920x1080, each side from 2 to 16384")
    return int(parts[0]), int(parts[1])


@torch.no_grad()
def time_frames(run: Run, width: int, height: int, repeats: int) -> FrameTimes:
    """Return the times of views of one size, with the camera of the middle one of the trained photos."""
    photo = run.split["train"][len(run.split["train"]) // 2]
    camera = run.photo_camera(photo)
    camera = camera.cropped(max(width / camera.width, height / camera.height), 0.0, 0.0, width, height)
    lenses, settings = [run.pipeline.cameras.lens_of[photo]], CameraSettings()
    on_gpu = run.device.type == "cuda"
    if on_gpu:
        torch.cuda.reset_peak_memory_stats(run.device)

    def render() -> None:
        render_views(run.pipeline, camera, settings, lenses)

    def times(waits: bool, whole: bool) -> FrameClock:
        clock = FrameClock(run.device, waits, () if whole else PARTS)
        with clock, nullcontext() if whole else run.pipeline.every_operation():
            for _ in range(WARM_UP + repeats):
                clock.time(render)
        return clock

    parts = times(waits=True, whole=False)
    frame, host, parts_host = parts, parts, parts
    if on_gpu:
        frame, host = (times(waits, whole=True) for waits in (True, False))
        parts_host = times(waits=False, whole=False)
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    peak = torch.cuda.max_memory_allocated(run.device) / 2**30 if on_gpu else process
    return FrameTimes(width, height, frame.frame(), host.frame(), parts.parts(), parts_host.parts(), peak)


class FrameClock:
    """A context that times the parts of every frame within it.

    Args:
        waits: for the device, at the border between two parts and at the end of a frame.
        parts: as `PARTS`.
    """

    def __init__(self, device: torch.device, waits: bool, parts: Sequence[Part]) -> None:
        self._device, self._waits, self._wrapped = device, waits, parts
        self._frames: list[dict[str, float]] = []  # seconds of each frame, by part
        self._parts: dict[str, float] = {}
        self._last = 0.0
        self._replaced = Replacements()

    def __enter__(self) -> FrameClock:
        """Wrap the functions of all parts."""
        for label, owner, name in self._wrapped:
            self._replaced.put(owner, name, self._timed(label, getattr(owner, name)))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the original functions back."""
        self._replaced.undo()

    def time(self, render: Callable[[], None]) -> None:
        """Render and time one frame; the device is idle before it begins."""
        if self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        self._parts, self._last = defaultdict(float), time.perf_counter()
        render()
        self._add("rest")
        self._frames.append(dict(self._parts))

    def frame(self) -> float:
        """Return the median milliseconds of a frame."""
        return 1e3 * statistics.median(sum(frame.values()) for frame in self._frames[WARM_UP:])

    def parts(self) -> dict[str, float]:
        """Return the median milliseconds of each part that was called."""
        labels = [label for label, _, _ in PARTS] + ["rest"]
        counted = self._frames[WARM_UP:]
        medians = {label: statistics.median(frame.get(label, 0.0) for frame in counted) for label in labels}
        return {label: 1e3 * seconds for label, seconds in medians.items() if seconds > 0}

    def _timed(self, label: str, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            self._add("rest")
            result = original(*args, **kwargs)
            self._add(label)
            return result

        return run

    def _add(self, label: str) -> None:
        if self._waits and self._device.type == "cuda":
            torch.cuda.synchronize(self._device)
        now = time.perf_counter()
        self._parts[label] += now - self._last
        self._last = now


def print_frame(times: FrameTimes) -> None:
    """Print the times of one size."""
    print(
        f"{times.width}x{times.height}: {times.frame:.1f} ms a view, {times.per_second:.1f} a second; "
        f"host {times.host:.1f} ms; peak {times.peak_gib:.1f} GiB"
    )
    for label, ms in times.parts.items():
        host = times.parts_host.get(label, 0.0)
        print(
            f"  {label:<18}{ms:9.2f} ms {100 * ms / sum(times.parts.values()):5.1f} %   host {host:9.2f} ms"
        )
