"""Training loss: L1, squared error, structural similarity and, with weights given, VGG features."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adop.config.config import LossConfig
from adop.errors import UserError
from adop.ops import Backend
from adop.ops.image_loss import EDGE, image_loss_sums


@dataclass(frozen=True)
class Loss:
    """The total and its terms, before their weights, and what they are not: the mean PSNR."""

    total: Tensor
    terms: dict[str, Tensor]
    psnr: Tensor  # of the clamped picture, dB, without gradient


class Vgg(nn.Module):
    """Mean absolute difference of VGG-19's ReLU features, 13 layers, each scaled by its own size.

    Args:
        path: safetensors file with torchvision's names, `features.0.weight` and so on.

    Raises: UserError where the file is missing or does not fit.
    Source: ADOP section 6.1, with every layer's mean in place of raw values in the hundreds.
    """

    LAYERS = (64, 64, -1, 128, 128, -1, 256, 256, 256, 256, -1, 512, 512, 512, 512, -1, 512)
    mean: Tensor
    std: Tensor

    def __init__(self, path: str) -> None:
        super().__init__()
        from safetensors.torch import load_file

        if not Path(path).is_file():
            raise UserError(
                f"{path}: no such file; --loss.vgg-weights wants a safetensors file of VGG-19 weights"
            )
        weights = load_file(path)
        index, inputs = 0, 3
        self.blocks = nn.ModuleList()
        for width in self.LAYERS:
            if width < 0:
                index += 1
                continue
            convolution = nn.Conv2d(inputs, width, 3, padding=1)
            for part in ("weight", "bias"):
                tensor = weights.get(f"features.{index}.{part}")
                target = getattr(convolution, part)
                if tensor is None or tensor.shape != target.shape:
                    raise UserError(
                        f"{path}: features.{index}.{part} is missing or of the wrong shape for VGG-19"
                    )
                target.data.copy_(tensor)
            self.blocks.append(convolution)
            index, inputs = index + 2, width
        self.register_buffer("mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None])
        self.register_buffer("std", torch.tensor([0.229, 0.224, 0.225])[:, None, None])
        self.requires_grad_(False)

    def forward(self, image: Tensor, target: Tensor) -> Tensor:
        """Return the scalar distance of images [B, 3, H, W] in [0, 1]."""
        both = (torch.cat((image, target)) - self.mean) / self.std
        distance, convolutions = both.new_zeros(()), iter(self.blocks)
        for width in self.LAYERS:
            if width < 0:
                both = F.avg_pool2d(both, 2)
                continue
            both = F.relu(next(convolutions)(both))
            first, second = both.chunk(2)
            distance = distance + F.l1_loss(first, second) / second.abs().mean().clamp_min(1e-6)
        return distance / len(self.blocks)


def training_loss(
    image: Tensor,
    target: Tensor,
    mask: Tensor,
    config: LossConfig,
    vgg: Vgg | None = None,
    backend: Backend = "auto",
) -> Loss:
    """Return the loss of pictures [B, 3, H, W] against photos, over the masked pixels ([B, 1, H, W], 0 or 1).

    Structure is compared on the mean of the channels: it is the same in all three, at a third of the time.
    """
    height, width = image.shape[2:]
    sums = image_loss_sums(image, target, mask, config.ssim > 0, backend)
    absolute, squared, dissimilar, _, counted = sums.sum(0).unbind(0)
    counted = counted.clamp_min(1e-6)
    terms = {"l1": absolute / (3 * counted)}
    total = config.l1 * terms["l1"]
    if config.mse > 0:
        terms["mse"] = squared / (3 * counted)
        total = total + config.mse * terms["mse"]
    if config.ssim > 0:
        windows = (height - EDGE) * (width - EDGE)
        terms["ssim"] = dissimilar / (counted * (windows / (height * width)))
        total = total + config.ssim * terms["ssim"]
    if vgg is not None:
        terms["vgg"] = vgg(image * mask, target * mask)
        total = total + config.vgg * terms["vgg"]
    found = sums.detach()
    error = found[:, 3] / (3 * found[:, 4].clamp_min(1e-9))
    return Loss(total, terms, -10 * error.clamp_min(1e-10).log10().mean())
