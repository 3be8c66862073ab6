"""The GPU check of training: steps replayed as CUDA graphs, and the sparse optimiser."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from adop.config import TrainConfig
from adop.ops import Backend
from adop.run.checkpoint import Progress
from adop.run.run import new_run
from adop.training.sparse_adam import AdamSettings, RowMoments, sparse_adam_
from adop.training.step import draw_batch
from adop.training.step_graph import StepGraphs

STEPS = 12  # several of each kind: the first of a kind is captured, the others replay it with other photos
CHANGE = 0.02  # standard deviation of the change of every parameter between two steps


def replay_error(device: Backend, bf16: bool, scene: Path, say: Callable[[str], None] = print) -> float:
    """Return the largest relative error of the gradients of training steps that are replayed as CUDA graphs.

    They are compared with the same steps run one operation at a time. Between steps every learned parameter changes.

    Returns: infinity if a step on a GPU was not replayed. On a CPU no step is; there the result is zero.
    """
    generator = torch.Generator().manual_seed(9)
    config = TrainConfig(device=device, crop=160, bf16=bf16)
    run = new_run(scene, Path(), config, lambda _: None)
    pipeline = run.pipeline
    plain_run = replace(run, config=replace(config, cuda_graphs=False))
    replayed, plain = StepGraphs(run, None, say), StepGraphs(plain_run, None, say)
    parameters = [parameter for parameter in pipeline.parameters() if parameter.requires_grad]

    def gradients(steps: StepGraphs, step: int) -> list[Tensor]:
        pipeline.zero_grad(set_to_none=True)
        steps.run.progress = Progress(step, 0.0)
        steps.learning_step(draw_batch(run, step))
        return [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]

    errors = []
    for step in range(STEPS):
        # The network's last layer starts at zero, and then so are the gradients of all layers before it.
        with torch.no_grad():
            for parameter in parameters:
                parameter.add_(CHANGE * torch.randn(parameter.shape, generator=generator).to(device))
        pairs = zip(gradients(replayed, step), gradients(plain, step), strict=True)
        errors += [float((found - e).norm() / e.norm().clamp_min(1e-9)) for found, e in pairs]
    return max(errors) if device == "cpu" or replayed.replayed == STEPS else float("inf")


def adam_error(device: Backend) -> float:
    """Return the relative error of a step of the sparse optimiser on a device, against the torch reference."""
    generator = torch.Generator().manual_seed(0)
    start, gradient = (torch.randn(10000, 4, generator=generator) for _ in range(2))
    gradient[::3] = 0

    def stepped(device: str, backend: Backend) -> Tensor:
        parameter = start.to(device, copy=True)
        mean, square = torch.zeros(2, 10000, 4, device=device)
        moments = RowMoments(mean, square, torch.zeros(10000, dtype=torch.int32, device=device))
        sparse_adam_(parameter, gradient.to(device), moments, AdamSettings(0.1), backend)
        return parameter.cpu()

    found, expected = stepped(device, device), stepped("cpu", "reference")
    return float((found - expected).norm() / expected.norm())
