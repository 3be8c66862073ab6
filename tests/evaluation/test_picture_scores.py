"""Scores of pictures: only the pixels that count have influence."""

import dataclasses

import pytest
import torch

from adop.evaluation.picture_scores import score_pictures


def pictures() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return two pictures [2, 3, H, W], their photo, and a mask with a hole."""
    generator = torch.Generator().manual_seed(0)
    photo = torch.rand(1, 3, 40, 50, generator=generator)
    mask = torch.ones(1, 1, 40, 50)
    mask[..., 10:20, 15:35] = 0
    return torch.rand(2, 3, 40, 50, generator=generator), photo, mask


def test_masked_pixels_do_not_matter():
    found, photo, mask = pictures()
    before = score_pictures(found, photo, mask, mask.expand(2, -1, -1, -1))
    found[..., 10:20, 15:35], photo[..., 10:20, 15:35] = float("nan"), 1.0
    assert score_pictures(found, photo, mask, mask.expand(2, -1, -1, -1)) == before


def test_the_photo_itself_is_perfect():
    _, photo, mask = pictures()
    (scores,) = score_pictures(photo, photo, mask, mask)
    assert dataclasses.astuple(scores) == pytest.approx((100.0, 1.0, 0.0, 1.0))


def test_each_picture_is_scored_on_its_own_pixels():
    found, photo, mask = pictures()
    right = mask.clone()
    right[..., :25] = 0
    found[1, :, :, 25:] = photo[0, :, :, 25:]
    half, whole = score_pictures(found[1:].expand(2, -1, -1, -1), photo, mask, torch.cat((right, mask)))
    assert half.psnr == pytest.approx(100.0) and whole.psnr < 20
    assert whole.flip > 2 * half.flip


def test_a_photo_without_edges_has_no_edge_contrast():
    flat, mask = torch.full((1, 3, 20, 20), 0.5), torch.ones(1, 1, 20, 20)
    (scores,) = score_pictures(torch.rand(1, 3, 20, 20), flat, mask, mask)
    assert scores.edge_contrast is None
