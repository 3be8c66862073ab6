"""The physical camera: exposure, white balance, vignette and response turn radiance into a photo."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from adop.images.srgb import srgb_decode
from adop.ops.tonemap import PhysicalCamera, srgb_encode
from adop.reprojection.reproject import Light

UNKNOWN_EXPOSURE_TRUST = 1.0  # EV, of exposures that were estimated from the photos
DARKEST = 1e-4  # light that black stands for, where its logarithm is needed
RESPONSE_SAMPLES = 25  # of the response curve
LEAK = 0.01  # slope beyond the range in training, so that clipped values can come back


@dataclass(frozen=True)
class Photometry:
    """Exposure and white balance of B photos."""

    exposure: Tensor  # [B] EV relative to the scene's
    white_balance: Tensor  # [B, 3] gains, green is 1


def _white_balance(red_blue: Tensor) -> Tensor:
    """Return the gains [B, 3] for the logarithms [B, 2] of red and blue; green is 1."""
    red, blue = red_blue.exp().unbind(1)
    return torch.stack((red, torch.ones_like(red), blue), dim=1)


def _gain(photometry: Photometry) -> Tensor:
    """Return the factor [B, 3] by which exposure and white balance scale each channel."""
    return torch.exp(photometry.exposure * -math.log(2))[:, None] * photometry.white_balance


def _trained_neighbours(lens: Tensor, trained: Tensor) -> Tensor:
    """Return [P, 2], the trained photos of the same lens before and after each photo; the photo itself if none is."""
    neighbours = torch.arange(len(lens))[:, None].repeat(1, 2)
    for photo in range(len(lens)):
        same = torch.nonzero(trained.bool().cpu() & (lens.cpu() == lens[photo].cpu()))[:, 0]
        before, after = same[same < photo], same[same > photo]
        sides = [int(side) for side in (*before[-1:], *after[:1])]
        if sides:
            neighbours[photo] = torch.tensor([sides[0], sides[-1]])
    return neighbours


class Tonemapper(nn.Module):
    """Turn radiance into photos: exposure and white balance of each photo, vignette and response of each lens.

    A factor could move between these without changing any photo. Such gauges are fixed by construction: the exposures
    of the trained photos keep their mean, their white balance has green 1 and geometric mean 1, and the response is
    monotonic with f(0) = 0 and f(1) = 1.

    The response is piecewise linear between 25 samples of the sRGB-encoded value, so that it starts as sRGB exactly and
    the samples are spread evenly over perceived brightness.

    Args:
        exposure: [P] EV of each photo relative to the scene's, from EXIF or estimated from the photos.
        lens: [P] index of each photo's lens.
        trained: [P] bool, the photos whose parameters are learned and fix the gauges.
        exposure_trust: expected error of the given exposures in EV; EXIF rounds to a third of a stop.

    Source: the physical camera of ADOP (Rückert et al. 2022); the gauges are ours.
    """

    exposure_start: Tensor
    white_balance_start: Tensor
    lens: Tensor
    trained: Tensor
    exposure_trust: Tensor
    neighbours: Tensor
    expected: Tensor

    def __init__(self, exposure: Tensor, lens: Tensor, trained: Tensor, exposure_trust: float = 0.15) -> None:
        super().__init__()
        photos, lenses = len(exposure), int(lens.max()) + 1
        self.register_buffer("exposure_start", exposure.float().clone())
        self.register_buffer("white_balance_start", torch.zeros(photos, 2))
        self.register_buffer("lens", lens.long().clone())
        self.register_buffer("trained", trained.bool().clone())
        self.register_buffer("exposure_trust", torch.tensor(float(exposure_trust)))
        self.register_buffer("neighbours", _trained_neighbours(lens, trained), persistent=False)
        # Corrections that `expect` gave; NaN: none.
        self.register_buffer("expected", torch.full((photos, 3), math.nan), persistent=False)
        self.trained_photos = frozenset(torch.nonzero(trained.cpu())[:, 0].tolist())
        self.exposure_delta = nn.Parameter(torch.zeros(photos))
        self.white_balance_log = nn.Parameter(torch.zeros(photos, 2))
        self.vignette_coefficients = nn.Parameter(torch.zeros(lenses, 3))
        self.vignette_centre = nn.Parameter(torch.zeros(lenses, 2))
        self.response_logits = nn.Parameter(torch.zeros(lenses, 3, RESPONSE_SAMPLES - 1))

    @property
    def from_exif(self) -> bool:
        """Whether training started from the exposures in EXIF."""
        return float(self.exposure_trust) < UNKNOWN_EXPOSURE_TRUST

    def exposures(self) -> Tensor:
        """Return the EV [P] of each photo relative to the scene's; that of photos not trained on is predicted."""
        return self.exposure_start + self._predicted(self._corrections())[:, 0]

    def white_balances(self) -> Tensor:
        """Return the gains [P, 3] of each photo; those of photos not trained on are predicted."""
        return _white_balance(self.white_balance_start + self._predicted(self._corrections())[:, 1:])

    @torch.no_grad()
    def expect(self, exposure: Tensor, white_balance_log: Tensor) -> None:
        """Set what is expected of photos that are not trained on, in place of what their neighbours say.

        Args:
            exposure: [P] EV relative to the scene's; NaN: as the neighbours say.
            white_balance_log: [P, 2] logarithms of the gains of red and blue; NaN likewise.
        """
        start = torch.cat((self.exposure_start[:, None], self.white_balance_start), dim=1)
        self.expected.copy_(torch.cat((exposure[:, None], white_balance_log), dim=1).to(start) - start)

    def _corrections(self) -> Tensor:
        """Return the learned corrections [P, 3] of EV and of the logarithms of red and blue; each has mean 0."""
        delta = torch.cat((self.exposure_delta[:, None], self.white_balance_log), dim=1)
        mask = self.trained.to(delta.dtype)[:, None]
        return (delta - mask.T @ delta / mask.sum().clamp_min(1)) * mask

    def _predicted(self, delta: Tensor) -> Tensor:
        """Return the corrections [P, 3], with those of photos not trained on as `expect` set them, or predicted.

        The prediction is the mean of the trained photos before and after, in the order of capture, times a factor in
        [0, 1]: the least-squares factor with which such means predict the trained photos' own corrections.
        """
        with torch.no_grad():
            around = delta[self.neighbours].mean(1)
            own, near = delta[self.trained], around[self.trained]
            factor = ((own * near).sum(0) / near.square().sum(0).clamp_min(1e-12)).clamp(0, 1)
            predicted = torch.where(self.expected.isnan(), factor * around, self.expected)
        return torch.where(self.trained[:, None], delta, predicted)

    def response(self) -> Tensor:
        """Return the samples [lenses, 3, 25] of the responses at evenly spaced sRGB-encoded values."""
        steps = torch.softmax(self.response_logits, dim=-1)
        return torch.cat((torch.zeros_like(steps[..., :1]), steps.cumsum(-1)), dim=-1)

    def photometry(self, photos: Tensor, trained: bool = False) -> Photometry:
        """Return how photos [B] were exposed.

        Args:
            trained: whether all of them are known to be trained on; a GPU then need not be read to find out.
        """
        delta = self._corrections()
        if not trained and not self.trained_photos.issuperset(photos.tolist()):
            delta = self._predicted(delta)
        exposure = self.exposure_start[photos] + delta[photos, 0]
        return Photometry(exposure, _white_balance(self.white_balance_start[photos] + delta[photos, 1:]))

    def start_photometry(self, photos: Tensor) -> Photometry:
        """Return how photos [B] were exposed according to EXIF alone, with neutral white balance."""
        return Photometry(self.exposure_start[photos], _white_balance(self.white_balance_start[photos]))

    def vignette(self, position: Tensor, lens: Tensor) -> Tensor:
        """Return the factor [B, 1, H, W] at `position` [B, 2, H, W], in half diagonals from the photo's centre."""
        centre = self.vignette_centre[lens][:, :, None, None]
        r2 = (position - centre).square().sum(1, keepdim=True)
        a, b, c = (self.vignette_coefficients[lens][:, i, None, None, None] for i in range(3))
        return 1 + r2 * (a + r2 * (b + r2 * c))

    def apply_response(self, linear: Tensor, lens: Tensor, leak: bool = False) -> Tensor:
        """Return the photo's values [B, 3, H, W] of sensor light `linear` [B, 3, H, W], clipped to [0, 1].

        Gradients: exact; with `leak`, clipped values keep a small gradient, so that they can come back.
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
        """Return the photos [B, 3, H, W] in [0, 1] that lenses take of `radiance` [B, 3, H, W].

        Args:
            position: [B, 2, H, W] of each pixel on the whole photo, in half diagonals from its centre; None: no
                vignette.
            lens: [B] index of each photo's lens.
            leak: let clipped values keep a small gradient, for training; values may then leave [0, 1] a little.
        """
        return self.apply_response(self.expose(radiance, photometry, position, lens), lens, leak)

    def expose(
        self, radiance: Tensor, photometry: Photometry, position: Tensor | None, lens: Tensor
    ) -> Tensor:
        """Return the light [B, 3, H, W] on the sensor, before the response; arguments as for `forward`."""
        light = radiance * _gain(photometry)[:, :, None, None]
        if position is not None:
            light = light * self.vignette(position, lens)
        return light

    def physical_camera(
        self, photometry: Photometry, crop: Tensor, photo_size: Tensor, lens: Tensor, leak: bool = False
    ) -> PhysicalCamera:
        """Return the B cameras with which `tonemap_photo` takes the same photos as `forward`, in one pass.

        Args:
            crop: [B, 3] zoom and offset of the image on the whole photo.
            photo_size: [B, 2] width and height of the whole photo, pixels.
            lens, leak: as for `forward`.
        """
        vignette = torch.cat((self.vignette_coefficients[lens], self.vignette_centre[lens]), dim=1)
        slope = LEAK if leak else 0.0
        return PhysicalCamera(_gain(photometry), self.response()[lens], vignette, crop, photo_size, slope)

    @torch.no_grad()
    def linearise_response(self, photo: Tensor, lens: Tensor) -> Tensor:
        """Return the sensor light [B, 3, H, W] of photos in [0, 1]: the response inverted, without gradient."""
        curve = self.response()[lens].contiguous()
        size = photo.shape
        flat = photo.reshape(size[0], size[1], -1).contiguous()
        above = torch.searchsorted(curve, flat).clamp(1, RESPONSE_SAMPLES - 1)
        low, high = curve.gather(2, above - 1), curve.gather(2, above)
        within = ((flat - low) / (high - low).clamp_min(1e-6)).clamp(0, 1)
        return srgb_decode((above - 1 + within).reshape(size) / (RESPONSE_SAMPLES - 1))

    @torch.no_grad()
    def light_of_photos(self, photos: Tensor) -> Light:
        """Return what the values of photos [P] mean, for `reproject`."""
        curve = self.response_logits
        values = torch.linspace(0, 1, 256, device=curve.device).expand(len(curve), 3, 1, 256)
        light = self.linearise_response(values, torch.arange(len(curve), device=curve.device))
        vignette = torch.cat((self.vignette_coefficients, self.vignette_centre), dim=1)
        gain = _gain(self.photometry(photos, trained=True)).log()
        return Light(light[:, :, 0].clamp_min(DARKEST).log(), gain, vignette.detach())

    @torch.no_grad()
    def linearise_colours(self, linear: Tensor) -> Tensor:
        """Return the light [N, 3] of colours [N, 3] that were taken from photos and linearised as if they were sRGB.

        They are linearised again, by the mean of the lenses' responses.
        """
        value = srgb_encode(linear).clamp(0, 1).T[None, :, None]
        lenses = torch.arange(len(self.response_logits), device=linear.device)
        return self.linearise_response(value.expand(len(lenses), -1, -1, -1), lenses).mean(0)[:, 0].T

    @torch.no_grad()
    def linearise(self, photo: Tensor, photometry: Photometry, position: Tensor, lens: Tensor) -> Tensor:
        """Return the radiance [B, 3, H, W] of photos in [0, 1]: the inverse of `forward`, without gradient."""
        gain = torch.exp2(-photometry.exposure)[:, None] * photometry.white_balance
        light = self.linearise_response(photo, lens)
        return light / gain[:, :, None, None] / self.vignette(position, lens).clamp_min(0.05)

    def prior(self) -> Tensor:
        """Return a scalar penalty on what photos alone cannot determine; it is small beside any error that they show.

        It prefers exposures near their start (within `exposure_trust`), neutral white balance, a smooth response near
        sRGB, and a small vignette that darkens outwards. Without it, a response of another exponent and exposures of
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
