"""How a training step spends its time: stage by stage, the network's backward pass apart from the rest."""

from __future__ import annotations

import functools
import importlib
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any

import torch
from torch import Tensor

from adop.model.cameras import LearnedCameras
from adop.model.environment import Environment
from adop.model.network import NeuralRenderer
from adop.model.pipeline import Pipeline
from adop.training import step_graph
from adop.training.optimiser import Optimiser
from adop.training.sampler import BatchPrefetcher

WARM = 20  # first steps that do not count: threads start, memory is taken, kernels are loaded


@dataclass(frozen=True)
class Stage:
    """A function of the training step, as an attribute of a module or a class."""

    label: str
    owner: str | type
    name: str
    output: Callable[[Any], Tensor] | None = None  # what its backward pass starts from


# In the order of a step. A stage's backward pass ends where that of the stage before it begins.
STAGES = (
    Stage("batch", BatchPrefetcher, "batch"),
    Stage("rays", LearnedCameras, "ray_grid"),
    Stage("draw", "adop.model.pipeline", "draw", lambda levels: levels.features[0]),
    Stage("environment", Environment, "composite", lambda levels: levels.features[0]),
    Stage("base picture", "adop.model.pipeline", "fill_holes", lambda base: base.colours[0]),
    Stage("network", NeuralRenderer, "forward", lambda picture: picture),
    Stage("physical camera", Pipeline, "photo", lambda image: image),
    Stage("loss", "adop.training.step", "training_loss", lambda loss: loss.total),
    Stage("backward", Tensor, "backward"),
    Stage("optimiser", Optimiser, "step"),
)


class StepProfile:
    """While entered, time the stages of every training step; `table` and `split` say what was found.

    One clock is read at every border between stages, so the parts of a step add up to it. Backward, a border is where
    the gradient of a stage's output is known: torch runs what was computed last first.
    """

    def __init__(self) -> None:
        self.seconds: dict[str, list[float]] = defaultdict(list)
        self.steps = 0
        self._parts: dict[str, float] = {}
        self._inside = False
        self._last = 0.0
        self._backward = ""  # the stage whose backward pass is running
        self._originals: list[tuple[Any, str, Any]] = []

    def __enter__(self) -> StepProfile:
        self._originals.append((step_graph, "can_capture", step_graph.can_capture))
        setattr(step_graph, "can_capture", lambda run: False)  # noqa: B010  # a graph has no stages
        for stage in STAGES:
            owner = importlib.import_module(stage.owner) if isinstance(stage.owner, str) else stage.owner
            original = getattr(owner, stage.name)
            self._originals.append((owner, stage.name, original))
            setattr(owner, stage.name, self._timed(stage, original))
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for owner, name, original in self._originals:
            setattr(owner, name, original)
        self._originals.clear()

    def _timed(self, stage: Stage, original: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(original)
        def run(*args: Any, **kwargs: Any) -> Any:
            if stage is STAGES[0]:
                self._parts, self._inside, self._last = {}, True, self._now()
            if not self._inside:
                return original(*args, **kwargs)
            self._lap("rest")
            result = original(*args, **kwargs)
            self._lap(stage.label if stage.name != "backward" else f"{self._backward}, backward")
            if stage.output is not None:
                self._watch(stage.label, stage.output(result))
            if stage is STAGES[-1]:
                self._end()
            return result

        return run

    def _watch(self, label: str, output: Tensor) -> None:
        def border(gradient: Tensor) -> None:
            self._lap(f"{self._backward}, backward")
            self._backward = label

        self._backward = label
        if output.requires_grad:
            output.register_hook(border)

    def _lap(self, label: str) -> None:
        now = self._now()
        self._parts[label] = self._parts.get(label, 0.0) + now - self._last
        self._last = now

    def _end(self) -> None:
        self._inside = False
        self.steps += 1
        if self.steps > WARM:
            for label, seconds in self._parts.items():
                self.seconds[label].append(seconds)

    @staticmethod
    def _now() -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.perf_counter()

    def split(self) -> dict[str, float]:
        """Return the mean milliseconds of each part of a step, in the order of the step."""
        count = max(self.steps - WARM, 1)
        order = [stage.label for stage in STAGES if stage.name != "backward"]
        order += [f"{label}, backward" for label in reversed(order)] + ["rest"]
        return {label: 1e3 * sum(self.seconds[label]) / count for label in order if self.seconds[label]}

    def table(self) -> str:
        """Return the split as lines of text."""
        parts = self.split()
        whole = sum(parts.values()) or 1.0
        lines = [f"{max(self.steps - WARM, 0)} training steps, {whole:.1f} ms each, of which"]
        lines += [f"  {label:<26}{ms:8.2f} ms {100 * ms / whole:5.1f} %" for label, ms in parts.items()]
        network = sum(ms for label, ms in parts.items() if label.startswith("network"))
        lines.append(f"outside the network {whole - network:.1f} ms, {100 * (1 - network / whole):.1f} %")
        return "\n".join(lines)
