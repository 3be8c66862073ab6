"""The contrast at edges of pictures whose blur is known."""

import math

import pytest
import torch
from torch import Tensor

from adop.images.metrics.edge_contrast import edge_contrast


def step(sigma: float, height: float = 0.6, size: int = 40) -> Tensor:
    """Return [1, 3, size, size] with a vertical step in the middle, blurred by a Gaussian of `sigma` px."""
    x = torch.arange(size, dtype=torch.float64) + 0.5 - size / 2
    row = 0.2 + height * (0.5 + 0.5 * torch.erf(x / (sigma * math.sqrt(2))))
    return row.expand(1, 3, size, size).float()


def deviation_at_step(sigma: float) -> float:
    """Return the standard deviation of the three columns around a pixel beside the blurred step of height 1."""
    columns = torch.tensor([0.5 + 0.5 * math.erf(x / (sigma * math.sqrt(2))) for x in (-0.5, 0.5, 1.5)])
    return float(columns.std(correction=0))


@pytest.mark.parametrize("sigma", [0.6, 1.0, 2.0])
def test_blur_lowers_the_contrast_as_it_lowers_the_slope_of_a_step(sigma: float):
    sharp = step(1e-6)
    expected = deviation_at_step(sigma) / math.sqrt(2 / 9)
    assert 0.1 < expected < 0.95
    assert float(edge_contrast(step(sigma), sharp)) == pytest.approx(expected, abs=2e-3)


def test_the_same_picture_has_contrast_one_and_half_the_light_half():
    photo = torch.rand(1, 3, 30, 30)
    assert float(edge_contrast(photo, photo)) == pytest.approx(1)
    assert float(edge_contrast(photo / 2, photo)) == pytest.approx(0.5)


def test_a_photo_without_edges_has_no_contrast():
    flat = torch.full((1, 3, 20, 20), 0.4)
    assert math.isnan(float(edge_contrast(torch.rand(1, 3, 20, 20), flat)))


def test_what_is_masked_has_no_influence():
    photo, render = torch.rand(1, 3, 30, 30), torch.rand(1, 3, 30, 30)
    mask = torch.ones(1, 1, 30, 30)
    mask[..., 10:14, 5:25] = 0
    before = float(edge_contrast(render, photo, mask))
    for image in (photo, render):
        image[..., 10:14, 5:25] = torch.rand(1, 3, 4, 20)
    assert float(edge_contrast(render, photo, mask)) == before
