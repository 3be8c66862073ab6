"""The neural renderer: a network that turns the pyramid into radiance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adop.config import NetworkConfig
from adop.model.hole_filling import FilledPyramid, upsample
from adop.ops import Backend, Levels
from adop.ops.renderer.inputs import SHOWN, input_channels, renderer_inputs
from adop.ops.renderer.output import renderer_output


class GatedConv(nn.Module):
    """Multiply a 3x3 convolution by a sigmoid gate; both are halves of one convolution.

    ELU or no activation, no normalisation.

    Source: gated convolution (Yu et al. 2019), as used in ADOP (Rückert et al. 2022).
    """

    def __init__(self, inputs: int, outputs: int, activation: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 2 * outputs, 3, padding=1)
        self.activation = activation

    def forward(self, *parts: Tensor) -> Tensor:
        """Return [B, outputs, H, W] from parts [B, C_i, H, W], whose channels add up to `inputs`."""
        if parts[0].device.type == "cpu":
            value, gate = self._apart(parts)
        else:
            value, gate = self.convolution(torch.cat(parts, dim=1)).chunk(2, dim=1)
        return (F.elu(value) if self.activation else value) * torch.sigmoid(gate)

    def _apart(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return value and gate, each the sum of the parts' own convolutions.

        On a CPU, in channels-last layout, this is faster than to concatenate the parts and split the result.
        """
        assert self.convolution.bias is not None
        weight, bias = (p.to(parts[0].dtype) for p in (self.convolution.weight, self.convolution.bias))
        halves = []
        for rows, constant in zip(weight.chunk(2), bias.chunk(2), strict=True):
            first, *rest = rows.split([part.shape[1] for part in parts], dim=1)
            half = F.conv2d(parts[0], first, constant, padding=1)
            for part, own in zip(parts[1:], rest, strict=True):
                half = half + F.conv2d(part, own, padding=1)
            halves.append(half)
        return halves


class LightDecoder(nn.Module):
    """Go from coarse to fine: a convolution of each level's inputs, and one of what the coarser level has found.

    The latter works at the coarser level's size and its result is enlarged, which takes a quarter of the time. Without
    gates, and wider instead, it shows as much as `Decoder` in less than half of the time.
    """

    def __init__(self, channels: list[int], width: int, outputs: int) -> None:
        super().__init__()
        self.levels = nn.ModuleList(nn.Conv2d(count, width, 3, padding=1) for count in channels)
        self.coarser = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1, bias=False) for _ in channels[1:])
        self.final = nn.Conv2d(width, outputs, 1)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Return [B, outputs, H, W] from the levels' inputs [B, C_l, H_l, W_l], finest first."""
        hidden = self.levels[-1](inputs[-1]).relu_()
        for level in reversed(range(len(inputs) - 1)):
            found = _upsample(self.coarser[level](hidden), inputs[level])
            hidden = self.levels[level](inputs[level]).add_(found).relu_()
        return self.final(hidden)


class Decoder(nn.Module):
    """Go from coarse to fine: upsample, concatenate the level's inputs, apply one gated convolution.

    Source: the decoder of TRIPS (Franke et al. 2024), narrower.
    """

    def __init__(self, channels: list[int], width: int, outputs: int) -> None:
        super().__init__()
        coarsest = len(channels) - 1
        self.levels = nn.ModuleList(
            GatedConv(count + (width if level < coarsest else 0), width)
            for level, count in enumerate(channels)
        )
        self.final = nn.Conv2d(width, outputs, 1)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Return [B, outputs, H, W] from the levels' inputs [B, C_l, H_l, W_l], finest first."""
        hidden = self.levels[-1](inputs[-1])
        for level in reversed(range(len(inputs) - 1)):
            hidden = _upsample(hidden, inputs[level])
            hidden = self.levels[level](hidden, inputs[level])
        return self.final(hidden)


class UNet(nn.Module):
    """Apply the paper's multi-scale U-Net to the four finest levels.

    Each level's inputs are concatenated on the way down, skip connections on the way up.

    Source: the neural renderer of ADOP (Rückert et al. 2022); 574,651 parameters with width 16 and 4 channels.
    """

    def __init__(self, channels: list[int], width: int, outputs: int) -> None:
        super().__init__()
        self.depth = min(4, len(channels))
        widths = [width * 2**level for level in range(self.depth)]
        self.start = GatedConv(channels[0], widths[0])
        self.down = nn.ModuleList(
            GatedConv(widths[i - 1], widths[i] - channels[i]) for i in range(1, self.depth)
        )
        self.up = nn.ModuleList(GatedConv(widths[i], widths[i - 1], False) for i in range(1, self.depth))
        self.merge = nn.ModuleList(GatedConv(2 * widths[i - 1], widths[i - 1]) for i in range(1, self.depth))
        self.final = nn.Conv2d(width, outputs, 1)

    def forward(self, inputs: list[Tensor]) -> Tensor:
        """Return [B, outputs, H, W] from the levels' inputs [B, C_l, H_l, W_l], finest first."""
        skips = [self.start(inputs[0])]
        for level, block in enumerate(self.down, start=1):
            pooled = F.avg_pool2d(skips[-1], 2, ceil_mode=True, count_include_pad=False)
            skips.append(torch.cat((block(pooled), inputs[level]), dim=1))
        hidden = skips[-1]
        for level in reversed(range(self.depth - 1)):
            hidden = self.up[level](_upsample(hidden, skips[level]))
            hidden = self.merge[level](hidden, skips[level])
        return self.final(hidden)


class NeuralRenderer(nn.Module):
    """Turn a pyramid of feature images into linear radiance.

    With `config.residual` the output is `filled * exp(r1) + brightness * r2`, where `filled` is the hole-filled points,
    `brightness` their mean, and r1, r2 are the network's outputs. They are zero at the start, so that the first step
    already shows an image, and all inputs are divided by the brightness, so that the network need not know the
    exposure. With `config.photos` the finest level also sees what photos show of the view, and `filled` is mixed with
    that, by shares that the network finds, too. Otherwise the output is the exponential of the paper's plain network on
    the raw levels.

    Args:
        config: which network, and how wide.
        levels: number of pyramid levels.
        features: C, channels of a feature.
        bf16: whether to compute in bfloat16.

    Source: ADOP (Rückert et al. 2022); the residual form and its inputs are ours.
    """

    def __init__(self, config: NetworkConfig, levels: int, features: int, bf16: bool = False) -> None:
        super().__init__()
        self.bf16 = bf16
        self.kind, self.residual = config.kind, config.residual
        self.photos = config.photos if self.residual and self.kind != "none" else 0
        if self.kind == "none":
            return
        self.joined = self.kind == "light"  # eight channels, not nine, which CPUs convolve at half the speed
        channels = [features] * levels
        if self.residual:
            photos = self.photos > 0
            channels = [input_channels(features, level, self.joined, photos) for level in range(levels)]
        kinds: dict[str, type[LightDecoder | Decoder | UNet]] = {
            "light": LightDecoder,
            "decoder": Decoder,
            "unet": UNet,
        }
        outputs = 3 if not self.residual else 6 if self.photos == 0 else 9
        self.body = kinds[self.kind](channels, config.width, outputs)
        if self.residual:
            for parameter in self.body.final.parameters():
                nn.init.zeros_(parameter)

    def forward(
        self, levels: Levels, filled: FilledPyramid, shown: Tensor | None = None, backend: Backend = "auto"
    ) -> Tensor:
        """Return the radiance [B, 3, H, W], linear light, >= 0. Gradients: exact to levels and filled.

        Args: shown: [B, 8, H, W] what photos show of the view, see `adop.reprojection.reproject`; None: nothing.
        """
        if not self.bf16:
            return self._radiance(levels, filled, shown, backend)
        with torch.autocast(filled.colours[0].device.type, torch.bfloat16):
            return self._radiance(levels, filled, shown, backend)

    def _radiance(
        self, levels: Levels, filled: FilledPyramid, shown: Tensor | None, backend: Backend
    ) -> Tensor:
        colours = filled.colours[0]
        if self.kind == "none":
            return colours
        if not self.residual:
            return self.body(levels.features).float().clamp(-20, 20).exp()
        brightness, precision = self.brightness(filled), _precision(colours)
        if self.photos == 0:
            shown = None
        elif shown is None:
            shown = colours.new_zeros(len(colours), SHOWN, *colours.shape[2:])
        inputs = renderer_inputs(levels, filled, brightness, shown, self.joined, backend)
        outputs = self.body([image.to(precision) for image in inputs]).to(colours.dtype)
        return renderer_output(outputs, colours, brightness, shown, backend)

    @staticmethod
    def brightness(filled: FilledPyramid) -> Tensor:
        """Return [B], the mean light of the coarsest hole-filled level, without gradient."""
        return filled.colours[-1].detach().mean((1, 2, 3)).clamp_min(1e-6)


def _precision(like: Tensor) -> torch.dtype:
    """Return the precision in which convolutions compute: inputs already in it are converted only once."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype


def _upsample(hidden: Tensor, like: Tensor) -> Tensor:
    """Return `hidden` at twice its size in its own precision, to which autocast on a CPU would not keep."""
    with torch.autocast(hidden.device.type, enabled=False):
        return upsample(hidden, like)
