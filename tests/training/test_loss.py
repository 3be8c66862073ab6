"""The training loss: its terms and its mask."""

import torch

from adop.config import LossConfig
from adop.training.steps.loss import training_loss
from adop.training.steps.sampler import Pixels


def test_masked_pixels_do_not_count():
    torch.manual_seed(0)
    image, target = torch.rand(1, 3, 32, 32, requires_grad=True), torch.rand(1, 3, 32, 32)
    mask = torch.ones(1, 1, 32, 32)
    mask[..., :16] = 0
    loss = training_loss(image, Pixels(target, mask), LossConfig(ssim=0.0))
    expected = (image - target)[..., 16:].abs().mean()
    assert torch.allclose(loss.total, expected)
    loss.total.backward()
    assert bool((image.grad[..., :16] == 0).all()) and bool((image.grad[..., 16:] != 0).all())


def test_equal_images_have_no_loss():
    image = torch.rand(1, 3, 32, 32)
    loss = training_loss(image, Pixels(image.clone(), torch.ones(1, 1, 32, 32)), LossConfig(mse=1.0))
    assert float(loss.total) < 1e-5
    assert set(loss.terms) == {"l1", "mse", "ssim"}
