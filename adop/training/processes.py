"""What the processes of one training exchange in each step: gradients, logged numbers, and whether to go on."""

from __future__ import annotations

from collections import Counter

import torch
from torch import Tensor, nn

from adop.errors import UserError
from adop.model.pipeline import Pipeline
from adop.ranks import largest_, ranks, sum_, together, totals
from adop.run.run import Run


def check_processes(run: Run) -> None:
    """Raise UserError where a step may have fewer crops than there are processes."""
    count, scene = ranks().count, run.scene
    models = Counter(scene.lenses[scene.photos[photo].lens].model for photo in run.split["train"])
    crops = min(run.config.batch, *models.values())
    if count > crops:
        raise UserError(
            f"there are {count} processes and only {crops} crops in a step: start fewer, or use a larger --batch (at "
            "most a crop of each trained photo of one lens model)"
        )


def agreed(seconds: float, interrupted: bool) -> tuple[float, float]:
    """Return the first process's seconds of training, and how many processes were asked to stop."""
    first, asked = totals([seconds * ranks().first, float(interrupted)])
    return first, asked


@torch.no_grad()
def average_network(network: nn.Module, steps: int, asked: bool) -> tuple[bool, bool]:
    """Average a network over processes that have each trained it on scenes of their own.

    Args:
        steps: that this process has taken since the last call, by which its network counts. One with numbers that are
            not finite does not count: its process is about to undo a step.
        asked: whether this process was asked to stop.

    Returns whether any process was asked to stop, and whether any has taken a step.
    """
    parameters = list(network.parameters())
    with together():
        taken, stop = totals([float(steps), float(asked)])
        if taken > 0 and parameters:
            own = torch.cat([parameter.reshape(-1) for parameter in parameters])
            share = steps * own.isfinite().all().to(own)
            flat = sum_(torch.cat((share * own.nan_to_num(0.0, 0.0, 0.0), share[None])))
            mean = torch.where(flat[-1] > 0, flat[:-1] / flat[-1], own)
            for parameter, part in zip(parameters, mean.split([p.numel() for p in parameters]), strict=True):
                parameter.copy_(part.view(parameter.shape))
    return stop > 0, taken > 0


def reduce_step(pipeline: Pipeline, values: dict[str, Tensor]) -> dict[str, Tensor]:
    """Sum gradients and logged numbers over all processes, so that each goes on alike.

    Args:
        values: of this process's part of the batch, each a scalar; they are terms of the batch's.

    Returns the batch's values. With one process, nothing is done, and `values` returned.
    """
    if ranks().count == 1:
        return values
    features = pipeline.points.features
    learned = [p for p in pipeline.parameters() if p.requires_grad and p is not features]
    is_set = [float(parameter.grad is not None) for parameter in learned]
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
    numbers = torch.stack(list(values.values()))
    flat = torch.cat([numbers, features.new_tensor(is_set), *(part.reshape(-1) for part in parts)])
    sum_(flat)
    summed = flat.split([len(values), len(is_set), *(part.numel() for part in parts)])
    for parameter, part, total in zip(learned, parts, summed[2:], strict=True):
        parameter.grad = part.copy_(total.view(part.shape))
    if 0.0 in is_set:  # Adam leaves alone what no process has a gradient of
        for parameter, count in zip(learned, summed[1].tolist(), strict=True):
            if count == 0:
                parameter.grad = None
    if features.grad is not None:
        sum_rows_(features.grad)
    return dict(zip(values, summed[0].unbind(), strict=True))


def sum_rows_(gradient: Tensor) -> None:
    """Sum a gradient [N, C] over all processes, exchanging only the rows that one of them has."""
    drawn = (gradient != 0).any(1).to(torch.uint8)
    rows = torch.nonzero(largest_(drawn))[:, 0]
    gradient[rows] = sum_(gradient[rows])
