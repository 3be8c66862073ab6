"""The radiance that the outputs of the neural renderer's network stand for, as a registered operator."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adop.backend.arguments import RendererArguments, Values
from adop.backend.choice import Backend, choose_backend
from adop.backend.launch import each_view, launch
from adop.backend.operator import Gradients, Operator
from adop.ops.renderer.inputs import relative_light

MOST_CHANGE = 8.0  # of the picture's logarithm, as in kernels/renderer.cu


class OutputParts(NamedTuple):
    """The network's outputs, and what they change."""

    outputs: Tensor  # [B, 6, H, W]; with photos [B, 9, H, W]
    colours: Tensor  # [B, 3, H, W] points with holes filled, linear light
    brightness: Tensor  # [B]
    shown: Tensor | None  # [B, 8, H, W] what photos show


def _values(parts: OutputParts) -> Values:
    height, width = parts.colours.shape[2:]
    return {**parts._asdict(), "colours": [parts.colours], "height": height, "width": width}


def _empty_radiance(parts: OutputParts) -> Tensor:
    return torch.empty_like(parts.colours)


def _renderer_output(parts: OutputParts) -> Tensor:
    radiance = _empty_radiance(parts)
    series = each_view("renderer_output", len(radiance), radiance[0, 0].numel())
    launch(RendererArguments, series, {**_values(parts), "radiance": radiance}, radiance)
    return radiance


renderer_output_operator = Operator("adop::renderer_output", _renderer_output, _empty_radiance)


class OutputGradientInputs(NamedTuple):
    """The gradient of the radiance, and what it was made of."""

    grad: Tensor
    parts: OutputParts


class OutputGradients(NamedTuple):
    """Gradients of the network's outputs and of the points' colours."""

    outputs: Tensor
    colours: Tensor


def _empty_gradients(inputs: OutputGradientInputs) -> OutputGradients:
    return OutputGradients(torch.empty_like(inputs.parts.outputs), torch.empty_like(inputs.parts.colours))


def _renderer_output_backward(inputs: OutputGradientInputs) -> OutputGradients:
    parts, result = inputs.parts, _empty_gradients(inputs)
    values: Values = {
        **_values(parts),
        "grad_radiance": inputs.grad,
        "grad_outputs": result.outputs,
        "grad_colours": [result.colours],
    }
    series = each_view("renderer_output_backward", len(parts.colours), parts.colours[0, 0].numel())
    launch(RendererArguments, series, values, parts.colours)
    return result


renderer_output_backward_operator = Operator(
    "adop::renderer_output_backward", _renderer_output_backward, _empty_gradients
)


def _save(parts: OutputParts, radiance: Tensor) -> OutputParts:
    return parts


@renderer_output_operator.gradient(_save)
def _gradient(parts: OutputParts, grad: Tensor, needs: frozenset[str]) -> Gradients:
    return renderer_output_backward_operator(OutputGradientInputs(grad.contiguous(), parts))._asdict()


def renderer_output(
    outputs: Tensor, colours: Tensor, brightness: Tensor, shown: Tensor | None, backend: Backend = "auto"
) -> Tensor:
    """Return the radiance [B, 3, H, W], linear light, >= 0.

    It is `picture * exp(change) + brightness * offset`, where `picture` are the points, mixed with what photos show by
    shares that the network finds, too.

    Args:
        outputs: [B, 6, H, W] change (3) and offset (3); with photos [B, 9, H, W], then the logarithms of the shares of
            points, nearest photo and mean photo, before they are made to add up to 1.
        colours: [B, 3, H, W] points with holes filled, linear light.
        brightness: [B] linear light, > 0.
        shown: [B, 8, H, W] what photos show, see `adop.reprojection.reproject.reproject`; None: only points.

    **Gradients** exact to outputs and colours; none to the rest.
    """
    expected = 6 if shown is None else 9
    if outputs.shape[1] != expected:
        raise ValueError(f"outputs: expected {expected} channels, got {outputs.shape[1]}")
    seen = None if shown is None else shown.contiguous()
    parts = OutputParts(outputs.contiguous(), colours.contiguous(), brightness.contiguous(), seen)
    if choose_backend(backend, colours.device) == "reference":
        return _reference(parts)
    return renderer_output_operator(parts)


def _reference(parts: OutputParts) -> Tensor:
    """Return the radiance in plain torch."""
    brightness = parts.brightness[:, None, None, None]
    picture = parts.colours / brightness
    change, offset, *shares = parts.outputs.split(3, dim=1)
    if parts.shown is not None:
        nearest, any_, mean, _ = relative_light(parts.shown, brightness.log())
        of_points, of_nearest, of_mean = shares[0].softmax(1).unsqueeze(2).unbind(1)
        mixed = nearest.exp() * of_nearest + mean.exp() * of_mean + picture * of_points
        picture = picture.lerp(mixed, any_)
    bounded = change.clamp(-MOST_CHANGE, MOST_CHANGE)
    return brightness * (picture * bounded.exp() + offset).clamp_min(0)
