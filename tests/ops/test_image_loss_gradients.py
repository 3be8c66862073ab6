"""The image loss: kernels against plain torch, the adjoint against finite differences."""

import pytest
import torch

from adop.backend.operator import flatten
from adop.config import LossConfig
from adop.images.metrics.psnr_ssim import psnr
from adop.ops import Backend
from adop.ops.image_loss import ImageLossInputs, image_loss_operator, image_loss_sums
from adop.training.steps.loss import training_loss
from adop.training.steps.sampler import Pixels

BACKENDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def images(
    views: int, height: int, width: int, dtype: torch.dtype = torch.float32
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return an image with values outside [0, 1], a photo, and a mask."""
    generator = torch.Generator().manual_seed(height)
    image = torch.rand(views, 3, height, width, generator=generator, dtype=dtype) * 1.4 - 0.2
    target = torch.rand(views, 3, height, width, generator=generator, dtype=dtype)
    return image, target, (torch.rand(views, 1, height, width, generator=generator) > 0.2).to(dtype)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("structure", [False, True])
@pytest.mark.parametrize("size", [(1, 32, 32), (3, 11, 11), (2, 97, 75), (1, 12, 300)])
def test_kernels_and_plain_torch_agree(backend: str, structure: bool, size: tuple[int, int, int]) -> None:
    parts = images(*size)
    weight = torch.linspace(-1, 1, 5).repeat(size[0], 1)
    results = []
    for which in ("reference", backend):
        device = "cpu" if which == "reference" else which
        image, target, mask = (part.to(device) for part in parts)
        image.requires_grad_()
        sums = image_loss_sums(image, target, mask, structure, which)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad((sums * weight.to(device)).sum(), image)
        results.append((sums.detach().cpu(), gradient.cpu()))
    torch.testing.assert_close(results[1][0], results[0][0], rtol=2e-5, atol=1e-4)
    torch.testing.assert_close(results[1][1], results[0][1], rtol=2e-4, atol=2e-5)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_gradients_are_exact(backend: Backend) -> None:
    image, target, mask = images(2, 13, 12, torch.float64)
    image = torch.where((image - target).abs() < 1e-3, image + 0.01, image).requires_grad_()
    assert torch.autograd.gradcheck(lambda i: image_loss_sums(i, target, mask, True, backend)[:, :3], image)


def test_images_smaller_than_a_window_have_no_structure() -> None:
    image, target, mask = images(1, 10, 40)
    assert image_loss_sums(image, target, mask, False, "auto").shape == (1, 5)
    with pytest.raises(ValueError, match=r"SSIM needs more than 10 pixels a side, got \[10, 40\]"):
        image_loss_sums(image, target, mask, True, "auto")


def test_the_loss_reports_the_psnr() -> None:
    image, target, mask = images(2, 40, 30)
    loss = training_loss(image, Pixels(target, mask), LossConfig())
    torch.testing.assert_close(loss.psnr, psnr(image.clamp(0, 1), target, mask).mean())


def test_the_loss_is_the_same_from_torch() -> None:
    image, target, mask = images(2, 40, 30)
    config = LossConfig(mse=0.5)
    ours, slow = (training_loss(image, Pixels(target, mask), config, None, b) for b in ("cpu", "reference"))  # type: ignore[arg-type]
    torch.testing.assert_close(ours.total, slow.total)
    # By definition: means over the masked pixels.
    share = mask.mean()
    torch.testing.assert_close(slow.terms["l1"], ((image - target) * mask).abs().mean() / share)
    torch.testing.assert_close(slow.terms["mse"], ((image - target) * mask).square().mean() / share)


def test_operator_is_registered_right() -> None:
    image, target, mask = images(2, 13, 12, torch.float64)
    inputs = ImageLossInputs(image.requires_grad_(), target, mask, True)
    torch.library.opcheck(image_loss_operator.registered, flatten(inputs))
