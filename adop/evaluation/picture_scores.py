"""Scores of pictures of one photo: PSNR, SSIM, FLIP and contrast at edges, over the pixels that count."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import torch
from torch import Tensor

from adop.images.metrics.edge_contrast import edge_contrast
from adop.images.metrics.flip import flip
from adop.images.metrics.psnr_ssim import psnr, ssim

HIDDEN = 0.5  # grey value of masked pixels, in the picture and in the photo


@dataclass(frozen=True)
class PictureScores:
    """The scores of one picture of a photo."""

    psnr: float  # dB
    ssim: float
    flip: float  # 0: no visible difference; 1: the largest
    edge_contrast: float | None  # 1: as sharp as the photo at its edges; None: the photo has none


def score_pictures(pictures: Tensor, photo: Tensor, visible: Tensor, scored: Tensor) -> list[PictureScores]:
    """Return the scores of K pictures [K, 3, H, W] of a photo [1, 3, H, W], both in [0, 1].

    Args:
        visible: [1, 1, H, W], 0 where the photo's mask hides pixels. Both images are grey there, so that the pixels
            have no influence on windows that reach over them.
        scored: [K, 1, H, W], the pixels that are scored of each picture; not the hidden ones.
    """
    pictures, photo = torch.where(visible > 0, pictures, HIDDEN), torch.where(visible > 0, photo, HIDDEN)
    # A hidden pixel makes no edge: windows at its border do not count.
    edges = edge_contrast(pictures, photo, scored).tolist()
    similarity = ssim(pictures, photo.expand_as(pictures), scored).tolist()
    decibels, visible_error = psnr(pictures, photo, scored).tolist(), flip(pictures, photo, scored).tolist()
    rows = zip(decibels, similarity, visible_error, edges, strict=True)
    return [PictureScores(a, b, c, None if math.isnan(d) else d) for a, b, c, d in rows]


def by_name(pictures: dict[str, PictureScores]) -> dict[str, float | None]:
    """Return the scores of pictures as one dictionary: the score's name and the picture's, which is its key."""
    return {f"{name}{end}": value for end, of in pictures.items() for name, value in asdict(of).items()}
