"""A picture beside a photo as a registered operator: the sums that losses are made of, with their adjoint."""

import functools
from typing import Any

import torch
from torch import Tensor

from adop.backend.launch import Value, each_view, launch_series, slots_for
from adop.backend.operator import differentiable
from adop.images.metrics import C1, C2, ssim_map, window
from adop.ops.types import Backend

EDGE = 10  # pixels that a full window takes away, as in compare.cu

_INPUTS = "Tensor image, Tensor target, Tensor mask, bool structure"


@functools.lru_cache(maxsize=8)
def _taps(dtype: torch.dtype, device: torch.device) -> Tensor:
    return window(EDGE + 1, torch.empty(0, dtype=dtype, device=device))[0].contiguous()


def _values(image: Tensor, target: Tensor, mask: Tensor) -> dict[str, Value]:
    return {
        "picture": image,
        "target": target,
        "mask": mask,
        "window": _taps(image.dtype, image.device),
        "height": image.shape[2],
        "width": image.shape[3],
        "stable1": C1,
        "stable2": C2,
    }


def _buffers(image: Tensor, structure: bool) -> tuple[Tensor, Tensor]:
    """Return grey pictures and the partial derivatives, whose edges must be zero."""
    views, _, height, width = image.shape
    size = (height + 2 * EDGE, width + 2 * EDGE) if structure else (0, 0)
    return image.new_empty(views, 2, height, width), image.new_zeros(views, 4, *size)


def _compare(image: Tensor, target: Tensor, mask: Tensor, structure: bool) -> tuple[Tensor, Tensor, Tensor]:
    views, _, height, width = image.shape
    slots = slots_for(height * width, image.device)
    grey, partial = _buffers(image, structure)
    sums = image.new_zeros(views, slots, 4)
    values = _values(image, target, mask) | {"sums": sums, "slots": slots, "grey": grey, "partial": partial}
    launch_series(each_view("compare_pixels", views, height * width), values, image)
    if structure:
        values |= {"row_sums": image.new_empty(views, 5, height, width)}
        launch_series(each_view("compare_rows", views, height * (width - EDGE)), values, image)
        launch_series(each_view("compare_columns", views, (height - EDGE) * (width - EDGE)), values, image)
    absolute, squared, clamped, counted = sums.sum(1, dtype=torch.float64).to(image.dtype).unbind(1)
    return torch.stack((absolute, squared, partial[:, 3].sum((1, 2)), clamped, counted), 1), grey, partial


compare_op = torch.library.custom_op(
    "adop::compare", _compare, mutates_args=(), schema=f"({_INPUTS}) -> (Tensor, Tensor, Tensor)"
)


@compare_op.register_fake
def _(image: Tensor, target: Tensor, mask: Tensor, structure: bool) -> tuple[Tensor, Tensor, Tensor]:
    return image.new_empty(len(image), 5), *_buffers(image, structure)


@torch.library.custom_op(
    "adop::compare_backward",
    mutates_args=(),
    schema=f"(Tensor grad, Tensor grey, Tensor partial, {_INPUTS}) -> Tensor",
)
def compare_backward_op(grad: Tensor, grey: Tensor, partial: Tensor, image: Tensor, *rest: Any) -> Tensor:
    target, mask, structure = rest
    views, _, height, width = image.shape
    result = torch.empty_like(image)
    values = _values(image, target, mask)
    values |= {"grey": grey, "partial": partial, "grad_sums": grad, "grad_picture": result}
    if structure:
        values |= {"row_partial": image.new_empty(views, 3, height, width + 2 * EDGE)}
        launch_series(
            each_view("compare_columns_backward", views, height * (width + 2 * EDGE)), values, image
        )
    launch_series(each_view("compare_rows_backward", views, height * width), values, image)
    return result


@compare_backward_op.register_fake
def _(grad: Tensor, grey: Tensor, partial: Tensor, image: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(image)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(*output[1:], *inputs[:3])
    ctx.structure = inputs[3]
    ctx.mark_non_differentiable(*output[1:])


def _backward(ctx: Any, grad: Tensor, *_: Any) -> tuple[Any, ...]:
    return compare_backward_op(grad[:, :3].contiguous(), *ctx.saved_tensors, ctx.structure), None, None, None


_call = differentiable(compare_op, _compare, _setup, _backward)


def compare(
    image: Tensor, target: Tensor, mask: Tensor, structure: bool, backend: Backend = "auto"
) -> Tensor:
    """Return the sums [B, 5] over the pixels of images [B, 3, H, W] against targets, weighted by a mask.

    They are, in turn: |difference|, its square, 1 - SSIM of the mean of the channels over the full windows whose
    centre is in the mask (0 unless `structure`), the square of the difference where the image is first clamped to
    [0, 1], and the mask itself.

    Args:
        mask: [B, 1, H, W].
        backend: "reference" is torch; anything else are kernels on the tensors' device.

    **Gradients** of the first three exact to the image, else none. **Source** of SSIM: Wang et al. 2004.
    """
    if backend == "reference":
        return _compare_reference(image, target, mask, structure)
    if structure and min(image.shape[2:]) <= EDGE:
        raise ValueError(f"image: SSIM needs more than {EDGE} pixels a side, got {list(image.shape[2:])}")
    parts = [part.to(image.dtype).contiguous() for part in (image, target, mask)]
    return _call(*parts, structure)[0]


def _compare_reference(image: Tensor, target: Tensor, mask: Tensor, structure: bool) -> Tensor:
    """The oracle of the kernels."""
    difference = image - target
    clamped = (image.detach().clamp(0, 1) - target).square()
    parts = [difference.abs() * mask, difference.square() * mask, clamped * mask, mask]
    absolute, squared, clamped, counted = (part.sum((1, 2, 3)) for part in parts)
    dissimilar = torch.zeros_like(absolute)
    if structure:
        grey, target_grey = image.mean(1, keepdim=True), target.mean(1, keepdim=True)
        half = EDGE // 2
        dissimilar = ((1 - ssim_map(grey, target_grey)) * mask[:, :, half:-half, half:-half]).sum((1, 2, 3))
    return torch.stack((absolute, squared, dissimilar, clamped, counted), 1)
