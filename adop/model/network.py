"""Neural renderer: the pyramid becomes radiance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adop.config import NetworkConfig
from adop.model.hole_filling import FilledPyramid, upsample
from adop.ops import Levels


class GatedConv(nn.Module):
    """3x3 convolution times a sigmoid gate; one convolution's weights give both halves.

    Source: gated convolutions as in ADOP section 4; ELU or none as activation, no normalisation.
    """

    def __init__(self, inputs: int, outputs: int, activation: bool = True) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(inputs, 2 * outputs, 3, padding=1)
        self.activation = activation

    def forward(self, *parts: Tensor) -> Tensor:
        """Return [B, outputs, H, W] of parts [B, C_i, H, W] that have `inputs` channels together."""
        if parts[0].device.type == "cpu":
            value, gate = self._apart(parts)
        else:
            value, gate = self.convolution(torch.cat(parts, dim=1)).chunk(2, dim=1)
        return (F.elu(value) if self.activation else value) * torch.sigmoid(gate)

    def _apart(self, parts: Sequence[Tensor]) -> list[Tensor]:
        """Return both halves, each the sum of the parts' convolutions: on a CPU, where a pixel's channels lie side by
        side, that is faster than joining the parts and taking the result apart."""
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


class Decoder(nn.Module):
    """Coarse to fine: upsample, concatenate the level's inputs, one gated convolution.

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
        """Return [B, outputs, H, W] of the levels' inputs, finest first."""
        hidden = self.levels[-1](inputs[-1])
        for level in reversed(range(len(inputs) - 1)):
            hidden = _upsample(hidden, inputs[level])
            hidden = self.levels[level](hidden, inputs[level])
        return self.final(hidden)


class UNet(nn.Module):
    """The paper's multi-scale U-Net: raw levels join on the way down, skips on the way up.

    Uses the four finest levels. Source: ADOP section 4 (574,651 parameters with width 16 and 4 channels).
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
        """Return [B, outputs, H, W] of the levels' inputs, finest first."""
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

    With `residual` the output is `brightness * (base * exp(r1) + r2)`, where `base` is the hole-filled picture of
    the points, `brightness` its mean and r1, r2 the network's output, zero at the start: the first step already
    shows a picture, and the network knows nothing of exposure. Without, it is the exponential of the output
    of the paper's plain network on the raw levels.

    Source: ADOP section 4; the residual form and its inputs are ours.
    """

    def __init__(self, config: NetworkConfig, levels: int, features: int) -> None:
        super().__init__()
        self.kind, self.residual = config.kind, config.residual
        if self.kind == "none":
            return
        spare = features - 3
        channels = [3 + spare + 1 + 1 + 3 if self.residual else features] * levels
        build = Decoder if self.kind == "decoder" else UNet
        self.body = build(channels, config.width, 6 if self.residual else 3)
        if self.residual:
            for parameter in self.body.final.parameters():
                nn.init.zeros_(parameter)

    def forward(self, levels: Levels, base: FilledPyramid) -> Tensor:
        """Return the radiance [B, 3, H, W], linear light, >= 0. Gradients: exact."""
        if self.kind == "none":
            return base.colours[0]
        if not self.residual:
            return self.body(levels.features).float().clamp(-20, 20).exp()
        brightness = self.brightness(base)
        log_brightness, precision = brightness.log(), _precision(brightness)
        layout = torch.channels_last if brightness.device.type == "cpu" else torch.contiguous_format
        inputs = []
        for level, image in enumerate(levels.features):
            own = torch.where(base.valid[level] > 0, image[:, :3] - log_brightness, 0.0)
            compressed = _compress(base.colours[level] / brightness)
            parts = (own, image[:, 3:], base.valid[level], base.behind[level], compressed)
            inputs.append(torch.cat([part.to(precision, memory_format=layout) for part in parts], dim=1))
        change, offset = self.body(inputs).float().chunk(2, dim=1)
        picture = base.colours[0] / brightness
        return brightness * (picture * change.clamp(-8, 8).exp() + offset).clamp_min(0)

    @staticmethod
    def brightness(base: FilledPyramid) -> Tensor:
        """Return [B, 1, 1, 1], the mean of the base picture, without gradient."""
        return base.colours[-1].detach().mean((1, 2, 3), keepdim=True).clamp_min(1e-6)


def _precision(like: Tensor) -> torch.dtype:
    """Return what convolutions compute in here: inputs that come in it are not turned again and again."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype


def _upsample(hidden: Tensor, like: Tensor) -> Tensor:
    """Return `hidden` at twice its size in its own precision, which a CPU's autocast would widen."""
    with torch.autocast(hidden.device.type, enabled=False):
        return upsample(hidden, like)


def _compress(x: Tensor) -> Tensor:
    """Return log(1 + x): near 0 linear, bounded growth in highlights."""
    return torch.log1p(x)
