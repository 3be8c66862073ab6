"""Exposure and white balance of new views: fitted to the trained photos, kept in the run folder, and predicted."""

from __future__ import annotations

import json
import math
import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.ndimage import gaussian_filter1d
from torch import Tensor
from torch.nn import functional

from adop.errors import UserError, one_line, quoted
from adop.files import read_json, write_text
from adop.geometry.camera import Camera
from adop.images.metrics.psnr_ssim import LUMINANCE
from adop.model.pipeline import Pipeline
from adop.model.tonemapper import Tonemapper
from adop.model.views.view import Radiance
from adop.progress import Bar
from adop.render.camera_path import CameraPath, pinhole
from adop.render.camera_settings import CameraSettings
from adop.run.exposure_model import PhotoValues, ViewPrediction, choose

FORMAT = "adop-exposure-1"
LONGEST_SIDE = 320  # px, to which a view is reduced before its light is measured
QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)
LIGHT, COLOUR = 3 + len(QUANTILES), 2  # numbers of statistics, for EV and for white balance
DARKEST = 2.0**-14  # radiance below which differences do not count
MARGINS = (0.5, 0.1)  # EV and logarithm of a gain by which predictions may leave the trained photos' range
SMOOTH_SECONDS = 0.5  # standard deviation of the low-pass along a path
KINDS = ("exposure", "white_balance")
WORDS = {  # for the names of candidates, see `adop.run.exposure_model.choose`
    "default": "EXIF and neighbours",
    "mean": "the mean",
    "neighbours": "neighbours alone",
    "light": "the light that they show",
    "exif": "EXIF alone",
    "exif+light": "EXIF and light",
}


@dataclass(frozen=True)
class ExposureModel:
    """How a run predicts exposure and white balance of views that it was not trained on."""

    step: int  # training step of the parameters to which it was fitted
    errors: dict[str, dict[str, float]]  # by "exposure" (EV) and "white_balance": see `Choice.errors`
    photos: dict[str, str]  # likewise: which candidate predicts held-out photos
    views: dict[str, str]  # likewise: "light" or "mean", which predicts other views
    held_out: np.ndarray  # [H, 3] EV and logarithms of red and blue of held-out photos; NaN: the default
    view: ViewPrediction  # of the same three values, from the statistics of a view

    def predict(self, statistics: np.ndarray) -> CameraSettings:
        """Return exposure and white balance of a view with these statistics of its light."""
        exposure, red, blue = self.view(statistics).tolist()
        return CameraSettings(exposure, (math.exp(red), 1.0, math.exp(blue)))

    def summary(self) -> dict[str, Any]:
        """Return what `eval.json` says of it: the errors of all candidates, and which are used."""
        return {"left_out_errors": self.errors, "held_out_photos": self.photos, "other_views": self.views}

    def describe(self) -> str:
        """Return a sentence on which exposures are used and how far off they were; `summary` has all candidates."""
        errors = self.errors["exposure"]
        if not errors:
            return "exposure of new views: there are too few photos to compare ways of predicting it"
        words = WORDS if "exif" in errors else WORDS | {"default": "the mean and neighbours' corrections"}
        used, seen = self.photos["exposure"], self.views["exposure"]
        best = min(errors, key=errors.__getitem__)
        better = ""
        if round(errors[best], 3) < round(errors[used], 3):
            better = f" ({words[best]}: {errors[best]:.3f} EV, not clearly better)"
        return (
            f"exposure of held-out photos: from {words[used]}, which misses that of trained photos by "
            f"{errors[used]:.3f} EV{better}; of other views: from {words[seen]}, which misses it by {errors[seen]:.3f} EV"
        )

    def expect(self, tonemapper: Tonemapper) -> None:
        """Let the photos that were not trained on have the exposure and white balance that are predicted for them."""
        expected = torch.full((len(tonemapper.trained), 3), math.nan, dtype=torch.float64)
        expected[~tonemapper.trained.cpu()] = torch.from_numpy(self.held_out)
        tonemapper.expect(
            expected[:, 0].to(tonemapper.trained.device), expected[:, 1:].to(tonemapper.trained.device)
        )


def light_statistics(radiance: Tensor, drawn: Tensor | None = None) -> np.ndarray:
    """Return [10] what a light meter would measure in radiance [3, H, W], in stops.

    First log2 of the mean luminance and of its centre-weighted mean, the centre-weighted mean of log2 luminance, and
    its quantiles; then log2 of the means of red and of blue relative to green.

    Args:
        drawn: [H, W] bool, the pixels that are measured; None, or none is True: all.
    """
    shrink = LONGEST_SIDE / max(radiance.shape[1:])
    image = torch.nan_to_num(radiance.float(), posinf=0.0).clamp_min(0)[None]
    weight = torch.ones_like(image[:, :1])
    if drawn is not None and bool(drawn.any()):
        weight = drawn.to(weight)[None, None]
    if shrink < 1:
        size = [max(1, round(side * shrink)) for side in radiance.shape[1:]]
        image = functional.interpolate(image * weight, size=size, mode="area")
        weight = functional.interpolate(weight, size=size, mode="area")
        image = image / weight.clamp_min(1e-6)
    pixels, share = image[0].double().cpu().numpy(), weight[0, 0].double().cpu().numpy()
    height, width = share.shape
    luminance = np.maximum(np.tensordot(np.array(LUMINANCE), pixels, 1), DARKEST)
    y, x = np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]
    centred = share * np.exp(-1.5 * (x * x + y * y))
    logarithm = np.log2(luminance)
    means = np.log2([np.average(luminance, weights=share), np.average(luminance, weights=centred)])
    middle = np.average(logarithm, weights=centred)
    quantiles = np.quantile(logarithm[share > 0], QUANTILES)
    red, green, blue = (max(float(np.average(channel, weights=share)), DARKEST) for channel in pixels)
    return np.array([*means, middle, *quantiles, math.log2(red / green), math.log2(blue / green)])


def drawn_pixels(pipeline: Pipeline, rendered: Radiance) -> Tensor | None:
    """Return [H, W] bool, where the view B = 1 shows points; None where it shows the scene everywhere."""
    if pipeline.environment.enabled:
        return None
    return torch.isfinite(pipeline.depth(rendered)[0, 0])


@torch.no_grad()
def view_statistics(pipeline: Pipeline, camera: Camera) -> np.ndarray:
    """Return the statistics [10] of the light that a camera (B = 1) would see; it is rendered at a reduced size."""
    camera = camera.scaled(min(1.0, LONGEST_SIDE / max(camera.width, camera.height))).to(pipeline.device)
    rendered = pipeline.render(camera, extrapolate=True)
    return light_statistics(rendered.image[0], drawn_pixels(pipeline, rendered))


@torch.no_grad()
def fit_exposure(pipeline: Pipeline, step: int) -> ExposureModel:
    """Fit how exposure and white balance of new views are predicted, from the trained photos alone.

    No photo is read: the model is fitted to the exposures that were learned and to rendered light.

    Args:
        step: the training step that the pipeline has reached.
    """
    tonemapper = pipeline.tonemapper
    lens, trained = tonemapper.lens.cpu().numpy(), tonemapper.trained.cpu().numpy()
    photos = Bar(range(len(trained)), desc="light of the photos")
    cameras = (pipeline.camera(torch.tensor([photo])) for photo in photos)
    light = np.stack([view_statistics(pipeline, camera) for camera in cameras])
    start = tonemapper.exposure_start.double().cpu().numpy()[:, None]
    exposure = tonemapper.exposures().double().cpu().numpy()[:, None]
    gains = tonemapper.white_balances().double().log().cpu().numpy()[:, [0, 2]]
    given, moved = start if tonemapper.from_exif else None, exposure - start
    ev = choose(PhotoValues(exposure, given, moved, light[:, :LIGHT], lens, trained, MARGINS[0]))
    balance = choose(PhotoValues(gains, None, gains, light[:, LIGHT:], lens, trained, MARGINS[1]))
    weights = np.zeros((LIGHT + COLOUR, 3))
    weights[:LIGHT, :1], weights[LIGHT:, 1:] = ev.view.weights, balance.view.weights
    offset = np.concatenate((ev.view.offset, balance.view.offset))
    limits = np.concatenate((ev.view.limits, balance.view.limits), axis=1)
    held_out = np.full((int((~trained).sum()), 3), math.nan)
    for choice, columns in ((ev, slice(0, 1)), (balance, slice(1, 3))):
        if choice.predicted is not None:
            held_out[:, columns] = choice.predicted[~trained]
    choices = dict(zip(KINDS, (ev, balance), strict=True))
    return ExposureModel(
        step,
        errors={kind: choice.errors for kind, choice in choices.items()},
        photos={kind: choice.photos for kind, choice in choices.items()},
        views={kind: choice.views for kind, choice in choices.items()},
        held_out=held_out,
        view=ViewPrediction(offset, weights, limits),
    )


def expose_path(model: ExposureModel, pipeline: Pipeline, path: CameraPath) -> CameraPath:
    """Return the path with exposures added that a camera would choose along it, smoothed in time."""
    if model.views["exposure"] == "mean":
        return path
    values = []
    for frame in path.frames:
        camera = pinhole(frame, path.width, path.height, pipeline.device)
        values.append(model.predict(view_statistics(pipeline, camera)).exposure)
    smooth = gaussian_filter1d(np.array(values), SMOOTH_SECONDS * path.rate, mode="nearest")
    frames = [
        replace(frame, exposure=frame.exposure + float(value))
        for frame, value in zip(path.frames, smooth, strict=True)
    ]
    return replace(path, frames=frames)


def save_exposure(model: ExposureModel, folder: Path) -> None:
    """Write the model into `exposure.json` of a run folder."""
    values = {
        "format": FORMAT,
        "step": model.step,
        "errors": model.errors,
        "photos": model.photos,
        "views": model.views,
        "held_out": [[None if math.isnan(v) else v for v in row] for row in model.held_out.tolist()],
        "offset": model.view.offset.tolist(),
        "weights": model.view.weights.tolist(),
        "limits": model.view.limits.tolist(),
    }
    text = json.dumps(values, indent=2, allow_nan=False) + "\n"
    write_text(folder / "exposure.json", text)


def load_exposure(folder: Path, held_out: int, step: int) -> ExposureModel | None:
    """Return the model in a run folder; None where it has none, or one of another training step.

    Args:
        held_out: number of photos that the run was not trained on.
        step: the training step that the run has reached.

    Raises: UserError where the file is damaged or belongs to another run.
    """
    path = folder / "exposure.json"
    if not os.path.lexists(path):
        return None
    try:
        values = read_json(path)
        if values["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        if values["step"] != step:
            return None
        model = ExposureModel(
            step,
            errors={kind: _errors(values["errors"][kind]) for kind in KINDS},
            photos={kind: _source(values["photos"][kind]) for kind in KINDS},
            views={kind: _source(values["views"][kind]) for kind in KINDS},
            held_out=_array(values["held_out"], (held_out, 3), may_lack=True),
            view=ViewPrediction(
                _array(values["offset"], (3,)),
                _array(values["weights"], (LIGHT + COLOUR, 3)),
                _array(values["limits"], (2, 3)),
            ),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        reason = one_line(error).removeprefix(f"{path}: ").rstrip(".")
        raise UserError(
            f"{path}: is not the exposure model of this run ({reason}); delete it, and `adop eval` fits it anew"
        ) from None
    return model


def _source(value: Any) -> str:
    if not isinstance(value, str) or value not in WORDS:
        raise ValueError(f"{quoted(value)} is no way to predict an exposure")
    return value


def _errors(values: dict[str, Any]) -> dict[str, float]:
    return {_source(name): float(_array(value, ())) for name, value in values.items()}


def _array(values: Any, shape: tuple[int, ...], may_lack: bool = False) -> np.ndarray:
    """Return numbers as an array of this shape; with `may_lack`, null stands for NaN."""
    array = np.array(values, dtype=np.float64)
    if array.size == 0 and 0 in shape:
        array = array.reshape(shape)
    finite = np.abs(array) < 1e6
    if array.shape != shape or not (finite | np.isnan(array) if may_lack else finite).all():
        raise ValueError(f"expected {'x'.join(map(str, shape)) or 'one'} finite numbers")
    return array
