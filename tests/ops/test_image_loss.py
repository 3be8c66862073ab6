"""The comparisons of tests/support/compare.py find differences, and only those."""

import pytest
import torch

from support.compare import assert_same_gradients, assert_same_pictures, mismatch_fraction, relative_error


def test_mismatch_counts_only_real_differences() -> None:
    expected = torch.tensor([1.0, 2.0, torch.inf, 0.0])
    assert mismatch_fraction(expected + 1e-6, expected) == 0
    assert mismatch_fraction(torch.tensor([1.0, 2.1, torch.inf, 0.0]), expected) == 0.25
    assert mismatch_fraction(torch.tensor([1.0, 2.0, 5.0, torch.nan]), expected) == 0.5


def test_relative_error_is_scale_free() -> None:
    a = torch.tensor([3.0, 4.0])
    assert relative_error(a * 1.01, a) == pytest.approx(0.01, rel=1e-4)
    assert relative_error(torch.zeros(2), torch.zeros(2)) == 0


def test_asserts_fail_when_they_should() -> None:
    a = [torch.zeros(1, 1, 2, 2)]
    assert_same_pictures(a, [t.clone() for t in a])
    with pytest.raises(AssertionError, match="level 0"):
        assert_same_pictures(a, [t + 1 for t in a])
    with pytest.raises(AssertionError, match="xyz: relative"):
        assert_same_gradients({"xyz": torch.ones(3)}, {"xyz": torch.full((3,), 1.1)})
    with pytest.raises(AssertionError, match="xyz: not finite"):
        assert_same_gradients({"xyz": torch.tensor([torch.nan])}, {"xyz": torch.ones(1)})
