"""The physical camera: exposure, white balance, vignette and response turn radiance into a photo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adop.ops import Backend
from adop.ops.tonemap import PhysicalCamera, tonemap_photo

RESPONSE_SAMPLES = 25
LEAK = 0.01


def srgb_encode(linear: Tensor) -> Tensor:
    """Return the sRGB value of linear light; values outside [0, 1] follow the same curve."""
    low = linear <= 0.0031308
    safe = torch.where(low, torch.ones_like(linear), linear)
    return torch.where(low, 12.92 * linear, 1.055 * safe.pow(1 / 2.4) - 0.055)


def srgb_decode(value: Tensor) -> Tensor:
    """Return the linear light of an sRGB value in [0, 1]."""
    return torch.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055).clamp_min(0).pow(2.4))


@dataclass(frozen=True)
class Photometry:
    """How `B` photos were exposed; what `Tonemapper.apply` needs beside the lens."""

    exposure: Tensor  # [B] EV relative to the scene's
    white_balance: Tensor  # [B, 3] gains, green is 1


def _white_balance(red_blue: Tensor) -> Tensor:
    """Return [B, 3] gains of logarithms [B, 2] of red and blue."""
    red, blue = red_blue.exp().unbind(1)
    return torch.stack((red, torch.ones_like(red), blue), dim=1)


def _gain(photometry: Photometry) -> Tensor:
    """Return the factor [B, 3] of each photo's channels."""
    return torch.exp(photometry.exposure * -math.log(2))[:, None] * photometry.white_balance


def _trained_neighbours(lens: Tensor, trained: Tensor) -> Tensor:
    """Return [P, 2] the trained photos of the same lens next before and after each photo; where none is, itself."""
    neighbours = torch.arange(len(lens))[:, None].repeat(1, 2)
    for photo in range(len(lens)):
        same = torch.nonzero(trained.bool().cpu() & (lens.cpu() == lens[photo].cpu()))[:, 0]
        before, after = same[same < photo], same[same > photo]
        sides = [int(side) for side in (*before[-1:], *after[:1])]
        if sides:
            neighbours[photo] = torch.tensor([sides[0], sides[-1]])
    return neighbours


class Tonemapper(nn.Module):
    """Hold the exposure and white balance of each photo, the vignette and response of each lens.

    `exposure - scene_exposure` of the training photos keeps its mean (their common brightness belongs to the
    scene), white balance has green 1 and geometric mean 1 over the training photos, the response is
    monotonic with f(0) = 0 and f(1) = 1: no factor can wander between them unseen.

    The response is piecewise linear, 25 samples, over the sRGB-encoded value: it starts as sRGB exactly, and its
    samples are spread over what an eye tells apart instead of crowding in the highlights.

    Args:
        exposure: [P] EV of each photo relative to the scene's, from EXIF or from the photos.
        lens: [P] index of each photo's lens.
        trained: [P] bool, the photos whose parameters are learned and fix the gauge.
        exposure_trust: how far, in EV, the given exposures may be off: EXIF rounds to a third of a stop.

    Source: ADOP section 5 (Rückert et al. 2021), with the gauges fixed by construction.
    """

    exposure_start: Tensor
    white_balance_start: Tensor
    lens: Tensor
    trained: Tensor
    exposure_trust: Tensor
    neighbours: Tensor

    def __init__(self, exposure: Tensor, lens: Tensor, trained: Tensor, exposure_trust: float = 0.15) -> None:
        super().__init__()
        photos, lenses = len(exposure), int(lens.max()) + 1
        self.register_buffer("exposure_start", exposure.float().clone())
        self.register_buffer("white_balance_start", torch.zeros(photos, 2))
        self.register_buffer("lens", lens.long().clone())
        self.register_buffer("trained", trained.bool().clone())
        self.register_buffer("exposure_trust", torch.tensor(float(exposure_trust)))
        self.register_buffer("neighbours", _trained_neighbours(lens, trained), persistent=False)
        self.trained_photos = frozenset(torch.nonzero(trained.cpu())[:, 0].tolist())
        self.exposure_delta = nn.Parameter(torch.zeros(photos))
        self.white_balance_log = nn.Parameter(torch.zeros(photos, 2))
        self.vignette_coefficients = nn.Parameter(torch.zeros(lenses, 3))
        self.vignette_centre = nn.Parameter(torch.zeros(lenses, 2))
        self.response_logits = nn.Parameter(torch.zeros(lenses, 3, RESPONSE_SAMPLES - 1))

    def exposures(self) -> Tensor:
        """Return [P] EV of each photo relative to the scene's, gauge fixed; of others than trained, as expected."""
        return self.exposure_start + self._expected(self._corrections())[:, 0]

    def white_balances(self) -> Tensor:
        """Return [P, 3] gains of each photo, gauge fixed; of others than trained, as expected."""
        return _white_balance(self.white_balance_start + self._expected(self._corrections())[:, 1:])

    def _corrections(self) -> Tensor:
        """Return [P, 3] what is learned of EV and of the logarithms of red and blue, each of mean 0."""
        delta = torch.cat((self.exposure_delta[:, None], self.white_balance_log), dim=1)
        mask = self.trained.to(delta.dtype)[:, None]
        return (delta - mask.T @ delta / mask.sum().clamp_min(1)) * mask

    def _expected(self, delta: Tensor) -> Tensor:
        """Return corrections [P, 3], those of photos that are not trained on as their neighbours suggest.

        The mean of the trained photos before and after in the order of capture, as far as such a mean foretells
        the trained photos' own corrections: its least-squares factor there, between 0 and 1.
        """
        with torch.no_grad():
            around = delta[self.neighbours].mean(1)
            own, near = delta[self.trained], around[self.trained]
            factor = ((own * near).sum(0) / near.square().sum(0).clamp_min(1e-12)).clamp(0, 1)
        return torch.where(self.trained[:, None], delta, factor * around)

    def response(self) -> Tensor:
        """Return [lenses, 3, 25] samples of the response over evenly spaced sRGB-encoded values."""
        steps = torch.softmax(self.response_logits, dim=-1)
        return torch.cat((torch.zeros_like(steps[..., :1]), steps.cumsum(-1)), dim=-1)

    def photometry(self, photos: Tensor, trained: bool = False) -> Photometry:
        """Return how the photos of these indices [B] were exposed; with `trained` all are known to be trained on."""
        delta = self._corrections()
        if not trained and not self.trained_photos.issuperset(photos.tolist()):
            delta = self._expected(delta)
        exposure = self.exposure_start[photos] + delta[photos, 0]
        return Photometry(exposure, _white_balance(self.white_balance_start[photos] + delta[photos, 1:]))

    def start_photometry(self, photos: Tensor) -> Photometry:
        """Return how the photos of these indices [B] were exposed by EXIF alone, white balance 1."""
        return Photometry(self.exposure_start[photos], _white_balance(self.white_balance_start[photos]))

    def vignette(self, position: Tensor, lens: Tensor) -> Tensor:
        """Return the factor [B, 1, H, W] at `position` [B, 2, H, W], in half diagonals from the photo's centre."""
        centre = self.vignette_centre[lens][:, :, None, None]
        r2 = (position - centre).square().sum(1, keepdim=True)
        a, b, c = (self.vignette_coefficients[lens][:, i, None, None, None] for i in range(3))
        return 1 + r2 * (a + r2 * (b + r2 * c))

    def apply_response(self, linear: Tensor, lens: Tensor, leak: bool = False) -> Tensor:
        """Return the photo's value of sensor light `linear` [B, 3, H, W]; outside [0, 1] it clips.

        Gradients: exact; with `leak`, clipped values keep a small one so that they can come back.
        """
        encoded = srgb_encode(linear.clamp(0, 1)) * (RESPONSE_SAMPLES - 1)
        below = encoded.detach().floor().clamp(0, RESPONSE_SAMPLES - 2)
        curve = self.response()[lens]
        size = linear.shape
        flat = below.long().reshape(size[0], size[1], -1)
        low = curve.gather(2, flat).reshape(size)
        high = curve.gather(2, flat + 1).reshape(size)
        value = low + (high - low) * (encoded - below)
        if leak:
            over = linear.clamp_min(1)
            value = value + LEAK * linear.clamp_max(0) + LEAK * (1 - over.rsqrt())
        return value

    def forward(
        self,
        radiance: Tensor,
        photometry: Photometry,
        position: Tensor | None,
        lens: Tensor,
        leak: bool = False,
    ) -> Tensor:
        """Return the photo [B, 3, H, W] in [0, 1] that the lens takes of `radiance` [B, 3, H, W].

        Args:
            position: [B, 2, H, W] of each pixel on the full photo, half diagonals from its centre; None leaves
                the vignette out.
            lens: [B] index.
            leak: let clipped values keep a gradient of 0.01 (training); values may leave [0, 1] a little.
        """
        return self.apply_response(self.expose(radiance, photometry, position, lens), lens, leak)

    def expose(
        self, radiance: Tensor, photometry: Photometry, position: Tensor | None, lens: Tensor
    ) -> Tensor:
        """Return the light on the sensor [B, 3, H, W], before the response; arguments as of `forward`."""
        light = radiance * _gain(photometry)[:, :, None, None]
        if position is not None:
            light = light * self.vignette(position, lens)
        return light

    def take(
        self,
        radiance: Tensor,
        photometry: Photometry,
        crop: Tensor,
        photo_size: Tensor,
        lens: Tensor,
        leak: bool = False,
        backend: Backend = "auto",
    ) -> Tensor:
        """Return the same as `forward`, by a kernel and in one pass.

        Args:
            crop: [B, 3] zoom and offset of the picture on the whole photo, whose width and height
                `photo_size` [B, 2] holds.
        """
        vignette = torch.cat((self.vignette_coefficients[lens], self.vignette_centre[lens]), dim=1)
        curve = self.response()[lens]
        gain, slope = _gain(photometry), LEAK if leak else 0.0
        camera = PhysicalCamera(gain, curve, vignette, crop, photo_size, slope)
        return tonemap_photo(radiance, camera, backend)

    @torch.no_grad()
    def linearise_response(self, photo: Tensor, lens: Tensor) -> Tensor:
        """Return the sensor light [B, 3, H, W] behind a photo in [0, 1]: the response undone, without gradient."""
        curve = self.response()[lens].contiguous()
        size = photo.shape
        flat = photo.reshape(size[0], size[1], -1).contiguous()
        above = torch.searchsorted(curve, flat).clamp(1, RESPONSE_SAMPLES - 1)
        low, high = curve.gather(2, above - 1), curve.gather(2, above)
        within = ((flat - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        return srgb_decode((above - 1 + within).reshape(size) / (RESPONSE_SAMPLES - 1))

    @torch.no_grad()
    def linearise_colours(self, linear: Tensor) -> Tensor:
        """Return the light [N, 3] behind colours that photos once showed, given as sRGB would have it: by the lenses'
        mean response."""
        value = srgb_encode(linear).clamp(0, 1).T[None, :, None]
        lenses = torch.arange(len(self.response_logits), device=linear.device)
        return self.linearise_response(value.expand(len(lenses), -1, -1, -1), lenses).mean(0)[:, 0].T

    @torch.no_grad()
    def linearise(self, photo: Tensor, photometry: Photometry, position: Tensor, lens: Tensor) -> Tensor:
        """Return the radiance [B, 3, H, W] behind a photo in [0, 1]: the inverse of `forward`, without gradient."""
        gain = torch.exp2(-photometry.exposure)[:, None] * photometry.white_balance
        light = self.linearise_response(photo, lens)
        return light / gain[:, :, None, None] / self.vignette(position, lens).clamp_min(0.05)

    def prior(self) -> Tensor:
        """Return the scalar penalty that decides what no photo can: small beside any error that photos see.

        Exposures near their start (closely where EXIF named it), white balance near 1, the response smooth and near
        sRGB, the vignette small and falling outwards. Without it, a curve of another exponent and exposures of
        another scale would make the same photos.
        """
        exposure, red, blue = (self._corrections().square().sum(0) / self.trained.sum().clamp_min(1)).unbind(
            0
        )
        exposure, balance = exposure / self.exposure_trust.square(), (red + blue) / (2 * 0.1**2)
        curve = self.response()
        straight = torch.linspace(0, 1, RESPONSE_SAMPLES, device=curve.device)
        bend = curve[..., 1:-1] - 0.5 * (curve[..., :-2] + curve[..., 2:])
        response = ((curve - straight) / 0.15).square().mean() + (bend / 0.01).square().mean()
        radius = torch.linspace(0, 1, 9, device=curve.device)[:, None].square()
        a, b, c = self.vignette_coefficients.unbind(-1)
        falloff = 1 + radius * (a + radius * (b + radius * c))
        rising = (falloff.diff(dim=0) / 0.02).clamp_min(0).square().mean()
        vignette = ((falloff - 1) / 0.3).square().mean() + 100 * rising
        centre = (self.vignette_centre / 0.1).square().mean()
        return 1e-3 * (exposure + balance + response + vignette + centre)
