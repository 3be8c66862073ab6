"""The image loss as a registered operator: the sums that losses between images and photos are made of."""

from __future__ import annotations

import functools
from typing import NamedTuple

import torch
from torch import Tensor

from adop.backend.arguments import ImageLossArguments, Values
from adop.backend.choice import Backend, choose_backend
from adop.backend.launch import each_view, launch, slots_for
from adop.backend.operator import Gradients, Operator
from adop.images.metrics.psnr_ssim import C1, C2, ssim_map, window

EDGE = 10  # pixels by which an image of full windows is smaller, as in image_loss.cu


class ImageLossInputs(NamedTuple):
    """Images and photos, contiguous and of one precision."""

    image: Tensor  # [B, 3, H, W]
    target: Tensor  # [B, 3, H, W]
    mask: Tensor  # [B, 1, H, W]
    structure: bool  # whether SSIM is computed


class ImageLossTensors(NamedTuple):
    """The sums, and what their gradient needs."""

    sums: Tensor  # [B, 5], see image_loss_sums
    grey: Tensor  # [B, 2, H, W] means of the channels of image and target
    partial: Tensor  # [B, 4, H + 2 EDGE, W + 2 EDGE] derivatives of SSIM, see image_loss.cu


@functools.lru_cache(maxsize=8)
def _taps(dtype: torch.dtype, device: torch.device) -> Tensor:
    return window(EDGE + 1, torch.empty(0, dtype=dtype, device=device))[0].contiguous()


def _values(inputs: ImageLossInputs) -> Values:
    image = inputs.image
    return {
        "image": image,
        "target": inputs.target,
        "mask": inputs.mask,
        "window": _taps(image.dtype, image.device),
        "height": image.shape[2],
        "width": image.shape[3],
        "ssim_c1": C1,
        "ssim_c2": C2,
    }


def _empty_tensors(inputs: ImageLossInputs) -> ImageLossTensors:
    """Return room for the outputs; the partial derivatives are 0, as their edges must be."""
    views, _, height, width = inputs.image.shape
    padded = (height + 2 * EDGE, width + 2 * EDGE) if inputs.structure else (0, 0)
    new_empty, new_zeros = inputs.image.new_empty, inputs.image.new_zeros
    return ImageLossTensors(
        new_empty(views, 5), new_empty(views, 2, height, width), new_zeros(views, 4, *padded)
    )


def _image_loss(inputs: ImageLossInputs) -> ImageLossTensors:
    image = inputs.image
    views, _, height, width = image.shape
    slots = slots_for(height * width, image.device)
    _, grey, partial = _empty_tensors(inputs)
    sums, row_sums = image.new_zeros(views, slots, 4), None
    series = each_view("image_loss_pixels", views, height * width)
    if inputs.structure:
        row_sums = image.new_empty(views, 5, height, width)
        series += each_view("image_loss_rows", views, height * (width - EDGE))
        series += each_view("image_loss_columns", views, (height - EDGE) * (width - EDGE))
    buffers: Values = {"sums": sums, "slots": slots, "grey": grey, "partial": partial, "row_sums": row_sums}
    launch(ImageLossArguments, series, {**_values(inputs), **buffers}, image)
    absolute, squared, clamped, counted = sums.sum(1, dtype=torch.float64).to(image.dtype).unbind(1)
    total = torch.stack((absolute, squared, partial[:, 3].sum((1, 2)), clamped, counted), 1)
    return ImageLossTensors(total, grey, partial)


image_loss_operator = Operator("adop::image_loss", _image_loss, _empty_tensors)


class ImageLossGradientInputs(NamedTuple):
    """The gradient of the sums, and what they were made of."""

    grad: Tensor  # [B, 3]
    grey: Tensor
    partial: Tensor
    inputs: ImageLossInputs


def _empty_gradient(inputs: ImageLossGradientInputs) -> Tensor:
    return torch.empty_like(inputs.inputs.image)


def _image_loss_backward(inputs: ImageLossGradientInputs) -> Tensor:
    image, result, row_partial = inputs.inputs.image, _empty_gradient(inputs), None
    views, _, height, width = image.shape
    series = each_view("image_loss_rows_backward", views, height * width)
    if inputs.inputs.structure:
        row_partial = image.new_empty(views, 3, height, width + 2 * EDGE)
        series = each_view("image_loss_columns_backward", views, height * (width + 2 * EDGE)) + series
    buffers: Values = {"grey": inputs.grey, "partial": inputs.partial, "row_partial": row_partial}
    gradients: Values = {"grad_sums": inputs.grad, "grad_image": result}
    launch(ImageLossArguments, series, {**_values(inputs.inputs), **buffers, **gradients}, image)
    return result


image_loss_backward_operator = Operator("adop::image_loss_backward", _image_loss_backward, _empty_gradient)


class _SavedLoss(NamedTuple):
    grey: Tensor
    partial: Tensor
    inputs: ImageLossInputs


def _save(inputs: ImageLossInputs, outputs: ImageLossTensors) -> _SavedLoss:
    return _SavedLoss(outputs.grey, outputs.partial, inputs)


@image_loss_operator.gradient(_save, of=("sums",))
def _gradient(saved: _SavedLoss, grads: ImageLossTensors, needs: frozenset[str]) -> Gradients:
    grad = grads.sums[:, :3].contiguous()
    return {"image": image_loss_backward_operator(ImageLossGradientInputs(grad, *saved))}


def image_loss_sums(image: Tensor, target: Tensor, mask: Tensor, structure: bool, backend: Backend) -> Tensor:
    """Return sums [B, 5] over the pixels of images [B, 3, H, W] against targets, weighted by a mask [B, 1, H, W].

    They are, in this order: |difference|; its square; 1 - SSIM of the mean of the channels, over the full windows whose
    centre is in the mask (0 unless `structure`); the square of the difference after clamping the image to [0, 1]; and
    the mask itself.

    **Gradients** of the first three exact to the image, else none. **Source** of SSIM: Wang et al. 2004.
    """
    if choose_backend(backend, image.device) == "reference":
        return _image_loss_reference(image, target, mask, structure)
    if structure and min(image.shape[2:]) <= EDGE:
        raise ValueError(f"image: SSIM needs more than {EDGE} pixels a side, got {list(image.shape[2:])}")
    dense = [part.to(image.dtype).contiguous() for part in (image, target, mask)]
    return image_loss_operator(ImageLossInputs(dense[0], dense[1], dense[2], structure)).sums


def _image_loss_reference(image: Tensor, target: Tensor, mask: Tensor, structure: bool) -> Tensor:
    """Compute the sums in plain torch."""
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
