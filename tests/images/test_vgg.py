"""The perceptual distance, with weights from a file."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from adop.errors import UserError
from adop.images.vgg import POOLING, Vgg


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random weights with torchvision's names and shapes."""
    generator = torch.Generator().manual_seed(0)
    index, inputs, tensors = 0, 3, {}
    for width in Vgg.LAYERS:
        if width == POOLING:
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


def test_wrong_weights_are_named(tmp_path: Path):
    with pytest.raises(UserError, match="no such file"):
        Vgg(str(tmp_path / "missing.safetensors"))
    save_file({"features.0.weight": torch.zeros(1)}, tmp_path / "bad.safetensors")
    with pytest.raises(UserError, match=r"features\.0\.weight"):
        Vgg(str(tmp_path / "bad.safetensors"))
