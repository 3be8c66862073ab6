"""The colour map that brings a render closest to its photo."""

from __future__ import annotations

import torch
from torch import Tensor


def correct_colours(image: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return images [B, 3, H, W] after the affine colour map [3, 4] of each that fits its target best, in [0, 1].

    Least squares over all pixels that count. The map sees the pixels that are scored afterwards: the scores say what
    remains if colours are disregarded, not what a camera would have photographed.

    Args: mask: [B, 1, H, W], the weight of each pixel; None counts all of them alike.
    """
    corrected = []
    for i in range(len(image)):
        colours = torch.cat((image[i].flatten(1), torch.ones_like(image[i, :1]).flatten(1))).double()
        weight = torch.ones_like(colours[:1]) if mask is None else mask[i].flatten(1).double()
        weighted = colours * weight
        # The pseudoinverse also serves images of fewer colours, whose normal equations are singular.
        inverse = torch.linalg.pinv(weighted @ colours.T, hermitian=True)
        fitted = (target[i].flatten(1).double() @ weighted.T) @ inverse
        corrected.append((fitted @ colours).reshape(image[i].shape))
    return torch.stack(corrected).to(image.dtype).clamp(0, 1)
