"""The decoding and the encoding of sRGB values."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor


def srgb_decode(value: Tensor) -> Tensor:
    """Return the linear light of an sRGB value in [0, 1]."""
    return torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055).clamp_min(0).pow(2.4))


def srgb_bytes(linear: np.ndarray) -> np.ndarray:
    """Return linear light as sRGB values of 8 bits: values above 1 become 255, and those that are no number 0.

    Source: IEC 61966-2-1.
    """
    value = np.clip(np.nan_to_num(linear, nan=0.0, posinf=1.0, neginf=0.0), 0, 1)
    encoded = np.where(value <= 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    return np.rint(255 * encoded).astype(np.uint8)
