"""The neural renderer: a network that turns the pyramid into radiance."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adop.config import NetworkConfig
from adop.model.hole_filling import FilledPyramid, upsample
from adop.ops import Levels
from adop.reprojection.reproject import CHANNELS


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
        more = 4 if self.kind == "light" else 5
        channels = [features + more if self.residual else features] * levels
        if self.photos > 0:
            channels[0] += CHANNELS
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

    def forward(self, levels: Levels, filled: FilledPyramid, shown: Tensor | None = None) -> Tensor:
        """Return the radiance [B, 3, H, W], linear light, >= 0. Gradients: exact to levels and filled.

        Args: shown: [B, 8, H, W] what photos show of the view, see `adop.reprojection.reproject`; None: nothing.
        """
        if not self.bf16:
            return self._radiance(levels, filled, shown)
        with torch.autocast(filled.colours[0].device.type, torch.bfloat16):
            return self._radiance(levels, filled, shown)

    def _radiance(self, levels: Levels, filled: FilledPyramid, shown: Tensor | None) -> Tensor:
        if self.kind == "none":
            return filled.colours[0]
        if not self.residual:
            return self.body(levels.features).float().clamp(-20, 20).exp()
        brightness = self.brightness(filled)
        log_brightness, precision = brightness.log(), _precision(brightness)
        layout = torch.channels_last if brightness.device.type == "cpu" else torch.contiguous_format
        inputs = []
        for level, image in enumerate(levels.features):
            own = torch.where(filled.valid[level] > 0, image[:, :3] - log_brightness, 0.0)
            compressed = _compress(filled.colours[level] / brightness)
            covered = [filled.valid[level], filled.occlusion[level]]
            if self.kind == "light":
                covered = [covered[0] - covered[1]]  # eight channels: CPUs convolve nine at half the speed
            parts = [own, image[:, 3:], *covered, compressed]
            if level == 0 and self.photos > 0:
                seen = _relative(shown, image, log_brightness)
                parts += seen
            inputs.append(torch.cat([part.to(precision, memory_format=layout) for part in parts], dim=1))
        picture = filled.colours[0] / brightness
        change, offset, *shares = self.body(inputs).float().split(3, dim=1)
        if shares:
            picture = _blend(picture, seen, shares[0])
        return brightness * (picture * change.clamp(-8, 8).exp() + offset).clamp_min(0)

    @staticmethod
    def brightness(filled: FilledPyramid) -> Tensor:
        """Return [B, 1, 1, 1], the mean light of the coarsest hole-filled level, without gradient."""
        return filled.colours[-1].detach().mean((1, 2, 3), keepdim=True).clamp_min(1e-6)


def _precision(like: Tensor) -> torch.dtype:
    """Return the precision in which convolutions compute: inputs already in it are converted only once."""
    kind = like.device.type
    return torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else like.dtype


def _upsample(hidden: Tensor, like: Tensor) -> Tensor:
    """Return `hidden` at twice its size in its own precision, to which autocast on a CPU would not keep."""
    with torch.autocast(hidden.device.type, enabled=False):
        return upsample(hidden, like)


def _relative(shown: Tensor | None, like: Tensor, log_brightness: Tensor) -> list[Tensor]:
    """Return what photos show, see `reproject`: logarithm of light relative to the brightness, and 0 where none does."""
    if shown is None:
        shown = like.new_zeros(like.shape[0], CHANNELS, *like.shape[2:])
    nearest, any_, mean, share = shown.split((3, 1, 3, 1), dim=1)
    return [(nearest - log_brightness) * any_, any_, (mean - log_brightness) * any_, share]


def _blend(picture: Tensor, seen: list[Tensor], shares: Tensor) -> Tensor:
    """Return the mean of the filled points, the nearest photo and the mean photo, where photos show anything.

    Args: shares: [B, 3, H, W] of the three, before they are made positive and to add up to 1.
    """
    nearest, any_, mean, _ = seen
    of_points, of_nearest, of_mean = shares.softmax(1).unsqueeze(2).unbind(1)
    return picture.lerp((nearest.exp() * of_nearest + mean.exp() * of_mean) + picture * of_points, any_)


def _compress(x: Tensor) -> Tensor:
    """Return log(1 + x): linear near 0, slow growth in highlights."""
    return torch.log1p(x)
