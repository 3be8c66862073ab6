"""FLIP against its authors' program, and where it is known."""

import numpy as np
import pytest
import torch
from torch import Tensor

from adop.images.metrics.flip import flip, flip_map


def images(rng: np.random.Generator, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    """Return a smooth image [H, W, 3] with an edge, and the same with noise and a shift of colour."""
    y, x = np.mgrid[:height, :width] / max(height, width)
    image = np.stack([x, 0.5 + 0.4 * np.sin(9 * y), (x > y).astype(float)], axis=2)
    other = np.clip(image + rng.normal(0, 0.1, image.shape) + [0.05, 0.0, -0.05], 0, 1)
    return image.astype(np.float32), other.astype(np.float32)


def tensor(image: np.ndarray) -> Tensor:
    return torch.from_numpy(image).permute(2, 0, 1)[None]


@pytest.mark.parametrize("size", [(90, 150), (7, 5), (64, 128)])
def test_flip_agrees_with_the_authors_program(size: tuple[int, int], rng: np.random.Generator):
    evaluator = pytest.importorskip("flip_evaluator", reason="flip-evaluator has no wheel for this machine")
    image, other = images(rng, *size)
    expected, _, _ = evaluator.evaluate(image, other, "LDR", applyMagma=False)
    found = flip_map(tensor(other), tensor(image))[0, 0].numpy()
    assert np.abs(expected[..., 0] - found).max() < 1e-4
    assert float(flip(tensor(other), tensor(image))) == pytest.approx(float(expected.mean()), abs=1e-5)


def test_equal_images_have_no_visible_difference_and_black_and_white_the_largest(rng: np.random.Generator):
    image, _ = images(rng, 30, 40)
    assert float(flip(tensor(image), tensor(image))) == 0
    plain = torch.tensor([[0.0, 0.0, 1.0], [0.0, 1.0, 0.0]])[:, :, None, None].expand(2, 3, 30, 40)
    assert float(flip(plain[:1], plain[1:])) == pytest.approx(
        1, abs=1e-3
    )  # blue and green are furthest apart


def test_several_images_share_a_target_and_only_masked_pixels_count(rng: np.random.Generator):
    image, other = (tensor(x) for x in images(rng, 40, 60))
    mask = torch.zeros(2, 1, 40, 60)
    mask[0, :, :, :20], mask[1] = 1, 1
    found = flip(torch.cat((other, image)), image, mask)
    assert float(found[0]) == pytest.approx(float(flip_map(other, image)[..., :20].mean()), rel=1e-5)
    assert float(found[1]) == 0
