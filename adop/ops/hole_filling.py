"""The base picture as a registered operator: holes filled from coarser levels, in one pass per level."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.backend.launch import Launch, Value, launch_series
from adop.backend.operator import differentiable

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


def _launch(kernel: str, level: int, images: list[Tensor]) -> Launch:
    return Launch(kernel, images[level][:, 0].numel(), {"level": level})


def _half_way(images: list[Tensor], levels: range, other: int) -> list[Tensor | None]:
    """Return room for pictures of the rows of these levels and the columns of the level `other` further."""
    result: list[Tensor | None] = [None] * len(images)
    for level in levels:
        views, _, rows, _ = images[level].shape
        result[level] = images[level].new_empty(views, 3, rows, images[level + other].shape[3])
    return result


def _planes(images: list[Tensor], channels: int) -> list[Tensor]:
    return [image.new_empty(image.shape[0], channels, *image.shape[2:]) for image in images]


def _base_picture(
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
    half_way = _half_way(images, range(int(values["fill_levels"]) - 1), 1)  # type: ignore[arg-type]
    values |= {"half_way": half_way}
    series = []
    for level in reversed(range(len(images))):
        series.append(_launch("base_surface", level, images))
        room = half_way[level]
        if room is not None:
            series.append(Launch("base_upsample", room.numel(), {"level": level}))
        series.append(_launch("base_colours", level, images))
    launch_series(series, values, images[0])
    return colours, valid, behind


base_picture_op = torch.library.custom_op(
    "adop::fill_holes",
    _base_picture,
    mutates_args=(),
    schema=f"({_INPUTS}, {_SETTINGS}) -> (Tensor[], Tensor[], Tensor[])",
)


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
    half_way = _half_way(images, range(1, int(values["fill_levels"])), -1)  # type: ignore[arg-type]
    values |= {"half_way": half_way}
    series = []
    for level, room in enumerate(half_way):
        if room is not None:
            series.append(Launch("base_gather", room.numel(), {"level": level}))
        series.append(_launch("base_backward", level, images))
    launch_series(series, values, images[0])
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
    ctx.mark_non_differentiable(*output[1], *output[2])
    ctx.levels, ctx.looks, ctx.settings = len(inputs[0]), len(inputs[1]) > 0, inputs[4:]


def _backward(ctx: Any, grads: list[Tensor], *_: Any) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    parts = [list(saved[i * ctx.levels : (i + 1) * ctx.levels]) for i in range(3)]
    dense = [grad.contiguous() for grad in grads]
    shown, behind = base_picture_backward_op(dense, *parts, ctx.looks, *ctx.settings)
    none = [None] * ctx.levels
    return shown, behind, none, none, None, None, None


_call = differentiable(base_picture_op, _base_picture, _setup, _backward)


def fill_holes(
    images: list[Tensor],
    weights: list[Tensor],
    depths: list[Tensor],
    background: list[Tensor] | None,
    fill_levels: int,
    occlusion_levels: int,
    tolerance: float,
) -> Outputs:
    """Return colours, valid and behind of `adop.model.hole_filling.fill_holes`, by the kernels.

    Args:
        images: L x [B, C, H_l, W_l], the first three channels logarithms.
        background: L x [B, 3, H_l, W_l] linear light; None is what the images show.

    **Gradients** of the colours exact to images and background.
    """
    parts = [[tensor.contiguous() for tensor in part] for part in (images, background or [], weights, depths)]
    return _call(*parts, fill_levels, occlusion_levels, tolerance)
