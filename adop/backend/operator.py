"""Registered operators with gradients, called past torch's dispatcher where nothing traces them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor


def differentiable(
    operator: Any, kernel: Callable[..., Any], setup: Callable[..., None], backward: Callable[..., Any]
) -> Callable[..., Any]:
    """Register the gradient of `operator`, which runs `kernel`, and return the function to call it by.

    While `torch.compile` traces, that function is the operator. Otherwise it is `kernel` with the same gradient: the
    dispatcher and its lists of tensors cost more than small pictures take to draw.

    Args:
        setup, backward: as `torch.library.register_autograd` takes them. Gradients of outputs that `setup` does not
            mark as non-differentiable are never None.
    """
    operator.register_autograd(backward, setup_context=setup)

    def call(*inputs: Any) -> Any:
        if torch.compiler.is_compiling():
            return operator(*inputs)
        flat, layout = _flatten(inputs)
        if not (torch.is_grad_enabled() and any(isinstance(x, Tensor) and x.requires_grad for x in flat)):
            return kernel(*inputs)
        returned: list[int | None] = []
        output = _Direct.apply(kernel, setup, backward, layout, returned, *flat)
        return output if isinstance(output, Tensor) else tuple(_unflatten(output, returned))

    return call


class _Direct(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, kernel: Any, setup: Any, backward: Any, layout: Any, returned: Any, *flat: Any
    ) -> Any:
        inputs = tuple(_unflatten(flat, layout))
        output = kernel(*inputs)
        setup(ctx, inputs, output)
        ctx.formula, ctx.layout, ctx.returned = backward, layout, returned
        if isinstance(output, Tensor):
            return output
        tensors, shape = _flatten(output)
        returned.extend(shape)
        return tuple(tensors)

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> tuple[Any, ...]:
        whole = ctx.needs_input_grad
        ctx.needs_input_grad = tuple(_unflatten(whole[5:], ctx.layout))
        result = ctx.formula(ctx, *(_unflatten(grads, ctx.returned) if ctx.returned else grads))
        ctx.needs_input_grad = whole
        return (None,) * 5 + tuple(_flatten(result if isinstance(result, tuple) else (result,))[0])


def _flatten(values: Sequence[Any]) -> tuple[list[Any], list[int | None]]:
    """Return the values with lists spread out, and the lengths of the lists; None is no list."""
    flat: list[Any] = []
    layout: list[int | None] = []
    for value in values:
        spread = isinstance(value, list) and all(x is None or isinstance(x, Tensor) for x in value)
        flat += value if spread else [value]
        layout.append(len(value) if spread else None)
    return flat, layout


def _unflatten(flat: Sequence[Any], layout: Sequence[int | None]) -> list[Any]:
    values, at = [], 0
    for length in layout:
        values.append(flat[at] if length is None else list(flat[at : at + length]))
        at += 1 if length is None else length
    return values
