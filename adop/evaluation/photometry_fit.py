"""Exposure and white balance of a held-out photo, fitted to part of the photo itself."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from adop.model.tonemapper import Photometry

CAUCHY_SCALE = 0.05  # of the photo's range: larger errors count less and less
DIFFERENCE_STEP = 1e-3  # of the numeric derivatives, EV and logarithm of a gain
MAX_DAMPING = 1e6
MIN_CHANGE = 1e-4  # EV and logarithm of a gain: smaller steps end the fit


def fit_photometry(
    take_photo: Callable[[Photometry], Tensor],
    target: Tensor,
    mask: Tensor,
    start: Photometry,
    rounds: int = 30,
) -> Photometry:
    """Return the exposure and white balance with which a rendered photo matches the target best.

    Levenberg-Marquardt with numeric derivatives over three numbers: EV, and the logarithms of the red and blue gains.
    The cost is Cauchy's, so that what hides the scene in the photo counts little.

    Args:
        take_photo: returns the rendered photo [1, 3, H, W] taken with a photometry.
        target: [1, 3, H, W] in [0, 1].
        mask: [1, 1, H, W] weight of each pixel.
    """
    weight = mask.expand_as(target).flatten()

    def photometry(theta: Tensor) -> Photometry:
        gain = torch.stack((theta[1].exp(), torch.ones_like(theta[0]), theta[2].exp()))
        return Photometry(start.exposure + theta[0], start.white_balance * gain)

    def residual(theta: Tensor) -> Tensor:
        return (take_photo(photometry(theta)) - target).flatten() / CAUCHY_SCALE

    def cost(error: Tensor) -> Tensor:
        return (weight * error.square().log1p()).double().sum()

    with torch.no_grad():
        theta = torch.zeros(3, device=target.device)
        error, damping = residual(theta), 1e-3
        for _ in range(rounds):
            shifts = DIFFERENCE_STEP * torch.eye(3, device=target.device)
            jacobian = torch.stack(
                [(residual(theta + shift) - error) / DIFFERENCE_STEP for shift in shifts], 1
            )
            weighted = jacobian * (weight / (1 + error.square()))[:, None]
            normal, gradient = weighted.T @ jacobian, weighted.T @ error
            while damping < MAX_DAMPING:
                damped = normal + torch.diag(damping * normal.diagonal() + 1e-9)
                change = torch.linalg.solve(damped, -gradient)
                tried = residual(theta + change)
                if cost(tried) < cost(error):
                    theta, error, damping = theta + change, tried, damping / 10
                    break
                damping *= 10
            if damping >= MAX_DAMPING or change.abs().max() < MIN_CHANGE:
                break
        return photometry(theta)


def half_masks(mask: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mask [B, 1, H, W] limited to its left half, and to its right half."""
    middle = mask.shape[3] // 2
    columns = torch.arange(mask.shape[3], device=mask.device)
    return mask * (columns < middle), mask * (columns >= middle)
