"""The training loss: L1, squared error, structural similarity and, if weights are given, VGG features."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adop.config import LossConfig
from adop.images.vgg import Vgg
from adop.ops import Backend
from adop.ops.image_loss import EDGE, image_loss_sums
from adop.training.steps.sampler import Pixels


@dataclass(frozen=True)
class BatchPart:
    """What a part of a batch is of the whole."""

    share: float  # of the batch's crops
    counted: Tensor  # scalar, pixels of the whole batch whose mask is 1


@dataclass(frozen=True)
class Loss:
    """The weighted total, its unweighted terms, and the mean PSNR, which is not part of it."""

    total: Tensor
    terms: dict[str, Tensor]
    psnr: Tensor  # dB, of the clamped image, without gradient


def training_loss(
    image: Tensor,
    photo: Pixels,
    config: LossConfig,
    vgg: Vgg | None = None,
    backend: Backend = "auto",
    part: BatchPart | None = None,
) -> Loss:
    """Return the loss of images [B, 3, H, W] against the same pixels of photos, over those whose mask is 1.

    Structural similarity is computed on the mean of the channels, whose structure is nearly the same, in a third of
    the time.

    Args: part: of a batch that several processes share; the loss is then this part's term of the batch's. None: all.

    Gradients: exact to `image`.
    """
    (height, width), target, mask = image.shape[2:], photo.target, photo.mask
    sums = image_loss_sums(image, target, mask, config.ssim > 0, backend)
    absolute, squared, dissimilar, _, counted = sums.sum(0).unbind(0)
    share = 1.0 if part is None else part.share
    counted = (counted if part is None else part.counted).clamp_min(1e-6)
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
        terms["vgg"] = share * vgg(image * mask, target * mask)
        total = total + config.vgg * terms["vgg"]
    found = sums.detach()
    error = found[:, 3] / (3 * found[:, 4].clamp_min(1e-9))
    return Loss(total, terms, -10 * share * error.clamp_min(1e-10).log10().mean())
