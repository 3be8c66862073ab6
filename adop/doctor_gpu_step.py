"""The part of the GPU check that looks at training: a step replayed as a CUDA graph, against the same step run singly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from adop.checkpoint import Progress
from adop.config import TrainConfig
from adop.run import Run, open_scene, split_photos
from adop.scene import demo_scene_folder
from adop.step import draw_batch
from adop.step_graph import StepGraphs

STEPS = 6


def _silent(text: str) -> None:
    pass


def replay_error(device: str, scene: Path | None = None, say: Callable[[str], None] = _silent) -> float:
    """Return the largest relative error of the gradients of some steps of a scene (the demo) in a run's graphs."""
    generator = torch.Generator().manual_seed(9)
    config = TrainConfig(device=device, crop=160, bf16=False)
    pipeline, loaded, cache = open_scene(scene or demo_scene_folder(), config, _silent)
    with torch.no_grad():  # at its start the network's last layer is zero, and so are all gradients before it
        for parameter in pipeline.network.parameters():
            parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator).to(device))
    split = split_photos(len(loaded.photos), config.hold_out)
    run = Run(Path(), config, loaded, cache, pipeline, split, Progress(0, 0.0))
    alone = dataclasses.replace(run, config=dataclasses.replace(config, cuda_graphs=False))
    graphs, singly = StepGraphs(run, None, say), StepGraphs(alone, None, say)

    def gradients(steps: StepGraphs, step: int) -> list[Tensor]:
        pipeline.zero_grad(set_to_none=True)
        steps.run.progress = Progress(step, 0.0)
        steps.learning_step(draw_batch(run, step))
        found = [p.grad for p in pipeline.parameters() if p.grad is not None]
        return [gradient.clone() for gradient in found]

    errors = []
    # One round captures, the other replays with other photos.
    for step in range(2 * STEPS):
        pairs = zip(gradients(graphs, step), gradients(singly, step), strict=True)
        errors += [float((got - e).norm() / e.norm().clamp_min(1e-9)) for got, e in pairs]
    if device != "cpu" and not graphs.enabled:
        return float("inf")
    return max(errors)
