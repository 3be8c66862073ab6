"""Adam that moves only the rows with a gradient."""

import torch
from torch import Tensor


@torch.no_grad()
def sparse_adam_(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    row_steps: Tensor,
    lr: float,
    betas: tuple[float, float] = (0.9, 0.999),
    eps: float = 1e-8,
) -> None:
    """Step the rows of `param` [N, C] whose gradient is not all zero, in place; other rows keep their
    state.

    Args:
        row_steps: [N] int32, how often each row was stepped, for the bias correction.

    Source: Kingma and Ba 2015, lazily per row.
    """
    rows = torch.nonzero((grad != 0).any(1))[:, 0]
    g = grad[rows]
    steps = row_steps[rows] + 1
    mean = exp_avg[rows].mul_(betas[0]).add_(g, alpha=1 - betas[0])
    square = exp_avg_sq[rows].mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    count = steps[:, None].to(param.dtype)
    denominator = (square / (1 - betas[1] ** count)).sqrt_().add_(eps)
    param[rows] -= lr * (mean / (1 - betas[0] ** count)) / denominator
    row_steps[rows], exp_avg[rows], exp_avg_sq[rows] = steps, mean, square
