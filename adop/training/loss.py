"""Training loss: L1, squared error, structural similarity and, with weights given, VGG features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adop.config import LossConfig
from adop.images.vgg import Vgg
from adop.ops import Backend
from adop.ops.image_loss import EDGE, compare


@dataclass(frozen=True)
class Loss:
    """The total and its terms, before their weights, and what they are not: the mean PSNR."""

    total: Tensor
    terms: dict[str, Tensor]
    psnr: Tensor  # of the clamped picture, dB, without gradient


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
    sums = compare(image, target, mask, config.ssim > 0, backend)
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
