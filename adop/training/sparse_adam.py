"""Adam that moves only the rows with a gradient."""

import torch
from torch import Tensor

from adop.backend.launch import Value, launch
from adop.ops.types import Backend


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
    backend: Backend = "auto",
) -> None:
    """Step the rows of `param` [N, C] whose gradient is not all zero, in place; other rows keep their state.

    Args:
        exp_avg, exp_avg_sq: [N, C] running moments.
        row_steps: [N] int32, how often each row was stepped, for the bias correction.
        backend: "reference" is torch; anything else is one pass of a kernel on the tensors' device.

    **Source** Kingma and Ba 2015, lazily per row.
    """
    state = {"param": param, "grad": grad, "exp_avg": exp_avg, "exp_avg_sq": exp_avg_sq}
    for name, tensor in state.items():
        if tensor.shape != param.shape or tensor.ndim != 2:
            raise ValueError(f"{name}: expected [N, C] = {list(param.shape)}, got {list(tensor.shape)}")
    if tuple(row_steps.shape) != param.shape[:1] or row_steps.dtype != torch.int32:
        got = f"{list(row_steps.shape)} {row_steps.dtype}"
        raise ValueError(f"row_steps: expected [N={len(param)}] int32, got {got}")
    if backend == "reference":
        _sparse_adam_reference(param, grad, exp_avg, exp_avg_sq, row_steps, lr, betas, eps)
        return
    values: dict[str, Value] = {
        "parameter": param,
        "gradient": grad.contiguous(),
        "average": exp_avg,
        "square": exp_avg_sq,
    }
    values |= {"steps": row_steps}
    values |= {"rate": lr, "beta1": betas[0], "beta2": betas[1], "epsilon": eps}
    values |= {"points": param.shape[0], "channels": param.shape[1]}
    launch("sparse_adam", param.shape[0], values, param)


def _sparse_adam_reference(
    param: Tensor,
    grad: Tensor,
    exp_avg: Tensor,
    exp_avg_sq: Tensor,
    row_steps: Tensor,
    lr: float,
    betas: tuple[float, float],
    eps: float,
) -> None:
    """The oracle of the kernel."""
    rows = torch.nonzero((grad != 0).any(1))[:, 0]
    g = grad[rows]
    steps = row_steps[rows] + 1
    mean = exp_avg[rows].mul_(betas[0]).add_(g, alpha=1 - betas[0])
    square = exp_avg_sq[rows].mul_(betas[1]).addcmul_(g, g, value=1 - betas[1])
    count = steps[:, None].to(param.dtype)
    denominator = (square / (1 - betas[1] ** count)).sqrt_().add_(eps)
    param[rows] -= lr * (mean / (1 - betas[0] ** count)) / denominator
    row_steps[rows], exp_avg[rows], exp_avg_sq[rows] = steps, mean, square
