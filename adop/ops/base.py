"""The base picture as a registered operator: holes filled from coarser levels, in one pass per level."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.ops.launch import Value, launch_series

REACH = 2  # as in base.cu

_INPUTS = "Tensor[] images, Tensor[] background, Tensor[] weights, Tensor[] depths"
_SETTINGS = "int fill_levels, int occlusion_levels, float tolerance"
Outputs = tuple[list[Tensor], list[Tensor], list[Tensor]]


def _values(
    images: list[Tensor], fill_levels: int, occlusion_levels: int, tolerance: float
) -> dict[str, Value]:
    return {
        "views": images[0].shape[0],
        "channels": images[0].shape[1],
        "height": images[0].shape[2],
        "width": images[0].shape[3],
        "levels": len(images),
        "fill_levels": min(fill_levels, len(images)),
        "occlusion_levels": occlusion_levels,
        "occlusion_tolerance": tolerance,
    }


def _series(images: list[Tensor]) -> list[tuple[int, dict[str, int]]]:
    """Return the launches, finest level first."""
    return [(image[:, 0].numel(), {"level": level}) for level, image in enumerate(images)]


def _planes(images: list[Tensor], channels: int) -> list[Tensor]:
    return [image.new_empty(image.shape[0], channels, *image.shape[2:]) for image in images]


@torch.library.custom_op(
    "adop::base_picture",
    mutates_args=(),
    schema=f"({_INPUTS}, {_SETTINGS}) -> (Tensor[], Tensor[], Tensor[])",
)
def base_picture_op(
    images: list[Tensor],
    background: list[Tensor],
    weights: list[Tensor],
    depths: list[Tensor],
    fill_levels: int,
    occlusion_levels: int,
    tolerance: float,
) -> Outputs:
    colours, valid, behind, surface = (_planes(images, channels) for channels in (3, 1, 1, 1))
    values = _values(images, fill_levels, occlusion_levels, tolerance)
    values |= {"image": images, "weight": weights, "depth": depths, "background": background}
    values |= {"colours": colours, "valid": valid, "behind": behind, "surface": surface}
    values |= {"padded": [F.pad(depth, [REACH] * 4, value=torch.inf) for depth in depths[:occlusion_levels]]}
    for kernel in ("base_surface", "base_colours"):
        launch_series(kernel, _series(images)[::-1], values, images[0])
    return colours, valid, behind


@base_picture_op.register_fake
def _(images: list[Tensor], *rest: Any) -> Outputs:
    return _planes(images, 3), _planes(images, 1), _planes(images, 1)


@torch.library.custom_op(
    "adop::base_picture_backward",
    mutates_args=(),
    schema=f"(Tensor[] grads, Tensor[] colours, Tensor[] valid, Tensor[] images, bool looks, {_SETTINGS})"
    " -> (Tensor[], Tensor[])",
)
def base_picture_backward_op(
    grads: list[Tensor],
    colours: list[Tensor],
    valid: list[Tensor],
    images: list[Tensor],
    looks: bool,
    *settings: Any,
) -> tuple[list[Tensor], list[Tensor]]:
    shown, passed = [torch.empty_like(image) for image in images], _planes(images, 3)
    behind = [plane.zero_() for plane in _planes(images, 3)] if looks else []
    values = _values(images, *settings)
    values |= {"grad_colours": grads, "colours": colours, "valid": valid}
    values |= {"grad_shown": shown, "grad_behind": behind, "passed": passed}
    launch_series("base_backward", _series(images), values, images[0])
    return shown, behind


@base_picture_backward_op.register_fake
def _(
    grads: list[Tensor],
    colours: list[Tensor],
    valid: list[Tensor],
    images: list[Tensor],
    looks: bool,
    *settings: Any,
) -> tuple[list[Tensor], list[Tensor]]:
    return [torch.empty_like(image) for image in images], _planes(images, 3) if looks else []


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    ctx.save_for_backward(*output[0], *output[1], *inputs[0])
    ctx.levels, ctx.looks, ctx.settings = len(inputs[0]), len(inputs[1]) > 0, inputs[4:]


def _backward(ctx: Any, grads: list[Tensor], *_: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    parts = [list(saved[i * ctx.levels : (i + 1) * ctx.levels]) for i in range(3)]
    dense = [grad.contiguous() for grad in grads]
    shown, behind = base_picture_backward_op(dense, *parts, ctx.looks, *ctx.settings)
    none = [None] * ctx.levels
    return shown, behind, none, none, None, None, None


base_picture_op.register_autograd(_backward, setup_context=_setup)


def base_picture(
    images: list[Tensor],
    weights: list[Tensor],
    depths: list[Tensor],
    background: list[Tensor] | None,
    fill_levels: int,
    occlusion_levels: int,
    tolerance: float,
) -> Outputs:
    """Return colours, valid and behind of `adop.base.base_picture`, by the kernels.

    Args:
        images: L x [B, C, H_l, W_l], the first three channels logarithms.
        background: L x [B, 3, H_l, W_l] linear light; None is what the images show.

    **Gradients** of the colours exact to images and background.
    """
    parts = [[tensor.contiguous() for tensor in part] for part in (images, background or [], weights, depths)]
    colours, valid, behind = base_picture_op(*parts, fill_levels, occlusion_levels, tolerance)
    return colours, [v.detach() for v in valid], [b.detach() for b in behind]
