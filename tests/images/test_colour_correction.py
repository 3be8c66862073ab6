"""The colour correction undoes colour maps that it can represent, and only those."""

import torch

from adop.images.metrics.colour_correction import correct_colours

PHOTO = torch.rand(2, 3, 16, 20, generator=torch.Generator().manual_seed(0))
MATRIX = torch.tensor([[0.5, 0.2, 0.0], [0.1, 0.4, 0.1], [0.0, -0.2, 0.8]])
OFFSET = torch.tensor([0.05, 0.1, 0.15])


def changed(image: torch.Tensor) -> torch.Tensor:
    return torch.einsum("ij,bjhw->bihw", MATRIX, image) + OFFSET[:, None, None]


def test_an_affine_change_of_colours_is_undone():
    assert torch.allclose(correct_colours(changed(PHOTO), PHOTO), PHOTO, atol=1e-5)


def test_the_result_does_not_depend_on_an_affine_change_of_the_render():
    render = (PHOTO + 0.1 * torch.rand(PHOTO.shape, generator=torch.Generator().manual_seed(1))).clamp(0, 1)
    assert torch.allclose(correct_colours(changed(render), PHOTO), correct_colours(render, PHOTO), atol=1e-5)


def test_masked_pixels_are_not_fitted():
    mask, render = torch.ones(2, 1, 16, 20), changed(PHOTO)
    mask[..., :5], render[..., :5] = 0, 0.0
    assert torch.allclose(correct_colours(render, PHOTO, mask)[..., 5:], PHOTO[..., 5:], atol=1e-5)


def test_a_grey_render_becomes_the_best_grey_map():
    """All of its channels are equal, so that their weights are not determined."""
    grey = PHOTO.mean(1, keepdim=True).expand_as(PHOTO)
    corrected = correct_colours(0.5 * grey + 0.1, grey)
    assert torch.allclose(corrected, grey, atol=1e-4)
    black = correct_colours(torch.zeros_like(PHOTO), PHOTO)
    assert torch.allclose(black, PHOTO.mean((2, 3), keepdim=True).expand_as(PHOTO), atol=1e-5)
