"""The decoding of sRGB values."""

from __future__ import annotations

import torch
from torch import Tensor


def srgb_decode(value: Tensor) -> Tensor:
    """Return the linear light of an sRGB value in [0, 1]."""
    return torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055).clamp_min(0).pow(2.4))
