"""The training loss: its terms, its mask, and the perceptual loss with weights from a file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adop.config import LossConfig
from adop.errors import UserError
from adop.training.loss import Vgg, training_loss


def test_masked_pixels_do_not_count():
    torch.manual_seed(0)
    image, target = torch.rand(1, 3, 32, 32, requires_grad=True), torch.rand(1, 3, 32, 32)
    mask = torch.ones(1, 1, 32, 32)
    mask[..., :16] = 0
    loss = training_loss(image, target, mask, LossConfig(ssim=0.0))
    expected = (image - target)[..., 16:].abs().mean()
    assert torch.allclose(loss.total, expected)
    loss.total.backward()
    assert bool((image.grad[..., :16] == 0).all()) and bool((image.grad[..., 16:] != 0).all())


def test_equal_images_have_no_loss():
    image = torch.rand(1, 3, 32, 32)
    loss = training_loss(image, image.clone(), torch.ones(1, 1, 32, 32), LossConfig(mse=1.0))
    assert float(loss.total) < 1e-5
    assert set(loss.terms) == {"l1", "mse", "ssim"}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write random weights with torchvision's names and shapes: loading and arithmetic are real, the weights are not."""
    generator = torch.Generator().manual_seed(0)
    index, inputs, tensors = 0, 3, {}
    for width in Vgg.LAYERS:
        if width < 0:
            index += 1
            continue
        tensors[f"features.{index}.weight"] = torch.randn(width, inputs, 3, 3, generator=generator) * 0.05
        tensors[f"features.{index}.bias"] = torch.zeros(width)
        index, inputs = index + 2, width
    path = tmp_path_factory.mktemp("vgg") / "vgg.safetensors"
    save_file(tensors, path)
    return path


def test_vgg_grows_with_the_difference(weights: Path):
    vgg = Vgg(str(weights))
    assert len(vgg.blocks) == 13
    torch.manual_seed(0)
    image = torch.rand(1, 3, 48, 48)
    with torch.no_grad():
        none = vgg(image, image)
        little, much = (vgg((image + s * torch.randn_like(image)).clamp(0, 1), image) for s in (0.02, 0.3))
    assert float(none) == 0.0
    assert 0 < float(little) < float(much)


def test_errors_name_the_wrong_weights(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        Vgg(str(tmp_path / "missing.safetensors"))
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match=r"features\.0\.weight"):
        Vgg(str(tmp_path / "bad.safetensors"))
