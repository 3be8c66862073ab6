"""Comparisons of images and gradients; tests/ops/test_image_loss.py tests them."""

import torch
from torch import Tensor


def mismatch_fraction(got: Tensor, expected: Tensor, tolerance: float = 1e-4) -> float:
    """Return the share of values that differ by more than `tolerance * (1 + |expected|)`.

    Infinities agree with themselves alone.
    """
    assert got.shape == expected.shape, (got.shape, expected.shape)
    if got.numel() == 0:
        return 0.0
    a, b = got.detach().double(), expected.detach().double()
    same = (a == b) | (a.isnan() & b.isnan())
    close = b.isfinite() & ((a - b).abs() <= tolerance * (1 + b.abs()))
    return float((~(same | close)).double().mean())


def relative_error(got: Tensor, expected: Tensor) -> float:
    """Return |got - expected| / |expected|, in the Euclidean norm; 0 where both are 0."""
    assert got.shape == expected.shape, (got.shape, expected.shape)
    a, b = got.detach().double(), expected.detach().double()
    difference, size = (a - b).norm(), b.norm()
    return float(difference / size) if size > 0 else float(difference)


def assert_same_pictures(got: list[Tensor], expected: list[Tensor], allowed: float = 0.0) -> None:
    """Check level by level that at most the share `allowed` of the values differs."""
    assert len(got) == len(expected)
    for level, (a, b) in enumerate(zip(got, expected, strict=True)):
        share = mismatch_fraction(a, b)
        assert share <= allowed, f"level {level}: {share:.2e} of the values differ"


def assert_same_gradients(
    got: dict[str, Tensor], expected: dict[str, Tensor], tolerance: float = 2e-4
) -> None:
    """Check gradients by their relative error, each named in the message."""
    assert got.keys() == expected.keys()
    for name, gradient in got.items():
        assert torch.isfinite(gradient).all(), f"{name}: not finite"
        error = relative_error(gradient, expected[name])
        assert error <= tolerance, f"{name}: relative error {error:.2e}"
