"""Perceptual distance of images: features of VGG-19 with given weights."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from adop.errors import UserError, one_line

POOLING = -1  # in `Vgg.LAYERS`


class Vgg(nn.Module):
    """Mean absolute difference of VGG-19's ReLU features, 13 layers, each relative to its own mean.

    Args:
        path: safetensors file with torchvision's names, `features.0.weight` and so on.

    Raises: UserError if the file is missing or does not hold VGG-19.
    Source: Rückert et al. 2022, ADOP, section 6.1. There, the differences are not divided by the layer's mean.
    """

    LAYERS = (
        64,
        64,
        -1,
        128,
        128,
        -1,
        256,
        256,
        256,
        256,
        -1,
        512,
        512,
        512,
        512,
        -1,
        512,
    )  # channels, or POOLING
    mean: Tensor  # [3, 1, 1] of ImageNet
    std: Tensor  # [3, 1, 1]

    def __init__(self, path: str) -> None:
        super().__init__()
        if not Path(path).is_file():
            raise UserError(
                f"{path}: no such file; --loss.vgg-weights needs a safetensors file of VGG-19 weights"
            )
        try:
            weights = load_file(path)
        except (OSError, SafetensorError) as error:
            raise UserError(f"{path}: is not a readable safetensors file ({one_line(error)})") from None
        index, inputs = 0, 3  # index in torchvision's list, which also counts ReLUs and pooling
        self.blocks = nn.ModuleList()
        for width in self.LAYERS:
            if width == POOLING:
                index += 1
                continue
            convolution = nn.Conv2d(inputs, width, 3, padding=1)
            for name, parameter in convolution.named_parameters():
                tensor = weights.get(f"features.{index}.{name}")
                if tensor is None or tensor.shape != parameter.shape:
                    raise UserError(
                        f"{path}: features.{index}.{name} is missing or has the wrong shape for VGG-19"
                    )
                with torch.no_grad():
                    parameter.copy_(tensor)
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
            if width == POOLING:
                both = F.avg_pool2d(both, 2)
                continue
            both = F.relu(next(convolutions)(both))
            first, second = both.chunk(2)
            distance = distance + F.l1_loss(first, second) / second.abs().mean().clamp_min(1e-6)
        return distance / len(self.blocks)
