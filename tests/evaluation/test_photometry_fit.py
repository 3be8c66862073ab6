"""Exposure and white balance fitted to half of a photo."""

import math

import torch

from adop.evaluation.photometry_fit import fit_photometry, half_masks
from adop.model.tonemapper import Photometry, Tonemapper


def test_the_fit_is_robust_to_an_occluder():
    generator = torch.Generator().manual_seed(0)
    tonemapper = Tonemapper(torch.zeros(1), torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.bool))
    radiance = torch.rand(1, 3, 40, 60, generator=generator) * 0.6
    position = torch.zeros(1, 2, 40, 60)

    def take_photo(photometry: Photometry) -> torch.Tensor:
        return tonemapper(radiance, photometry, position, torch.tensor([0])).detach()

    truth = Photometry(torch.tensor([0.8]), torch.tensor([[1.1, 1.0, 0.9]]))
    target = take_photo(truth)
    target[..., :15] = 0.02  # a tree
    start = Photometry(torch.zeros(1), torch.ones(1, 3))
    found = fit_photometry(take_photo, target, torch.ones(1, 1, 40, 60), start)
    assert math.isclose(float(found.exposure), 0.8, abs_tol=0.02)
    assert torch.allclose(found.white_balance, truth.white_balance, atol=0.02)


def test_the_halves_of_a_mask_share_no_pixel():
    mask = torch.ones(1, 1, 4, 7)
    left, right = half_masks(mask)
    assert bool(((left + right) == mask).all()) and float(left.sum()) == 12
