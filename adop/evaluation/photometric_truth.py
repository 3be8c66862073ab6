"""The true physical camera of a simulated capture, and how far a run's learned one is from it."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adop.errors import UserError
from adop.model.pipeline import Pipeline
from adop.model.tonemapper import srgb_decode
from adop.scene.scene import Scene

SAMPLES = np.linspace(0.03, 0.97, 48)  # photo values at which responses are compared
RADII = np.linspace(0, 1, 33)  # half diagonals


@dataclass(frozen=True)
class CameraTruth:
    """Exposure, white balance, vignette and response; also how a run's own are compared with them."""

    exposure: np.ndarray  # [P] EV, larger is darker
    white_balance: np.ndarray  # [P, 3] gains
    vignette: np.ndarray  # [33] factor at RADII from the vignette's own centre
    light: np.ndarray  # [K] sensor light at which the response is known
    response: np.ndarray  # [K, 3] photo value in [0, 1]

    def of(self, photos: list[int]) -> CameraTruth:
        """Return the same of some photos."""
        return replace(self, exposure=self.exposure[photos], white_balance=self.white_balance[photos])


@dataclass(frozen=True)
class CameraErrors:
    """How far a learned camera is from the true one, after the gauge is aligned."""

    exposure: np.ndarray  # [P] EV
    white_balance: np.ndarray  # [P, 2] relative, red and blue
    vignette_rmse: float
    response_rmse: float
    exponent: float  # the power of light that the photos leave open, where exposures were unknown; else 1
    response: np.ndarray  # [K, 3] the learned response at the truth's light


def read_truth(path: Path, scene: Scene) -> CameraTruth:
    """Read truth.json of the demo scene, or one that lists a camera laid over real photographs.

    Raises: UserError where the file says nothing of one of the scene's photos.
    """
    try:
        values = json.loads(path.read_text())
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror})") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({error})") from None
    try:
        return _demo_truth(values, scene) if "photos" in values else _overlay_truth(values, scene)
    except (KeyError, TypeError, IndexError) as error:
        raise UserError(f"{path}: does not say what is needed of this scene's photos: {error}") from None


def _vignette(values: dict[str, Any]) -> np.ndarray:
    r2 = RADII**2
    return 1 + r2 * (values["a"] + r2 * (values["b"] + r2 * values["c"]))


def _demo_truth(values: dict[str, Any], scene: Scene) -> CameraTruth:
    photos = {photo["file"]: photo for photo in values["photos"]}
    own = [photos[Path(photo.name).name + ("" if "." in photo.name else ".jpg")] for photo in scene.photos]
    return CameraTruth(
        np.array([p["exposure"] for p in own]),
        np.array([p["white_balance"] for p in own]),
        _vignette(values["vignette"]),
        np.array(values["response"]["x"]),
        np.array(values["response"]["y"]),
    )


def _overlay_truth(values: dict[str, Any], scene: Scene) -> CameraTruth:
    images = {Path(name).stem: image for name, image in values["images"].items()}
    own = [images[Path(photo.name).stem] for photo in scene.photos]
    samples = values["response_samples"]
    return CameraTruth(
        -np.array([p["ev"] for p in own]),
        np.array([p["white_balance"] for p in own]),
        _vignette(values["vignette"]),
        np.array([s["x"] for s in samples]),
        np.array([[s["R"], s["G"], s["B"]] for s in samples]),
    )


def learned_camera(pipeline: Pipeline, lens: int = 0) -> CameraTruth:
    """Return what a run has learned, in the form of a truth."""
    tonemapper = pipeline.tonemapper
    a, b, c = tonemapper.vignette_coefficients[lens].detach().cpu().double().tolist()
    curve = tonemapper.response()[lens].detach().cpu().double()
    value = np.linspace(0, 1, curve.shape[1])
    # The learned curve is linear over the encoded value: look it up finely there.
    fine = np.linspace(0, 1, 1025)
    response = np.stack([np.interp(fine, value, channel) for channel in curve.numpy()], axis=1)
    light = _decode(fine)
    return CameraTruth(
        tonemapper.exposures().detach().cpu().double().numpy(),
        tonemapper.white_balances().detach().cpu().double().numpy(),
        _vignette({"a": a, "b": b, "c": c}),
        light,
        response,
    )


def laid_over(own: CameraTruth, source: CameraTruth) -> CameraTruth:
    """Return the whole camera of photos that were put through `own`, whose source photos `source` had taken.

    Exact where the source's response is sRGB's or a power of it.
    """
    decoded = _decode(source.response)
    # Light of the overlay's sensor per light of the source's: one up to a factor, which the gauge takes out.
    values = np.stack([np.interp(decoded[:, c], own.light, own.response[:, c]) for c in range(3)], axis=1)
    return replace(
        own,
        exposure=own.exposure + source.exposure,
        white_balance=own.white_balance * source.white_balance,
        vignette=own.vignette * source.vignette,
        light=source.light,
        response=values,
    )


def _decode(value: np.ndarray) -> np.ndarray:
    return srgb_decode(torch.from_numpy(value)).numpy()


def _light_at(camera: CameraTruth, values: np.ndarray) -> np.ndarray:
    """Return [len(values), 3] the logarithm of the light that gives photo values; nan where none does."""
    found = []
    for channel in camera.response.T:
        keep = np.concatenate(([True], np.diff(channel) > 0))
        inside = (values > channel[0]) & (values < channel[keep][-1])
        light = np.interp(values, channel[keep], camera.light[keep])
        found.append(np.where(inside & (light > 0), np.log(np.maximum(light, 1e-12)), np.nan))
    return np.stack(found, axis=1)


def compare(found: CameraTruth, truth: CameraTruth, photos: list[int], exposures_known: bool) -> CameraErrors:
    """Compare a learned camera with the true one over the photos that were trained on.

    The gauge is taken out first: a common EV, a common gain of each channel (white balance and the response's light
    alike), and, where exposures were unknown, one power of all light, fitted on exposures and response alike.
    """
    a, b = _light_at(found, SAMPLES), _light_at(truth, SAMPLES)
    known = np.isfinite(a) & np.isfinite(b)
    exponent = 1.0
    centred = []
    for c in range(3):
        centred.append(
            (a[known[:, c], c] - a[known[:, c], c].mean(), b[known[:, c], c] - b[known[:, c], c].mean())
        )
    if not exposures_known:
        own, true = (np.log(2) * camera.exposure[photos] for camera in (found, truth))
        pairs = [
            (own - own.mean(), true - true.mean()),
            tuple(np.concatenate(c) for c in zip(*centred, strict=True)),
        ]
        exponent = float(sum((x * y).mean() for x, y in pairs) / sum((x * x).mean() for x, _ in pairs))
    learned = np.zeros((len(truth.light), 3))
    errors = []
    for c in range(3):
        scale = (b[known[:, c], c] - exponent * a[known[:, c], c]).mean()
        own_light = np.exp((np.log(np.maximum(truth.light, 1e-12)) - scale) / exponent)
        learned[:, c] = np.interp(own_light, found.light, found.response[:, c])
        seen = np.isin(np.arange(len(truth.light)), np.nonzero(own_light <= 1)[0])
        errors.append((learned[seen, c] - truth.response[seen, c]) ** 2)
    exposure = exponent * found.exposure[photos] - truth.exposure[photos]
    balance = exponent * np.log(found.white_balance[photos]) - np.log(truth.white_balance[photos])
    balance -= balance[:, 1:2]
    balance -= balance.mean(0)
    return CameraErrors(
        exposure - exposure.mean(),
        np.abs(np.exp(balance[:, [0, 2]]) - 1),
        float(np.sqrt(((found.vignette**exponent - truth.vignette) ** 2).mean())),
        float(np.sqrt(np.concatenate(errors).mean())),
        exponent,
        learned,
    )
