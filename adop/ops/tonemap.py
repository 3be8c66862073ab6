"""The physical camera as a registered operator: gain, vignette and response in one pass, with its adjoint."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from adop.backend.arguments import TonemapArguments, Values
from adop.backend.choice import Backend, choose_backend
from adop.backend.launch import each_view, launch, slots_for
from adop.backend.operator import Gradients, Operator


@dataclass(frozen=True)
class PhysicalCamera:
    """How the camera of each view turns radiance into a photo."""

    gain: Tensor  # [B, 3] factor of each channel
    curve: Tensor  # [B, 3, K] response at evenly spaced values of sRGB-encoded light
    # [B, 5] coefficients of r2, r4, r6 and the centre, in half diagonals; None: no vignette.
    vignette: Tensor | None
    crop: Tensor  # [B, 3] zoom and offset of the image on the full photo
    photo_size: Tensor  # [B, 2] width and height of the full photo
    leak: float = 0.0  # slope that light outside [0, 1] keeps


class TonemapInputs(NamedTuple):
    """Radiance and a PhysicalCamera, contiguous and of one precision."""

    radiance: Tensor  # [B, 3, H, W]
    gain: Tensor
    curve: Tensor
    vignette: Tensor
    crop: Tensor
    photo_size: Tensor
    leak: float


def _values(inputs: TonemapInputs) -> Values:
    _, _, height, width = inputs.radiance.shape
    return {**inputs._asdict(), "samples": inputs.curve.shape[2], "height": height, "width": width}


def _empty_photo(inputs: TonemapInputs) -> Tensor:
    return torch.empty_like(inputs.radiance)


def _tonemap(inputs: TonemapInputs) -> Tensor:
    radiance, photo = inputs.radiance, _empty_photo(inputs)
    values: Values = {**_values(inputs), "photo": photo, "slopes": torch.empty_like(radiance)}
    series = each_view("tonemap_forward", len(radiance), radiance[0, 0].numel())
    launch(TonemapArguments, series, values, radiance)
    return photo


tonemap_operator = Operator("adop::tonemap", _tonemap, _empty_photo)


class TonemapGradientInputs(NamedTuple):
    """The gradient of a photo, and what it was made of."""

    grad: Tensor
    inputs: TonemapInputs


class TonemapGradients(NamedTuple):
    """Gradients of the radiance and of the camera."""

    radiance: Tensor  # [B, 3, H, W]
    camera: Tensor  # [B, 8 + 3 K] of gain, vignette and curve, concatenated


def _empty_gradients(inputs: TonemapGradientInputs) -> TonemapGradients:
    radiance, samples = inputs.inputs.radiance, inputs.inputs.curve.shape[2]
    return TonemapGradients(torch.empty_like(radiance), radiance.new_empty(len(radiance), 8 + 3 * samples))


def _tonemap_backward(inputs: TonemapGradientInputs) -> TonemapGradients:
    radiance, samples = inputs.inputs.radiance, inputs.inputs.curve.shape[2]
    pixels = radiance[0, 0].numel()
    slots = slots_for(pixels, radiance.device)
    grad_radiance = torch.empty_like(radiance)
    sums = radiance.new_zeros(len(radiance), slots, 8 + 3 * samples)
    values: Values = {
        **_values(inputs.inputs),
        "grad_photo": inputs.grad,
        "grad_radiance": grad_radiance,
        "sums": sums,
        "slots": slots,
        "positions": torch.empty_like(radiance),
        "slopes": torch.empty_like(radiance),
    }
    launch(TonemapArguments, each_view("tonemap_backward", len(radiance), pixels), values, radiance)
    return TonemapGradients(grad_radiance, sums.sum(1, dtype=torch.float64).to(radiance.dtype))


tonemap_backward_operator = Operator("adop::tonemap_backward", _tonemap_backward, _empty_gradients)


def _save(inputs: TonemapInputs, output: Tensor) -> TonemapInputs:
    return inputs


@tonemap_operator.gradient(_save)
def _gradient(saved: TonemapInputs, grad: Tensor, needs: frozenset[str]) -> Gradients:
    result = tonemap_backward_operator(TonemapGradientInputs(grad.contiguous(), saved))
    gain, vignette, curve = result.camera[:, :3], result.camera[:, 3:8], result.camera[:, 8:]
    return {
        "radiance": result.radiance,
        "gain": gain,
        "curve": curve.reshape(saved.curve.shape),
        "vignette": vignette,
    }


def tonemap_photo(radiance: Tensor, camera: PhysicalCamera, backend: Backend) -> Tensor:
    """Return the photo [B, 3, H, W] that a camera takes of `radiance` [B, 3, H, W]: gain, vignette, then response.

    **Gradients** exact to radiance, gain, curve and vignette. **Source** Rückert et al. 2022, ADOP, section 5.
    """
    if choose_backend(backend, radiance.device) == "reference":
        return _tonemap_reference(radiance, camera)
    vignette = camera.gain.new_zeros(len(camera.gain), 5) if camera.vignette is None else camera.vignette
    parts = (camera.gain, camera.curve, vignette, camera.crop, camera.photo_size)
    gain, curve, vignette, crop, size = (part.to(radiance.dtype).contiguous() for part in parts)
    inputs = TonemapInputs(radiance.contiguous(), gain, curve, vignette, crop, size, camera.leak)
    return tonemap_operator(inputs)


def _tonemap_reference(radiance: Tensor, camera: PhysicalCamera) -> Tensor:
    """Take the photo in plain torch."""
    light = radiance * camera.gain[:, :, None, None]
    if camera.vignette is not None:
        light = light * _vignette(camera, camera.vignette, (radiance.shape[2], radiance.shape[3]))
    samples = camera.curve.shape[2]
    position = srgb_encode(light.clamp(0, 1)) * (samples - 1)
    below = position.detach().floor().clamp(0, samples - 2).nan_to_num(samples - 2)
    index = below.long().flatten(2)
    low, high = (camera.curve.gather(2, i).reshape(light.shape) for i in (index, index + 1))
    photo = low + (high - low) * (position - below)
    if camera.leak:
        photo = photo + camera.leak * light.clamp_max(0) + camera.leak * (1 - light.clamp_min(1).rsqrt())
    return photo


def _vignette(camera: PhysicalCamera, vignette: Tensor, size: tuple[int, int]) -> Tensor:
    """Return the vignette's factor [B, 1, H, W] of each pixel."""
    v, u = torch.meshgrid(*(torch.arange(count).to(vignette) + 0.5 for count in size), indexing="ij")
    crop, photo_size = camera.crop[:, :, None, None], camera.photo_size[:, :, None, None]
    full = (torch.stack((u, v))[None] + crop[:, 1:]) / crop[:, :1]
    half_diagonal = photo_size.square().sum(1, keepdim=True).sqrt() / 2
    position = (full - photo_size / 2) / half_diagonal
    a, b, c = (vignette[:, i, None, None, None] for i in range(3))
    r2 = (position - vignette[:, 3:, None, None]).square().sum(1, keepdim=True)
    return 1 + r2 * (a + r2 * (b + r2 * c))


def srgb_encode(linear: Tensor) -> Tensor:
    """Return the sRGB value of linear light; values outside [0, 1] follow the same formula."""
    low = linear <= 0.0031308
    safe = torch.where(low, torch.ones_like(linear), linear)
    return torch.where(low, 12.92 * linear, 1.055 * safe.pow(1 / 2.4) - 0.055)
