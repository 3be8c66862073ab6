"""The physical camera of a new view: exposure, white balance, vignette, and the response curve."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal, get_args

import torch
from torch import Tensor

from adop.model.tonemapper import Photometry, Tonemapper, srgb_encode

Response = Literal["learned", "srgb", "linear", "filmic"]
RESPONSES: tuple[Response, ...] = get_args(Response)
DAYLIGHT = 6500.0  # kelvin; at this temperature white balance changes nothing
MIN_TEMPERATURE, MAX_TEMPERATURE = (
    2000.0,
    24000.0,
)  # kelvin, a range that the Planckian locus' approximation covers
FILMIC_WHITE = 7.24  # sensor light at which the filmic curve reaches white


@dataclass(frozen=True)
class CameraSettings:
    """How the virtual camera exposes and develops a new view."""

    exposure: float = 0.0  # EV relative to the mean of the training photos; larger is darker
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0)  # gains of red, green, blue
    response: Response = "learned"
    vignette: bool = False
    lens: int = 0  # the lens whose learned response and vignette are used


def expose(
    tonemapper: Tonemapper, radiance: Tensor, settings: CameraSettings, position: Tensor | None = None
) -> Tensor:
    """Return the sensor light [B, 3, H, W] of `radiance` [B, 3, H, W]; 1 saturates the sensor.

    Args: position: [B, 2, H, W] each pixel's offset from the image centre in half diagonals; used for the vignette.
    """
    views, device = len(radiance), radiance.device
    photometry = Photometry(
        torch.full((views,), float(settings.exposure), device=device),
        torch.tensor([settings.white_balance] * views, dtype=torch.float32, device=device),
    )
    lens = torch.full((views,), settings.lens, device=device)
    return tonemapper.expose(radiance, photometry, position if settings.vignette else None, lens)


def respond(tonemapper: Tonemapper, light: Tensor, settings: CameraSettings) -> Tensor:
    """Return the image [B, 3, H, W] in [0, 1] that the response curve makes of sensor light [B, 3, H, W].

    `learned` is the learned response of the lens, `linear` shows the light unchanged, `srgb` applies the sRGB curve,
    and `filmic` compresses highlights before the sRGB curve.

    Source: Narkowicz 2015, "ACES Filmic Tone Mapping Curve", for `filmic`.
    """
    if settings.response == "learned":
        return tonemapper.apply_response(light, torch.full((len(light),), settings.lens, device=light.device))
    light = light.clamp_min(0)
    if settings.response == "filmic":
        light = light * (2.51 * light + 0.03) / (light * (2.43 * light + 0.59) + 0.14)
    light = light.clamp_max(1)
    return light if settings.response == "linear" else srgb_encode(light)


def develop(tonemapper: Tonemapper, radiance: Tensor, settings: CameraSettings) -> Tensor:
    """Return the image [B, 3, H, W] in [0, 1] that the camera makes of `radiance` [B, 3, H, W]."""
    position = position_on_image(radiance) if settings.vignette else None
    return respond(tonemapper, expose(tonemapper, radiance, settings, position), settings).clamp(0, 1)


def white_level(settings: CameraSettings) -> float:
    """Return the sensor light at which the response curve reaches white."""
    return FILMIC_WHITE if settings.response == "filmic" else 1.0


def position_on_image(image: Tensor) -> Tensor:
    """Return [1, 2, H, W], each pixel's offset (right, down) from the image centre in half diagonals."""
    height, width = image.shape[-2:]
    half = math.hypot(height, width) / 2
    y = (torch.arange(height, device=image.device) + 0.5 - height / 2) / half
    x = (torch.arange(width, device=image.device) + 0.5 - width / 2) / half
    v, u = torch.meshgrid(y, x, indexing="ij")
    return torch.stack((u, v))[None]


def gains_of(temperature: float, tint: float = 0.0) -> tuple[float, float, float]:
    """Return the gains of red, green (always 1) and blue that balance the camera for light of `temperature` kelvin.

    A higher temperature makes the image warmer. `tint` in [-1, 1] shifts it from green (-1) to magenta (+1): red and
    blue are scaled by 2**tint. 6500 K with tint 0 changes nothing.

    >>> gains_of(6500)
    (1.0, 1.0, 1.0)
    """
    light, daylight = _blackbody(temperature), _blackbody(DAYLIGHT)
    red, blue = (daylight[i] / daylight[1] * light[1] / light[i] for i in (0, 2))
    return red * 2.0**tint, 1.0, blue * 2.0**tint


def temperature_of(gains: tuple[float, float, float]) -> tuple[float, float]:
    """Return the temperature (kelvin) and tint of gains: the inverse of `gains_of`, clamped to the valid ranges."""
    red, blue = gains[0] / gains[1], gains[2] / gains[1]
    low, high = math.log(MIN_TEMPERATURE), math.log(MAX_TEMPERATURE)
    for _ in range(50):
        middle = (low + high) / 2
        r, _, b = gains_of(math.exp(middle))
        low, high = (middle, high) if r / b < red / blue else (low, middle)
    temperature = math.exp((low + high) / 2)
    tint = math.log2(math.sqrt(red * blue) / math.sqrt(math.prod(gains_of(temperature))))
    return temperature, min(1.0, max(-1.0, tint))


def _blackbody(temperature: float) -> tuple[float, float, float]:
    """Return the linear sRGB colour of a black body at `temperature` kelvin.

    Source: Kim et al., US patent 7024034: cubic approximation of the Planckian locus.
    """
    t = 1000.0 / min(MAX_TEMPERATURE, max(MIN_TEMPERATURE, temperature))
    if t > 0.25:
        x = ((-0.2661239 * t - 0.2343589) * t + 0.8776956) * t + 0.179910
    else:
        x = ((-3.0258469 * t + 2.1070379) * t + 0.2226347) * t + 0.240390
    if t > 1000.0 / 2222.0:
        y = ((-1.1063814 * x - 1.34811020) * x + 2.18555832) * x - 0.20219683
    elif t > 0.25:
        y = ((-0.9549476 * x - 1.37418593) * x + 2.09137015) * x - 0.16748867
    else:
        y = ((3.0817580 * x - 5.87338670) * x + 3.75112997) * x - 0.37001483
    big_x, big_z = x / y, (1 - x - y) / y
    red = 3.2406 * big_x - 1.5372 - 0.4986 * big_z
    green = -0.9689 * big_x + 1.8758 + 0.0415 * big_z
    blue = 0.0557 * big_x - 0.2040 + 1.0570 * big_z
    return tuple(max(value, 1e-3) for value in (red, green, blue))  # type: ignore[return-value]
