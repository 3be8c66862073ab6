"""What the processes of one training exchange in each step: gradients, and the numbers that decide how it goes on."""

from __future__ import annotations

import torch
from torch import Tensor

from adop.model.pipeline import Pipeline
from adop.ranks import largest_, ranks, sum_


def reduce_step(
    pipeline: Pipeline, values: dict[str, Tensor], seconds: float, interrupted: bool
) -> dict[str, Tensor]:
    """Sum gradients and logged numbers over all processes, so that each goes on alike.

    Args:
        values: of this process's part of the batch, each a scalar; they are terms of the batch's.
        seconds: time spent training; that of the first process counts.
        interrupted: whether this process was asked to stop.

    Returns the batch's values, with "seconds" and "interrupted" (above 0 if any process was). With one process, nothing
    is done, and `values` returned.
    """
    if ranks().count == 1:
        return values
    told = {"seconds": seconds * ranks().first, "interrupted": float(interrupted)}
    features = pipeline.points.features
    learned = [p for p in pipeline.parameters() if p.requires_grad and p is not features]
    is_set = [float(parameter.grad is not None) for parameter in learned]
    numbers = [*values.values(), *(features.new_tensor(list(told.values())))]
    parts = [torch.zeros_like(p) if p.grad is None else p.grad for p in learned]
    flat = torch.cat(
        [torch.stack(numbers), features.new_tensor(is_set), *(part.reshape(-1) for part in parts)]
    )
    sum_(flat)
    summed = flat.split([len(numbers), len(is_set), *(part.numel() for part in parts)])
    for parameter, part, total in zip(learned, parts, summed[2:], strict=True):
        parameter.grad = part.copy_(total.view(part.shape))
    if 0.0 in is_set:  # Adam leaves alone what no process has a gradient of
        for parameter, count in zip(learned, summed[1].tolist(), strict=True):
            if count == 0:
                parameter.grad = None
    if features.grad is not None:
        sum_rows_(features.grad)
    return dict(zip([*values, *told], summed[0].unbind(), strict=True))


def sum_rows_(gradient: Tensor) -> None:
    """Sum a gradient [N, C] over all processes, exchanging only the rows that one of them has."""
    drawn = (gradient != 0).any(1).to(torch.uint8)
    rows = torch.nonzero(largest_(drawn))[:, 0]
    gradient[rows] = sum_(gradient[rows])
