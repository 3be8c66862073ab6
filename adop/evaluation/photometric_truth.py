"""The true physical camera of a simulated capture, and the errors of the one that a run has learned."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adop.errors import UserError, one_line
from adop.files import read_json
from adop.images.srgb import srgb_decode
from adop.model.pipeline import Pipeline
from adop.scene.scene import Scene

VALUES = np.linspace(0.03, 0.97, 48)  # photo values at which responses are compared
RADII = np.linspace(0, 1, 33)  # half diagonals, at which vignettes are compared
MIN_LIGHT = 1e-12  # least light whose logarithm is taken
Pair = tuple[np.ndarray, np.ndarray]  # the same quantity of the learned and of the true camera


@dataclass(frozen=True)
class PhysicalCamera:
    """Exposure and white balance of P photos; vignette and response of the lens that they share."""

    exposure: np.ndarray  # [P] EV, larger is darker
    white_balance: np.ndarray  # [P, 3] gains
    vignette: np.ndarray  # [33] factor at RADII from the vignette's own centre
    light: np.ndarray  # [K] sensor light at which the response is known
    response: np.ndarray  # [K, 3] photo value in [0, 1]

    def of(self, photos: list[int]) -> PhysicalCamera:
        """Return the camera of a selection of photos."""
        return replace(self, exposure=self.exposure[photos], white_balance=self.white_balance[photos])


@dataclass(frozen=True)
class CameraErrors:
    """Errors of a learned physical camera after its gauge is aligned with the true one's."""

    exposure: np.ndarray  # [P] EV
    white_balance: np.ndarray  # [P, 2] relative, red and blue
    vignette_rmse: float
    response_rmse: float
    exponent: float  # power of light that aligns the gauge: photos do not determine it if exposures are unknown; else 1
    response: np.ndarray  # [K, 3] the aligned learned response at the true camera's light


def read_truth(path: Path, scene: Scene) -> PhysicalCamera:
    """Read the true camera of the scene's photos from JSON.

    The file is `truth.json` of the demo scene, or describes a second camera applied to real photos ("images" and
    "response_samples").

    Raises: UserError if the file cannot be read or lacks one of the scene's photos.
    """
    values = read_json(path)
    try:
        truth = _demo_truth(values, scene) if "photos" in values else _overlay_truth(values, scene)
    except (KeyError, TypeError, IndexError, ValueError, AttributeError) as error:
        raise UserError(f"{path}: lacks data about this scene's photos: {one_line(error)}") from None
    for name, shape in _shapes(truth).items():
        array = getattr(truth, name)
        if array.shape != shape or not np.isfinite(array).all():
            raise UserError(f"{path}: its {name} must be {'x'.join(map(str, shape))} finite numbers")
    return truth


def _shapes(camera: PhysicalCamera) -> dict[str, tuple[int, ...]]:
    photos, knots = len(camera.exposure), max(2, camera.light.size)
    return {
        "exposure": (photos,),
        "white_balance": (photos, 3),
        "vignette": RADII.shape,
        "light": (knots,),
        "response": (knots, 3),
    }


def _vignette(values: dict[str, Any]) -> np.ndarray:
    r2 = RADII**2
    return 1 + r2 * (values["a"] + r2 * (values["b"] + r2 * values["c"]))


def _numbers(values: Any) -> np.ndarray:
    return np.array(values, dtype=np.float64)


def _demo_truth(values: dict[str, Any], scene: Scene) -> PhysicalCamera:
    by_file = {photo["file"]: photo for photo in values["photos"]}
    names = [Path(photo.name).name for photo in scene.photos]
    photos = [by_file[name if "." in name else f"{name}.jpg"] for name in names]
    return PhysicalCamera(
        exposure=_numbers([photo["exposure"] for photo in photos]),
        white_balance=_numbers([photo["white_balance"] for photo in photos]),
        vignette=_vignette(values["vignette"]),
        light=_numbers(values["response"]["x"]),
        response=_numbers(values["response"]["y"]),
    )


def _overlay_truth(values: dict[str, Any], scene: Scene) -> PhysicalCamera:
    by_stem = {Path(name).stem: image for name, image in values["images"].items()}
    photos = [by_stem[Path(photo.name).stem] for photo in scene.photos]
    samples = values["response_samples"]
    return PhysicalCamera(
        exposure=-_numbers([photo["ev"] for photo in photos]),
        white_balance=_numbers([photo["white_balance"] for photo in photos]),
        vignette=_vignette(values["vignette"]),
        light=_numbers([sample["x"] for sample in samples]),
        response=_numbers([[sample["R"], sample["G"], sample["B"]] for sample in samples]),
    )


def learned_camera(pipeline: Pipeline, lens: int = 0) -> PhysicalCamera:
    """Return the physical camera that a pipeline has learned, with one of its lenses."""
    tonemapper = pipeline.tonemapper
    a, b, c = tonemapper.vignette_coefficients[lens].detach().cpu().double().tolist()
    curve = tonemapper.response()[lens].detach().cpu().double()
    knots = np.linspace(0, 1, curve.shape[1])
    # The learned curve is piecewise linear in the sRGB-encoded value, so it is sampled finely there.
    encoded = np.linspace(0, 1, 1025)
    return PhysicalCamera(
        exposure=tonemapper.exposures().detach().cpu().double().numpy(),
        white_balance=tonemapper.white_balances().detach().cpu().double().numpy(),
        vignette=_vignette({"a": a, "b": b, "c": c}),
        light=_decode(encoded),
        response=np.stack([np.interp(encoded, knots, channel) for channel in curve.numpy()], axis=1),
    )


def compose_cameras(overlay: PhysicalCamera, source: PhysicalCamera) -> PhysicalCamera:
    """Return the one camera that acts as `source`, which took the photos, followed by `overlay`, applied to them.

    Exact if the source's response is sRGB's or a power of it.
    """
    decoded = _decode(source.response)
    # The overlay's light is the source's up to a factor, which the gauge takes out.
    response = [np.interp(decoded[:, c], overlay.light, overlay.response[:, c]) for c in range(3)]
    return replace(
        overlay,
        exposure=overlay.exposure + source.exposure,
        white_balance=overlay.white_balance * source.white_balance,
        vignette=overlay.vignette * source.vignette,
        light=source.light,
        response=np.stack(response, axis=1),
    )


def _decode(value: np.ndarray) -> np.ndarray:
    return srgb_decode(torch.from_numpy(value)).numpy()


def compare(
    learned: PhysicalCamera, truth: PhysicalCamera, photos: list[int], exposures_known: bool
) -> CameraErrors:
    """Return the errors of a learned camera over the photos that were trained on, after its gauge is aligned.

    The gauge is a common EV and a common gain of each channel (of white balance and of the response's light). If
    exposures were unknown it includes a power of all light, fitted to exposures and response together.
    """
    log_light = _log_light(learned), _log_light(truth)
    valid = np.isfinite(log_light[0]) & np.isfinite(log_light[1])
    channels = [(log_light[0][valid[:, c], c], log_light[1][valid[:, c], c]) for c in range(3)]
    exponent = 1.0
    if not exposures_known:
        exposures = np.log(2) * learned.exposure[photos], np.log(2) * truth.exposure[photos]
        exponent = _fit_exponent(exposures, channels)
    exposure = exponent * learned.exposure[photos] - truth.exposure[photos]
    balance = exponent * np.log(learned.white_balance[photos]) - np.log(truth.white_balance[photos])
    balance -= balance[:, 1:2]
    balance -= balance.mean(0)
    vignette_error = learned.vignette**exponent - truth.vignette
    response, response_rmse = _aligned_response(learned, truth, channels, exponent)
    return CameraErrors(
        exposure=exposure - exposure.mean(),
        white_balance=np.abs(np.exp(balance[:, [0, 2]]) - 1),
        vignette_rmse=float(np.sqrt((vignette_error**2).mean())),
        response_rmse=response_rmse,
        exponent=exponent,
        response=response,
    )


def _log_light(camera: PhysicalCamera) -> np.ndarray:
    """Return [48, 3] the logarithm of the light that gives `VALUES`; nan where no light does."""
    result = []
    for channel in camera.response.T:
        rising = np.concatenate(([True], np.diff(channel) > 0))
        inside = (channel[0] < VALUES) & (channel[rising][-1] > VALUES)
        light = np.interp(VALUES, channel[rising], camera.light[rising])
        result.append(np.where(inside & (light > 0), np.log(np.maximum(light, MIN_LIGHT)), np.nan))
    return np.stack(result, axis=1)


def _fit_exponent(exposures: Pair, channels: list[Pair]) -> float:
    """Return the factor from learned to true logarithms, by least squares over centred exposures and response."""
    centred = [tuple(part - part.mean() for part in channel) for channel in channels]
    learned, truth = (np.concatenate(parts) for parts in zip(*centred, strict=True))
    pairs = [(exposures[0] - exposures[0].mean(), exposures[1] - exposures[1].mean()), (learned, truth)]
    return float(sum((x * y).mean() for x, y in pairs) / sum((x * x).mean() for x, _ in pairs))


def _aligned_response(
    learned: PhysicalCamera, truth: PhysicalCamera, channels: list[Pair], exponent: float
) -> tuple[np.ndarray, float]:
    """Return the learned response [K, 3] at the true camera's light, gauge aligned, and its root mean square error.

    Args:
        channels: log light of the learned and the true camera that gives the same photo value, for each channel.
    """
    response, errors = np.zeros((len(truth.light), 3)), []
    for c, (learned_log, true_log) in enumerate(channels):
        scale = (true_log - exponent * learned_log).mean()
        light = np.exp((np.log(np.maximum(truth.light, MIN_LIGHT)) - scale) / exponent)
        response[:, c] = np.interp(light, learned.light, learned.response[:, c])
        inside = light <= 1
        errors.append((response[inside, c] - truth.response[inside, c]) ** 2)
    return response, float(np.sqrt(np.concatenate(errors).mean()))
