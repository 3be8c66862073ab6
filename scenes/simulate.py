"""The simulated camera: lens, exposure, white balance, vignette, response, sensor noise, JPEG with EXIF.

Photo i is made of the scene's radiance by these formulas, which truth.json repeats; r is 1 at half the photo's diagonal:

    x = radiance · 2^-(EV_i − EV_scene) · white_balance_i · (1 + a r² + b r⁴ + c r⁶)
    x = x + noise (shot and read noise), clipped to [0, 1]
    y = response_channel(x), stored as round(255 y) in a JPEG
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from PIL.TiffImagePlugin import IFDRational

from adop.scenes.mesh import Array, unit

# Nominal shutter speeds in steps of a third of a stop, in 1/seconds.
SHUTTER_SPEEDS = (
    60, 80, 100, 125, 160, 200, 250, 320, 400, 500, 640, 800, 1000, 1250, 1600, 2000, 2500, 3200, 4000
)  # fmt: skip


@dataclass(frozen=True)
class LensTruth:
    """A lens in OpenCV's model; the centre of the first pixel is (0.5, 0.5)."""

    width: int
    height: int
    intrinsics: tuple[float, float, float, float]  # fx fy cx cy, pixels
    distortion: tuple[float, float, float, float]  # k1 k2 p1 p2

    def distort(self, xy: Array) -> Array:
        """Return the pixels [...,2] of points (x/z, y/z) [...,2] of the normalised image plane."""
        fx, fy, cx, cy = self.intrinsics
        k1, k2, p1, p2 = self.distortion
        x, y = xy[..., 0], xy[..., 1]
        r2 = x * x + y * y
        radial = 1 + k1 * r2 + k2 * r2 * r2
        u = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)
        v = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y
        return np.stack([fx * u + cx, fy * v + cy], -1)

    def undistort(self, uv: Array) -> Array:
        """Return the points of the normalised image plane for pixels [...,2], by Newton's method to double precision."""
        fx, fy, cx, cy = self.intrinsics
        k1, k2, p1, p2 = self.distortion
        target = (uv - [cx, cy]) / [fx, fy]
        x, y = target[..., 0].copy(), target[..., 1].copy()
        for _ in range(8):
            r2 = x * x + y * y
            radial, slope = 1 + k1 * r2 + k2 * r2 * r2, 2 * k1 + 4 * k2 * r2
            eu = x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x) - target[..., 0]
            ev = y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y - target[..., 1]
            a = radial + slope * x * x + 2 * p1 * y + 6 * p2 * x
            b = slope * x * y + 2 * p1 * x + 2 * p2 * y
            d = radial + slope * y * y + 6 * p1 * y + 2 * p2 * x
            det = a * d - b * b
            x, y = x - (d * eu - b * ev) / det, y - (a * ev - b * eu) / det
        return np.stack([x, y], -1)


@dataclass(frozen=True)
class CameraTruth:
    """Everything that the camera does to light, for N photos."""

    lens: LensTruth
    world_to_camera: Array  # [N,4,4] float64
    exposure: Array  # [N] exact EV
    scene_exposure: float  # EV at which radiance is not scaled
    white_balance: Array  # [N,3] r, 1, b
    vignette: tuple[float, float, float]  # a b c
    vignette_centre: tuple[float, float]  # pixels
    response_gain: tuple[float, float, float] = (16.0, 13.5, 12.0)
    response_curve: tuple[float, float, float] = (0.034, 0.030, 0.024)
    full_well: float = 20000.0  # electrons at x = 1 and ISO 100
    read_noise: float = 5.0  # electrons

    def vignette_factor(self, uv: Array) -> Array:
        """Return the vignette's factor at pixels [...,2]."""
        half = np.hypot(self.lens.width, self.lens.height) / 2
        r2 = (((uv - np.array(self.vignette_centre)) / half) ** 2).sum(-1)
        a, b, c = self.vignette
        return 1 + a * r2 + b * r2**2 + c * r2**3

    def response(self, x: Array) -> Array:
        """Return the response to sensor values [...,3]: monotonic, a logarithm with a slight S, f(0) = 0 and f(1) = 1."""
        gain, curve = np.array(self.response_gain), np.array(self.response_curve)
        x = np.clip(x, 0, 1)
        y = np.log1p(gain * x) / np.log1p(gain)
        return y - curve * np.sin(2 * np.pi * y)

    def iso(self, photo: int) -> int:
        """Return the ISO that the camera chooses: 200 when the light is low, else 100."""
        return 100 if self.exposure[photo] > self.scene_exposure - 0.7 else 200

    def expose(self, radiance: Array, photo: int) -> Array:
        """Return the linear sensor values x [H,W,3] before noise and clipping."""
        v, u = np.mgrid[: self.lens.height, : self.lens.width] + 0.5
        factor = 2.0 ** -(self.exposure[photo] - self.scene_exposure)
        return (
            radiance
            * factor
            * self.white_balance[photo]
            * self.vignette_factor(np.stack([u, v], -1))[..., None]
        )

    def develop(self, radiance: Array, photo: int, rng: np.random.Generator | None) -> Array:
        """Return the photo in [0,1] of a radiance [H,W,3]; without `rng` there is no noise."""
        x = self.expose(radiance, photo)
        if rng is not None:
            well = self.full_well * 100 / self.iso(photo)
            x = x + rng.normal(size=x.shape) * np.sqrt(np.maximum(x, 0) * well + self.read_noise**2) / well
        return self.response(x)

    def exif(self, photo: int) -> tuple[float, float, int]:
        """Return exposure time (s), f-number and ISO as the camera records them, the time rounded to 1/3 stop."""
        f_number, iso = 4.0, self.iso(photo)
        time = f_number**2 / 2 ** (self.exposure[photo] + np.log2(iso / 100))
        nominal = min(SHUTTER_SPEEDS, key=lambda s: abs(np.log2(s * time)))
        return 1.0 / nominal, f_number, iso

    def exif_exposure(self, photo: int) -> float:
        """Return the EV, log2(N²/t) − log2(ISO/100), of the recorded values."""
        time, f_number, iso = self.exif(photo)
        return float(np.log2(f_number**2 / time) - np.log2(iso / 100))


def save_jpeg(image: Array, file: Path, exif: tuple[float, float, int]) -> None:
    """Write an image [H,W,3] in [0,1] as an 8-bit JPEG (quality 92, 4:4:4); `exif` is exposure time, f-number and ISO."""
    jpeg = Image.fromarray(np.rint(np.clip(image, 0, 1) * 255).astype(np.uint8))
    tags = Image.Exif()
    tags[0x010F], tags[0x0110] = "adop", "simulated camera"
    tags.get_ifd(0x8769).update(
        {
            0x829A: IFDRational(1, round(1 / exif[0])),
            0x829D: IFDRational(round(exif[1] * 10), 10),
            0x8827: exif[2],
        }
    )
    jpeg.save(file, quality=92, subsampling=0, exif=tags)


def smooth_series(rng: np.random.Generator, count: int, waves: int = 5) -> Array:
    """Return a smooth, periodic random series [count] of mean 0 that reaches 1 or -1."""
    phase = np.arange(count) * 2 * np.pi / count
    series = sum(
        rng.normal() / k**0.5 * np.sin(k * phase + rng.uniform(0, 2 * np.pi)) for k in range(1, waves + 1)
    )
    series = series + 0.15 * series.std() * rng.normal(size=count)
    series = series - series.mean()
    return series / np.abs(series).max()


def walk_around_fountain(seed: int, count: int) -> Array:
    """Return world_to_camera [count,4,4] of a photographer who walks an arc around the fountain and back.

    On the way back the camera is higher. The walk is closed and starts in the middle of the arc, so that every photo lies
    between two others.
    """
    rng = np.random.default_rng([seed, 400])
    poses = []
    for phase in np.arange(count) * 2 * np.pi / count:
        angle = np.radians(54) * np.arcsin(0.97 * np.sin(phase)) / np.arcsin(0.97) + 0.01 * rng.normal()
        radius = 7.3 + 0.6 * np.sin(3 * phase + 1) + 0.1 * rng.normal()
        height = 2.25 - 0.7 * np.tanh(3 * np.cos(phase)) + 0.04 * rng.normal()
        eye = np.array([radius * np.sin(angle), -radius * np.cos(angle), height])
        target = np.array(
            [0.8 * np.sin(2 * phase + 0.5), 1.2 + 0.8 * np.cos(3 * phase), 2.0]
        ) + 0.12 * rng.normal(size=3)
        forward = unit(target - eye)
        right = unit(np.cross(forward, [0.03 * rng.normal(), 0, 1.0]))
        rotation = np.stack([right, np.cross(forward, right), forward])
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation, -rotation @ eye
        poses.append(pose)
    return np.array(poses)


def make_camera(seed: int, count: int, width: int, height: int) -> CameraTruth:
    """Return the true camera of `count` photos; the lens is scaled from a width of 480 pixels."""
    rng = np.random.default_rng([seed, 500])
    scale = width / 480
    lens = LensTruth(
        width,
        height,
        (371.6 * scale, 372.3 * scale, 242.3 * scale, 178.1 * scale),
        (-0.115, 0.046, 0.0007, -0.0005),
    )
    exposure = 13.0 + 1.5 * smooth_series(rng, count)
    balance = np.ones((count, 3))
    for channel, reach in ((0, 0.12), (2, 0.14)):
        balance[:, channel] = np.exp(reach * smooth_series(rng, count))
    vignette_centre = (width / 2 + 7.0 * scale, height / 2 - 5.0 * scale)
    return CameraTruth(
        lens=lens,
        world_to_camera=walk_around_fountain(seed, count),
        exposure=exposure,
        scene_exposure=13.0,
        white_balance=balance,
        vignette=(-0.30, 0.07, -0.06),
        vignette_centre=vignette_centre,
    )
