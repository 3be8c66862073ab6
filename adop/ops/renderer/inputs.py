"""What the neural renderer's network reads of a pyramid, as a registered operator: one pass over each level."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from adop.backend.arguments import RendererArguments, Values
from adop.backend.choice import Backend, choose_backend
from adop.backend.launch import Launch, launch
from adop.backend.operator import Gradients, Operator
from adop.ops.hole_filling import FilledPyramid
from adop.ops.types import Levels

SHOWN = 8  # channels of what photos show, see adop.reprojection.reproject


class InputSettings(NamedTuple):
    """Which channels the inputs have, and where they lie."""

    joined: bool  # whether `valid` and `occlusion` become one channel, their difference
    interleaved: bool  # whether a pixel's channels lie side by side (torch's channels last)


class PyramidParts(NamedTuple):
    """A pyramid with holes filled, finest level first."""

    images: list[Tensor]  # [B, C, H_l, W_l], the first three channels logarithms of colour
    valid: list[Tensor]  # [B, 1, H_l, W_l]
    occlusion: list[Tensor]  # [B, 1, H_l, W_l]
    colours: list[Tensor]  # [B, 3, H_l, W_l] linear light
    brightness: Tensor  # [B] light that all is relative to
    shown: Tensor | None  # [B, 8, H, W] what photos show
    settings: InputSettings


class RendererInputs(NamedTuple):
    """What the network reads."""

    finest: Tensor  # [B, M_0, H, W]
    coarser: list[Tensor]  # [B, M_l, H_l, W_l]

    def levels(self) -> list[Tensor]:
        """Return all levels, finest first."""
        return [self.finest, *self.coarser]


def input_channels(features: int, level: int, joined: bool, photos: bool) -> int:
    """Return M, how many channels the network reads of a level."""
    return features + (4 if joined else 5) + (SHOWN if photos and level == 0 else 0)


def _channels(parts: PyramidParts, level: int) -> int:
    features = parts.images[0].shape[1]
    return input_channels(features, level, parts.settings.joined, parts.shown is not None)


def _as_stored(tensor: Tensor, interleaved: bool) -> Tensor:
    """Return a tensor [B, C, H, W] as the kernels read it: contiguous, [B, H, W, C] where interleaved."""
    return (tensor.permute(0, 2, 3, 1) if interleaved else tensor).contiguous()


def _values(parts: PyramidParts) -> Values:
    _, channels, height, width = parts.images[0].shape
    return {
        "valid": parts.valid,
        "colours": parts.colours,
        "brightness": parts.brightness,
        "channels": channels,
        "height": height,
        "width": width,
        "joined": int(parts.settings.joined),
    }


def _series(kernel: str, parts: PyramidParts) -> list[Launch]:
    series = []
    for level, image in enumerate(parts.images):
        views, plane, count = len(image), image[0, 0].numel(), _channels(parts, level)
        steps = (1, count) if parts.settings.interleaved else (plane, 1)
        of_level = {"level": level, "input_channels": count, "channel_step": steps[0], "pixel_step": steps[1]}
        series += [Launch(kernel, plane, {**of_level, "view": view}) for view in range(views)]
    return series


def _empty_inputs(parts: PyramidParts) -> RendererInputs:
    layout = torch.channels_last if parts.settings.interleaved else torch.contiguous_format
    images = []
    for level, image in enumerate(parts.images):
        size = (len(image), _channels(parts, level), *image.shape[2:])
        images.append(torch.empty(size, dtype=image.dtype, device=image.device, memory_format=layout))
    return RendererInputs(images[0], images[1:])


def _renderer_inputs(parts: PyramidParts) -> RendererInputs:
    result = _empty_inputs(parts)
    values: Values = {
        **_values(parts),
        "image": parts.images,
        "occlusion": parts.occlusion,
        "shown": parts.shown,
        "inputs": [_as_stored(image, parts.settings.interleaved) for image in result.levels()],
    }
    launch(RendererArguments, _series("renderer_inputs", parts), values, parts.images[0])
    return result


renderer_inputs_operator = Operator("adop::renderer_inputs", _renderer_inputs, _empty_inputs)


class InputGradientInputs(NamedTuple):
    """Gradients of what the network reads, and what it was made of."""

    grads: list[Tensor]
    parts: PyramidParts


class InputGradients(NamedTuple):
    """Gradients of the levels' images and of the filled colours."""

    images: list[Tensor]
    colours: list[Tensor]


def _empty_gradients(inputs: InputGradientInputs) -> InputGradients:
    parts = inputs.parts
    return InputGradients(
        *([torch.empty_like(t) for t in tensors] for tensors in (parts.images, parts.colours))
    )


def _renderer_inputs_backward(inputs: InputGradientInputs) -> InputGradients:
    parts, result = inputs.parts, _empty_gradients(inputs)
    values: Values = {
        **_values(parts),
        "grad_inputs": [_as_stored(grad, parts.settings.interleaved) for grad in inputs.grads],
        "grad_image": result.images,
        "grad_colours": result.colours,
    }
    launch(RendererArguments, _series("renderer_inputs_backward", parts), values, parts.images[0])
    return result


renderer_inputs_backward_operator = Operator(
    "adop::renderer_inputs_backward", _renderer_inputs_backward, _empty_gradients
)


def _save(parts: PyramidParts, outputs: RendererInputs) -> PyramidParts:
    return parts


@renderer_inputs_operator.gradient(_save, of=("finest", "coarser"))
def _gradient(parts: PyramidParts, grads: RendererInputs, needs: frozenset[str]) -> Gradients:
    return renderer_inputs_backward_operator(InputGradientInputs(grads.levels(), parts))._asdict()


def renderer_inputs(
    levels: Levels,
    filled: FilledPyramid,
    brightness: Tensor,
    shown: Tensor | None,
    joined: bool,
    backend: Backend = "auto",
) -> list[Tensor]:
    """Return what the network reads of each level [B, M_l, H_l, W_l]; channels last on a CPU.

    Channels: the logarithm of the level's own colours relative to the brightness (3), 0 where holes are filled; its
    further features; `valid` and `occlusion`, or their difference; the filled colours relative to the brightness,
    compressed (3); and at the finest level what photos show (8), light relative to the brightness, 0 where none does.

    Args:
        levels: of features, the first three logarithms of colour.
        brightness: [B] linear light, > 0.
        shown: [B, 8, H, W] what photos show, see `adop.reprojection.reproject.reproject`; None: no such channels.
        joined: whether `valid` and `occlusion` become one channel.

    **Gradients** exact to features and filled colours; none to the rest.
    """
    lists = (levels.features, filled.valid, filled.occlusion, filled.colours)
    images, valid, occlusion, colours = ([tensor.contiguous() for tensor in tensors] for tensors in lists)
    settings = InputSettings(joined, interleaved=images[0].device.type == "cpu")
    seen = None if shown is None else shown.contiguous()
    parts = PyramidParts(images, valid, occlusion, colours, brightness.contiguous(), seen, settings)
    if choose_backend(backend, images[0].device) == "reference":
        return [_reference(parts, level) for level in range(len(images))]
    return renderer_inputs_operator(parts).levels()


def _reference(parts: PyramidParts, level: int) -> Tensor:
    """Return what the network reads of a level, in plain torch."""
    image, valid, occlusion = parts.images[level], parts.valid[level], parts.occlusion[level]
    brightness = parts.brightness[:, None, None, None]
    own = torch.where(valid > 0, image[:, :3] - brightness.log(), 0.0)
    covered = [valid - occlusion] if parts.settings.joined else [valid, occlusion]
    channels = [own, image[:, 3:], *covered, torch.log1p(parts.colours[level] / brightness)]
    if level == 0 and parts.shown is not None:
        channels += relative_light(parts.shown, brightness.log())
    layout = torch.channels_last if parts.settings.interleaved else torch.contiguous_format
    return torch.cat(channels, 1).contiguous(memory_format=layout)


def relative_light(shown: Tensor, log_brightness: Tensor) -> Sequence[Tensor]:
    """Return what photos show: logarithms of light relative to the brightness, 0 where none does, and where any does."""
    nearest, any_, mean, share = shown.split((3, 1, 3, 1), dim=1)
    return (nearest - log_brightness) * any_, any_, (mean - log_brightness) * any_, share
