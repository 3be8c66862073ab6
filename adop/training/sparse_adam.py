"""Adam that moves only the rows with a gradient."""

from __future__ import annotations

import functools
import math
from dataclasses import dataclass

import torch
from torch import Tensor

from adop.backend.arguments import SparseAdamArguments, Values
from adop.backend.choice import Backend, choose_backend
from adop.backend.launch import Launch, launch


@dataclass(frozen=True)
class RowMoments:
    """The state of each row, which a step changes in place."""

    exp_avg: Tensor  # [N, C] running mean of the gradient
    exp_avg_sq: Tensor  # [N, C] running mean of its square
    row_steps: Tensor  # [N] int32, how often the row was stepped, for the bias correction


@dataclass(frozen=True)
class AdamSettings:
    """The settings of Adam, named as torch names them."""

    lr: float | Tensor  # for all channels, or [C]
    betas: tuple[float, float] = (0.9, 0.999)
    eps: float = 1e-8
    weight_decay: float | Tensor = 0.0  # for all channels, or [C]; times the rate
    full_steps: float = math.inf  # of a row; after them its rate falls as one over its steps


@torch.no_grad()
def sparse_adam_(
    param: Tensor, grad: Tensor, moments: RowMoments, settings: AdamSettings, backend: Backend
) -> None:
    """Step the rows of `param` [N, C] whose gradient is not all zero, in place; other rows keep their state.

    **Source** Kingma and Ba 2015; decoupled decay of Loshchilov and Hutter 2019; falling rates of Robbins and Monro 1951;
    lazily per row.
    """
    tensors = {"param": param, "grad": grad, "exp_avg": moments.exp_avg, "exp_avg_sq": moments.exp_avg_sq}
    for name, tensor in tensors.items():
        if tensor.shape != param.shape or tensor.ndim != 2:
            raise ValueError(f"{name}: expected [N, C] = {list(param.shape)}, got {list(tensor.shape)}")
    steps = moments.row_steps
    if tuple(steps.shape) != param.shape[:1] or steps.dtype != torch.int32:
        raise ValueError(f"row_steps: expected [N={len(param)}] int32, got {list(steps.shape)} {steps.dtype}")
    if choose_backend(backend, param.device) == "reference":
        _sparse_adam_reference(param, grad, moments, settings)
        return
    dense = grad.contiguous()
    rates, decays = (
        value if isinstance(value, Tensor) else param.new_full(param.shape[1:], value)
        for value in (settings.lr, settings.weight_decay)
    )
    scales = _bias_scales(settings.betas, param.dtype, param.device)
    values: Values = {
        "parameter": param,
        "gradient": dense,
        "average": moments.exp_avg,
        "square": moments.exp_avg_sq,
        "steps": steps,
        "rows": param.shape[0],
        "channels": param.shape[1],
        "rates": rates,
        "decays": decays,
        "scales": scales,
        "counts": len(scales),
        "beta1": settings.betas[0],
        "beta2": settings.betas[1],
        "epsilon": settings.eps,
        "full_steps": settings.full_steps,
    }
    launch(SparseAdamArguments, [Launch("sparse_adam", param.shape[0])], values, param)


@functools.lru_cache(maxsize=8)
def _bias_scales(betas: tuple[float, float], dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return [T, 2] what the two running means are multiplied by after t steps, until it is 1 in the precision.

    Read from a table, because powers take a kernel longer than all the rest.
    """
    steps = math.log(torch.finfo(dtype).eps / 2) / math.log(max(*betas, 0.5))
    powers = torch.tensor(betas, dtype=torch.float64) ** torch.arange(1, math.ceil(steps) + 2)[:, None]
    return torch.cat((torch.ones(1, 2), 1 / (1 - powers))).to(device, dtype)


def _sparse_adam_reference(param: Tensor, grad: Tensor, moments: RowMoments, settings: AdamSettings) -> None:
    """Step in plain torch."""
    beta1, beta2 = settings.betas
    rows = torch.nonzero((grad != 0).any(1))[:, 0]
    g = grad[rows]
    steps = moments.row_steps[rows] + 1
    mean = moments.exp_avg[rows].mul_(beta1).add_(g, alpha=1 - beta1)
    square = moments.exp_avg_sq[rows].mul_(beta2).addcmul_(g, g, value=1 - beta2)
    count = steps[:, None].to(param.dtype)
    denominator = (square / (1 - beta2**count)).sqrt_().add_(settings.eps)
    change = mean / (1 - beta1**count) / denominator
    fall = (settings.full_steps / count).clamp_max(1)
    param[rows] -= settings.lr * fall * (change + settings.weight_decay * param[rows])
    moments.row_steps[rows], moments.exp_avg[rows], moments.exp_avg_sq[rows] = steps, mean, square
