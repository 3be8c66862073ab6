"""The physical camera as a registered operator: gain, vignette and response in one pass, with its adjoint."""

from typing import Any

import torch
from torch import Tensor

from adop.backend.launch import Value, each_view, launch_series, slots_for
from adop.backend.operator import differentiable

_INPUTS = (
    "Tensor radiance, Tensor gain, Tensor curve, Tensor vignette, Tensor crop, Tensor photo_size, float leak"
)


def _values(
    radiance: Tensor, gain: Tensor, curve: Tensor, vignette: Tensor, crop: Tensor, *rest: Any
) -> dict[str, Value]:
    return {
        "radiance": radiance,
        "gain": gain,
        "curve": curve,
        "vignette": vignette,
        "crop": crop,
        "photo_size": rest[0],
        "leak": rest[1],
        "samples": curve.shape[2],
        "height": radiance.shape[2],
        "width": radiance.shape[3],
    }


def _take_photo(radiance: Tensor, *rest: Any) -> Tensor:
    photo = torch.empty_like(radiance)
    values = _values(radiance, *rest) | {"photo": photo, "slopes": torch.empty_like(radiance)}
    launch_series(each_view("photo_forward", len(radiance), radiance[0, 0].numel()), values, radiance)
    return photo


take_photo_op = torch.library.custom_op(
    "adop::take_photo", _take_photo, mutates_args=(), schema=f"({_INPUTS}) -> Tensor"
)


@take_photo_op.register_fake
def _(radiance: Tensor, *rest: Any) -> Tensor:
    return torch.empty_like(radiance)


@torch.library.custom_op(
    "adop::take_photo_backward", mutates_args=(), schema=f"(Tensor grad, {_INPUTS}) -> (Tensor, Tensor)"
)
def take_photo_backward_op(grad: Tensor, radiance: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    pixels, samples = radiance[0, 0].numel(), rest[1].shape[2]
    slots = slots_for(pixels, radiance.device)
    grad_radiance = torch.empty_like(radiance)
    sums = radiance.new_zeros(len(radiance), slots, 8 + 3 * samples)
    values = _values(radiance, *rest) | {"grad_photo": grad, "grad_radiance": grad_radiance}
    values |= {"sums": sums, "slots": slots, "places": torch.empty_like(radiance)}
    values |= {"slopes": torch.empty_like(radiance)}
    launch_series(each_view("photo_backward", len(radiance), pixels), values, radiance)
    return grad_radiance, sums.sum(1, dtype=torch.float64).to(radiance.dtype)


@take_photo_backward_op.register_fake
def _(grad: Tensor, radiance: Tensor, *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(radiance), radiance.new_empty(len(radiance), 8 + 3 * rest[1].shape[2])


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs[:6])
    ctx.leak = inputs[6]


def _backward(ctx: Any, grad: Tensor) -> tuple[Any, ...]:
    saved = ctx.saved_tensors
    grad_radiance, sums = take_photo_backward_op(grad.contiguous(), *saved, ctx.leak)
    curve = sums[:, 8:].reshape(saved[2].shape)
    return grad_radiance, sums[:, :3], curve, sums[:, 3:8], None, None, None


_call = differentiable(take_photo_op, _take_photo, _setup, _backward)


def take_photo(
    radiance: Tensor,
    gain: Tensor,
    curve: Tensor,
    vignette: Tensor | None,
    crop: Tensor,
    photo_size: Tensor,
    leak: float = 0.0,
) -> Tensor:
    """Return what a camera makes of `radiance` [B, 3, H, W]: gain, vignette, then the response.

    Args:
        gain: [B, 3] factor of each channel.
        curve: [B, 3, K] response over evenly spaced sRGB-encoded light.
        vignette: [B, 5] coefficients of r2, r4 and r6 and the centre, half diagonals; None leaves it out.
        crop: [B, 3] zoom and offset of the picture on the whole photo.
        photo_size: [B, 2] width and height of the whole photo.
        leak: slope that values outside [0, 1] keep.

    **Gradients** exact to radiance, gain, curve and vignette. **Source** ADOP section 5.
    """
    if vignette is None:
        vignette = gain.new_zeros(len(gain), 5)
    parts = (part.to(radiance.dtype).contiguous() for part in (gain, curve, vignette, crop, photo_size))
    return _call(radiance.contiguous(), *parts, leak)
