"""The part of the GPU check that looks at training: a step replayed as a CUDA graph, against the same step run singly."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from adop.config import TrainConfig
from adop.run.checkpoint import Progress
from adop.run.run import new_run
from adop.scene.scene import demo_scene_folder
from adop.training.step import draw_batch
from adop.training.step_graph import StepGraphs

STEPS = 12  # some of each kind, so that each is captured and then replayed with other photos


def replay_error(
    device: str, bf16: bool, scene: Path | None = None, say: Callable[[str], None] = print
) -> float:
    """Return the largest relative error of the gradients of steps of a scene (the demo) that a run's graphs take.

    Between the steps all that is learned changes. Infinite where nothing was replayed on a GPU.
    """
    generator = torch.Generator().manual_seed(9)
    config = TrainConfig(device=device, crop=160, bf16=bf16)
    run = new_run(scene or demo_scene_folder(), Path(), config, lambda _: None)
    pipeline = run.pipeline
    alone = dataclasses.replace(run, config=dataclasses.replace(config, cuda_graphs=False))
    graphs, singly = StepGraphs(run, None, say), StepGraphs(alone, None, say)
    learned = [parameter for parameter in pipeline.parameters() if parameter.requires_grad]

    def gradients(steps: StepGraphs, step: int) -> list[Tensor]:
        pipeline.zero_grad(set_to_none=True)
        steps.run.progress = Progress(step, 0.0)
        steps.learning_step(draw_batch(run, step))
        return [parameter.grad.clone() for parameter in learned if parameter.grad is not None]

    errors = []
    for step in range(STEPS):
        # The network's last layer is zero at its start, and with it all gradients before it.
        with torch.no_grad():
            for parameter in learned:
                parameter.add_(0.02 * torch.randn(parameter.shape, generator=generator).to(device))
        pairs = zip(gradients(graphs, step), gradients(singly, step), strict=True)
        errors += [float((got - e).norm() / e.norm().clamp_min(1e-9)) for got, e in pairs]
    return max(errors) if device == "cpu" or graphs.replayed == STEPS else float("inf")
