"""PSNR and SSIM against values computed in another way."""

import math

import numpy as np
import torch
from scipy.ndimage import gaussian_filter

from adop.images.metrics.psnr_ssim import psnr, ssim, ssim_map


def test_psnr_by_hand():
    image = torch.full((1, 3, 4, 4), 0.5)
    target = image + 0.1
    assert math.isclose(float(psnr(image, target)), 20.0, abs_tol=1e-4)


def test_psnr_counts_only_the_masked_pixels():
    image, target = torch.zeros(1, 3, 4, 4), torch.zeros(1, 3, 4, 4)
    target[..., 2:] = 1.0
    target[..., :2] = 0.01
    mask = torch.zeros(1, 1, 4, 4)
    mask[..., :2] = 1
    assert math.isclose(float(psnr(image, target, mask)), 40.0, abs_tol=1e-3)


def test_ssim_against_scipy(rng: np.random.Generator):
    x = rng.random((3, 40, 50))
    y = np.clip(x + rng.normal(0, 0.1, x.shape), 0, 1)

    def blur(a: np.ndarray) -> np.ndarray:
        return np.stack([gaussian_filter(c, 1.5, truncate=5 / 1.5)[5:-5, 5:-5] for c in a])

    mx, my = blur(x), blur(y)
    vx, vy, cov = blur(x * x) - mx**2, blur(y * y) - my**2, blur(x * y) - mx * my
    c1, c2 = 0.01**2, 0.03**2
    expected = ((2 * mx * my + c1) * (2 * cov + c2) / ((mx**2 + my**2 + c1) * (vx + vy + c2))).mean()
    found = ssim(torch.from_numpy(x)[None], torch.from_numpy(y)[None])
    assert math.isclose(float(found), expected, rel_tol=1e-6)


def test_ssim_of_itself_is_one():
    image = torch.rand(2, 3, 32, 32)
    assert torch.allclose(ssim(image, image), torch.ones(2), atol=1e-5)


def test_ssim_of_a_large_image_is_that_of_its_windows(rng: np.random.Generator):
    """SSIM is computed in parts; whole windows of all of them count once."""
    x, y = (torch.from_numpy(rng.random((1, 3, 150, 260))) for _ in range(2))
    assert math.isclose(float(ssim(x, y)), float(ssim_map(x, y).mean()), rel_tol=1e-12)
