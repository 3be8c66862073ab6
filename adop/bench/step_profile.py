"""How the time of a training step is spent, stage by stage, forward and backward (`adop train --profile`)."""

from __future__ import annotations

import functools
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType, TracebackType
from typing import Any

import torch
from torch import Tensor

import adop.model.pipeline
import adop.training.steps.step
import adop.training.steps.step_graph
from adop.model.cameras import LearnedCameras
from adop.model.environment import Environment
from adop.model.network import NeuralRenderer
from adop.model.pipeline import Pipeline
from adop.training.optimiser import Optimiser
from adop.training.steps.sampler import BatchPrefetcher

WARM_UP = 20  # steps that do not count: threads start, memory is allocated, kernels are loaded


@dataclass(frozen=True)
class Stage:
    """A function that a training step calls, as an attribute of the class or the module that it is looked up in."""

    label: str
    owner: type | ModuleType
    function: str
    output: Callable[[Any], Tensor] | None = None  # of the function's result: where its backward pass starts


# In the order of a step: the first starts it, the last ends it. A stage's backward pass ends where the backward pass
# of the stage before it starts.
STAGES = (
    Stage("batch", BatchPrefetcher, "batch"),
    Stage("crops", adop.training.steps.step, "batch_pixels"),
    Stage("rays", LearnedCameras, "ray_grid"),
    Stage("choice of photos", adop.model.pipeline, "choose_photos"),
    Stage("draw", adop.model.pipeline, "draw", lambda levels: levels.features[0]),
    Stage("environment", Environment, "composite", lambda levels: levels.features[0]),
    Stage("hole filling", Pipeline, "fill_holes", lambda filled: filled.colours[0]),
    Stage("photos", Pipeline, "_shown"),
    Stage("network", NeuralRenderer, "forward", lambda radiance: radiance),
    Stage("physical camera", Pipeline, "photo", lambda image: image),
    Stage("loss", adop.training.steps.step, "training_loss", lambda loss: loss.total),
    Stage("backward", Tensor, "backward"),
    Stage("optimiser", Optimiser, "step"),
)


class Replacements:
    """Functions that are replaced for a while, as attributes of the class or the module that they are looked up in."""

    def __init__(self) -> None:
        self._originals: list[tuple[type | ModuleType, str, Any]] = []

    def put(self, owner: type | ModuleType, name: str, function: Callable[..., Any]) -> None:
        """Replace a function."""
        self._originals.append((owner, name, getattr(owner, name)))
        setattr(owner, name, function)

    def undo(self) -> None:
        """Put all original functions back."""
        for owner, name, original in self._originals:
            setattr(owner, name, original)
        self._originals.clear()


class StepProfile:
    """A context that times the stages of every training step within it; `table` and `split` return the times.

    While it is entered, the functions of STAGES are wrapped; without it, training runs as if it did not exist. Steps
    run one operation at a time, because a replayed CUDA graph calls no functions.

    The clock is read at each border between two stages, so the parts of a step add up to the step. In the backward
    pass, a border is the moment at which the gradient of a stage's output is known.
    """

    def __init__(self, warm_up: int = WARM_UP) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)  # of every counted step, by part
        self.steps = 0
        self.warm_up = warm_up
        self._parts: dict[str, float] = {}  # seconds of the present step
        self._in_step = False
        self._last = 0.0  # when the clock was last read
        self._backward = ""  # the stage whose backward pass runs, or would run next
        self._replaced = Replacements()

    def __enter__(self) -> StepProfile:
        """Wrap the functions of all stages."""
        self._replaced.put(adop.training.steps.step_graph, "can_capture", lambda run: False)
        for stage in STAGES:
            self._replaced.put(stage.owner, stage.function, self._timed(stage))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Put the original functions back."""
        self._replaced.undo()

    def _timed(self, stage: Stage) -> Callable[..., Any]:
        original = getattr(stage.owner, stage.function)

        @functools.wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            if stage is STAGES[0]:
                self._parts, self._in_step, self._last = {}, True, _now()
            if not self._in_step:
                return original(*args, **kwargs)
            self._add("rest")
            result = original(*args, **kwargs)
            self._add(stage.label if stage.label != "backward" else f"{self._backward}, backward")
            if stage.output is not None:
                self._time_backward(stage.label, stage.output(result))
            if stage is STAGES[-1]:
                self._end_step()
            return result

        return run

    def _time_backward(self, label: str, output: Tensor) -> None:
        def start(gradient: Tensor) -> None:
            self._add(f"{self._backward}, backward")
            self._backward = label

        self._backward = label
        if output.requires_grad:
            output.register_hook(start)

    def _add(self, label: str) -> None:
        """Add the time since the clock was last read to a part of the step."""
        now = _now()
        self._parts[label] = self._parts.get(label, 0.0) + now - self._last
        self._last = now

    def _end_step(self) -> None:
        self._in_step = False
        self.steps += 1
        if self.steps > self.warm_up:
            for label, seconds in self._parts.items():
                self.seconds[label].append(seconds)

    def split(self) -> dict[str, float]:
        """Return the mean milliseconds of each part of a step, in the order of the step."""
        count = max(self.steps - self.warm_up, 1)
        order = [stage.label for stage in STAGES if stage.label != "backward"]
        order += [f"{label}, backward" for label in reversed(order)] + ["rest"]
        return {label: 1e3 * sum(self.seconds[label]) / count for label in order if self.seconds[label]}

    def table(self) -> str:
        """Return the split as lines of text."""
        parts = self.split()
        whole = sum(parts.values()) or 1.0
        lines = [f"{max(self.steps - self.warm_up, 0)} training steps, {whole:.1f} ms each:"]
        lines += [f"  {label:<26}{ms:8.2f} ms {100 * ms / whole:5.1f} %" for label, ms in parts.items()]
        network = sum(ms for label, ms in parts.items() if label.startswith("network"))
        lines.append(f"outside the network {whole - network:.1f} ms, {100 * (1 - network / whole):.1f} %")
        return "\n".join(lines)


def _now() -> float:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter()
