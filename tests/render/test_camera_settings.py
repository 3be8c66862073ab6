"""The physical camera of new views: white balance, response curves, exposure and vignette."""

import math

import pytest
import torch

from adop.model.tonemapper import Tonemapper, srgb_encode
from adop.render.camera_settings import (
    RESPONSES,
    CameraSettings,
    develop,
    gains_of,
    temperature_of,
    white_level,
)


@pytest.fixture
def tonemapper() -> Tonemapper:
    made = Tonemapper(torch.zeros(4), torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.bool))
    return made.requires_grad_(False)


def test_daylight_changes_nothing_and_a_higher_temperature_is_redder():
    assert gains_of(6500, 0) == (1.0, 1.0, 1.0)
    warm, cold = gains_of(9000), gains_of(4000)
    assert warm[0] > 1 > warm[2] and cold[0] < 1 < cold[2]
    magenta = gains_of(6500, 0.5)
    assert magenta[0] == magenta[2] == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("temperature", [2100, 3200, 5600, 6500, 8000, 15000])
@pytest.mark.parametrize("tint", [-0.4, 0.0, 0.3])
def test_gains_convert_back_to_their_temperature_and_tint(temperature: float, tint: float):
    back = temperature_of(gains_of(temperature, tint))
    assert back == (pytest.approx(temperature, rel=1e-4), pytest.approx(tint, abs=1e-4))


@pytest.mark.parametrize("response", RESPONSES)
def test_a_response_rises_from_black_to_white_at_its_white_level(response, tonemapper: Tonemapper):
    settings = CameraSettings(response=response)
    white = white_level(settings)
    light = torch.linspace(0, 1.2 * white, 400)[None, None, None].expand(1, 3, 1, -1)
    value = develop(tonemapper, light, settings)[0, 0, 0]
    assert value[0] == 0 and bool((value.diff() >= -1e-6).all())
    assert float(value[light[0, 0, 0] < 0.98 * white].max()) < 1
    assert float(value[light[0, 0, 0] > 1.01 * white].min()) == pytest.approx(1, abs=2e-3)


def test_exposure_white_balance_and_vignette_scale_the_light(tonemapper: Tonemapper):
    tonemapper.vignette_coefficients[0, 0] = -0.4
    radiance = torch.full((1, 3, 30, 40), 0.2)
    plain = develop(tonemapper, radiance, CameraSettings(response="linear"))
    assert torch.allclose(plain, radiance)
    darker = develop(
        tonemapper, radiance, CameraSettings(exposure=1, white_balance=(2.0, 1.0, 0.5), response="linear")
    )
    assert torch.allclose(darker[0, :, 0, 0], torch.tensor([0.2, 0.1, 0.05]))
    corner = develop(tonemapper, radiance, CameraSettings(response="linear", vignette=True))
    assert float(corner[0, 0, 15, 20]) == pytest.approx(0.2, rel=1e-3)
    assert float(corner[0, 0, 0, 0]) == pytest.approx(0.2 * 0.6, rel=0.05)
    assert torch.allclose(
        develop(tonemapper, radiance, CameraSettings(response="srgb")), srgb_encode(radiance), atol=1e-6
    )
