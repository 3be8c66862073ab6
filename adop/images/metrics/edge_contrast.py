"""How sharp a render is at the edges of its photo."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.images.metrics.psnr_ssim import LUMINANCE

EDGE_SHARE = 0.05  # of the pixels: those with the steepest slopes are the strong edges
EDGE_SCALE_PX = 1.5  # standard deviation of the blur before slopes are measured: noise makes no edge
REACH = 6  # pixels around an edge that decide whether it is one
MIN_SLOPE = 0.02  # per pixel: anything flatter is no strong edge, however few edges a photo has


def edge_contrast(image: Tensor, target: Tensor, mask: Tensor | None = None) -> Tensor:
    """Return the contrast [B] of images [B, 3, H, W] at the strong edges of photos [B, 3, H, W], relative to theirs.

    Contrast is the standard deviation of the luminance within 1.5 px (3 x 3 pixels), averaged over the edges. 1: as
    sharp as the photo; less: blurred; more: sharpened or noisy. NaN for a photo without strong edges. Edges are found
    in the blurred photo, because pixels chosen for their own contrast would be those with the most noise.

    Args:
        target: [B, 3, H, W], or [1, 3, H, W] for all of them.
        mask: [B, 1, H, W], 0 where pixels do not count; neither do edges with such pixels within `REACH`.
    """
    of_image, of_target = _luminance(image), _luminance(target)
    whole = torch.ones_like(of_image) if mask is None else (mask > 0).to(of_image)
    # Zeros around the image: windows that reach over its border are not whole.
    whole = -F.max_pool2d(F.pad(-whole, (REACH,) * 4), 2 * REACH + 1, stride=1) > 0
    slope, wanted = (x.expand_as(of_image) for x in (_slope(_blurred(of_target)), _deviation(of_target)))
    found = _deviation(of_image)
    ratios = []
    for i in range(len(image)):
        edges = _strong(slope[i], whole[i])
        ratios.append(found[i][edges].sum() / wanted[i][edges].sum())
    return torch.stack(ratios)


def _luminance(image: Tensor) -> Tensor:
    weights = torch.tensor(LUMINANCE, dtype=torch.float64, device=image.device)
    return torch.einsum("c,bchw->bhw", weights, image.double())[:, None]


def _strong(slope: Tensor, whole: Tensor) -> Tensor:
    """Return the pixels [1, H, W] whose slope is among the steepest of those that count."""
    candidates = slope[whole & (slope > MIN_SLOPE)]
    wanted = max(1, round(EDGE_SHARE * int(whole.sum())))
    if len(candidates) <= wanted:
        return whole & (slope > MIN_SLOPE)
    return whole & (slope >= candidates.topk(wanted).values[-1])


def _blurred(luminance: Tensor) -> Tensor:
    """Return images [B, 1, H, W] blurred by `EDGE_SCALE_PX`."""
    radius = REACH - 1
    offsets = torch.arange(-radius, radius + 1, dtype=luminance.dtype, device=luminance.device)
    weights = torch.softmax(-offsets.square() / (2 * EDGE_SCALE_PX**2), 0)
    padded = F.pad(luminance, (radius,) * 4, mode="replicate")
    rows = F.conv2d(padded, weights[None, None, :, None])
    return F.conv2d(rows, weights[None, None, None, :])


def _slope(luminance: Tensor) -> Tensor:
    """Return the slope per pixel [B, 1, H, W], by Sobel's filters."""
    across = torch.tensor([[-1.0, 0.0, 1.0], [-2.0, 0.0, 2.0], [-1.0, 0.0, 1.0]]) / 8
    filters = torch.stack((across, across.T))[:, None].to(luminance)
    slopes = F.conv2d(F.pad(luminance, (1, 1, 1, 1), mode="replicate"), filters)
    return slopes.square().sum(1, keepdim=True).sqrt()


def _deviation(luminance: Tensor) -> Tensor:
    """Return the standard deviation [B, 1, H, W] of 3 x 3 pixels."""
    padded = F.pad(luminance, (1, 1, 1, 1), mode="replicate")
    variance = F.avg_pool2d(padded.square(), 3, stride=1) - F.avg_pool2d(padded, 3, stride=1).square()
    return variance.clamp_min(0).sqrt()
