"""The physical camera: values computed by hand, its inverse, and its gauges."""

import math

import numpy as np
import torch

from adop.images.srgb import srgb_decode
from adop.model.tonemapper import RESPONSE_SAMPLES, Photometry, Tonemapper, srgb_encode


def make(photos: int = 4) -> Tonemapper:
    exposure = torch.linspace(-1, 1, photos)
    return Tonemapper(exposure, torch.zeros(photos, dtype=torch.long), torch.ones(photos, dtype=torch.bool))


def test_srgb_follows_the_standard():
    # IEC 61966-2-1: linear 0.2140 is 0.5 encoded; the toe is 12.92 x.
    assert math.isclose(float(srgb_encode(torch.tensor(0.21404))), 0.5, abs_tol=1e-4)
    assert math.isclose(float(srgb_encode(torch.tensor(0.002))), 0.02584, abs_tol=1e-6)
    values = torch.linspace(0, 1, 100)
    assert torch.allclose(srgb_encode(srgb_decode(values)), values, atol=1e-6)


def test_starts_as_plain_srgb():
    linear = torch.rand(1, 3, 8, 8)
    photometry = Photometry(torch.zeros(1), torch.ones(1, 3))
    image = make()(linear, photometry, torch.zeros(1, 2, 8, 8), torch.tensor([0]))
    assert torch.allclose(image, srgb_encode(linear), atol=1e-5)


def test_exposure_white_balance_and_vignette_by_hand():
    tonemapper = make()
    with torch.no_grad():
        tonemapper.vignette_coefficients[0] = torch.tensor([-0.2, 0.05, -0.01])
        tonemapper.vignette_centre[0] = torch.tensor([0.1, 0.0])
    position = torch.zeros(1, 2, 1, 1)
    position[0, 0] = 0.6
    photometry = Photometry(torch.tensor([1.0]), torch.tensor([[1.2, 1.0, 0.8]]))
    image = tonemapper(torch.full((1, 3, 1, 1), 0.5), photometry, position, torch.tensor([0]))
    vignette = 1 - 0.2 * 0.25 + 0.05 * 0.25**2 - 0.01 * 0.25**3
    linear = 0.5 * 0.5 * np.array([1.2, 1.0, 0.8]) * vignette
    expected = 1.055 * linear ** (1 / 2.4) - 0.055
    # 24 linear pieces of a curve that starts linear.
    assert np.allclose(image.flatten().detach().numpy(), expected, atol=1e-4)


def test_response_is_monotonic_whatever_the_parameters():
    tonemapper = make().double()  # steps of 1e-8 near 1 vanish in single precision
    torch.nn.init.normal_(tonemapper.response_logits, std=3)
    curve = tonemapper.response()
    assert curve.shape == (1, 3, RESPONSE_SAMPLES)
    assert bool((curve.diff(dim=-1) > 0).all())
    assert bool((curve[..., 0] == 0).all())
    assert bool(((curve[..., -1] - 1).abs() < 1e-5).all())


def test_linearise_inverts():
    tonemapper = make()
    torch.nn.init.normal_(tonemapper.response_logits, std=0.3)
    with torch.no_grad():
        tonemapper.vignette_coefficients[0, 0] = -0.3
    radiance = torch.rand(2, 3, 16, 16) * 0.4 + 0.01
    position = torch.rand(2, 2, 16, 16) - 0.5
    photometry = tonemapper.photometry(torch.tensor([0, 3]))
    lens = torch.tensor([0, 0])
    image = tonemapper(radiance, photometry, position, lens)
    unclipped = image < 0.999
    back = tonemapper.linearise(image, photometry, position, lens)
    assert torch.allclose(back[unclipped], radiance[unclipped], rtol=2e-3)


def test_colours_taken_from_photos_are_linearised_by_the_response():
    """A cloud's colours were photo values that were linearised as sRGB, although the camera has another response."""
    tonemapper = make()
    with torch.no_grad():
        tonemapper.response_logits[0] = torch.linspace(1, -1, RESPONSE_SAMPLES - 1)
    light = torch.rand(100, 3) * 0.8 + 0.01
    photo = tonemapper.apply_response(light.T[None, :, None], torch.tensor([0]))[0, :, 0].T.detach()
    by_srgb = srgb_decode(photo)
    assert float((by_srgb - light).abs().median()) > 0.05
    torch.testing.assert_close(tonemapper.linearise_colours(by_srgb), light, rtol=2e-3, atol=1e-4)


def test_gauges_have_no_gradient_and_change_no_photo():
    tonemapper = make()
    torch.nn.init.normal_(tonemapper.exposure_delta)
    torch.nn.init.normal_(tonemapper.white_balance_log, std=0.1)

    def picture() -> torch.Tensor:
        photos = torch.arange(4)
        position = torch.zeros(4, 2, 2, 2)
        lens = torch.zeros(4, dtype=torch.long)
        return tonemapper(torch.full((4, 3, 2, 2), 0.2), tonemapper.photometry(photos), position, lens)

    before = picture()
    (before * torch.rand_like(before)).sum().backward()
    assert abs(float(tonemapper.exposure_delta.grad.sum())) < 1e-6
    assert float(tonemapper.white_balance_log.grad.sum(0).abs().max()) < 1e-6
    with torch.no_grad():
        tonemapper.exposure_delta += 0.7
        tonemapper.white_balance_log += torch.tensor([0.2, -0.1])
    assert torch.allclose(picture(), before, atol=1e-6)
    assert math.isclose(float(tonemapper.exposures().detach().mean()), 0.0, abs_tol=1e-6)


def test_held_out_photos_keep_their_initial_exposure():
    trained = torch.tensor([True, True, False])
    tonemapper = Tonemapper(torch.tensor([-1.0, 1.0, 0.5]), torch.zeros(3, dtype=torch.long), trained)
    with torch.no_grad():
        tonemapper.exposure_delta[:] = torch.tensor([0.3, -0.1, 9.0])
    exposures = tonemapper.exposures().detach()
    assert math.isclose(float(exposures[2]), 0.5, abs_tol=1e-6)
    assert math.isclose(float(exposures[:2].mean()), 0.0, abs_tol=1e-6)


def test_clipped_pixels_keep_a_gradient_in_training_only():
    tonemapper = make()
    photometry, lens = Photometry(torch.zeros(1), torch.ones(1, 3)), torch.tensor([0])
    for leak in (False, True):
        radiance = torch.tensor([1.7, -0.2, 0.5]).reshape(1, 3, 1, 1).requires_grad_()
        tonemapper(radiance, photometry, None, lens, leak).sum().backward()
        gradient = radiance.grad.flatten()
        assert float(gradient[2]) > 0.1
        assert (float(gradient[0]) > 0) == leak
        assert (float(gradient[1]) > 0) == leak
