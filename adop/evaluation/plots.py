"""Plots of what a run has learned about its cameras, and of the errors that a benchmark measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adop.evaluation.pages.plot_files import BLUE, GREEN, GREY, INK, RED
from adop.evaluation.photometric_truth import RADII, CameraErrors, PhysicalCamera

CHANNELS = (("red", RED), ("green", GREEN), ("blue", BLUE))
DPI = 110


def plot_camera(
    found: PhysicalCamera,
    exif: np.ndarray | None,
    file: Path,
    truth: PhysicalCamera | None = None,
    errors: CameraErrors | None = None,
) -> None:
    """Write exposures, response curves and vignette of a learned camera as one PNG.

    Args:
        exif: [P] EV to compare with where `truth` is not given; None: the photos have no EXIF.
        truth, errors: the true camera, drawn as well, and the comparison with it; both or neither.
    """
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    if truth is None or errors is None:
        draw_exposures(left, found.exposure, exif, "EV from EXIF")
        draw_response(middle, found.light, found.response)
        draw_vignette(right, found.vignette)
    else:
        draw_exposures(left, errors.exponent * found.exposure, truth.exposure, "true EV")
        for c, (_, colour) in enumerate(CHANNELS):
            middle.plot(truth.light, truth.response[:, c], color=colour, lw=4, alpha=0.3)
        draw_response(middle, truth.light, errors.response)
        middle.set_title("response: photo value (pale: true)")
        right.plot(RADII, truth.vignette, color=GREY, lw=4, alpha=0.5, label="true")
        draw_vignette(right, found.vignette**errors.exponent)
        right.legend(frameon=False)
    figure.savefig(file, dpi=DPI)


def draw_exposures(axes: Axes, learned: np.ndarray, reference: np.ndarray | None, label: str = "") -> None:
    """Draw learned exposures [P], EV, against others after their means are aligned; without others, in their order."""
    if reference is None:
        axes.plot(learned - learned.mean(), ".-", color=INK, lw=0.8)
        axes.set(xlabel="photo", title="exposure, EV (larger is darker)")
        return
    learned = learned - learned.mean() + reference.mean()
    ends = [min(reference.min(), learned.min()), max(reference.max(), learned.max())]
    axes.plot(ends, ends, color=GREY, lw=1)
    axes.plot(reference, learned, ".", color=INK)
    axes.set(xlabel=label, title="learned exposure, EV (larger is darker)")


def draw_response(axes: Axes, light: np.ndarray, response: np.ndarray) -> None:
    """Draw the response [K, 3] of a camera at sensor light [K]."""
    for c, (name, colour) in enumerate(CHANNELS):
        axes.plot(light, response[:, c], color=colour, lw=1.2, label=name)
    axes.set(xlabel="light", title="response: photo value")
    axes.legend(frameon=False)


def draw_vignette(axes: Axes, vignette: np.ndarray) -> None:
    """Draw the vignette [33] of a lens at `RADII`."""
    axes.plot(RADII, vignette, color=INK, lw=1.2, label="learned")
    axes.set(xlabel="half diagonals from the centre", title="vignette: factor of the light", ylim=(0, 1.1))


def draw_camera_moves(axes: Axes, pixels: list[float]) -> None:
    """Draw by how many pixels each photo's image has moved."""
    axes.bar(range(len(pixels)), pixels, color=INK, width=1.0 if len(pixels) > 60 else 0.8)
    axes.set(xlabel="photo", title="how far cameras moved: median shift of the image, px")


def draw_point_moves(axes: Axes, shifts: np.ndarray) -> None:
    """Draw how many points moved how far, scene units."""
    axes.hist(shifts, bins=60, color=INK)
    axes.set(xlabel="scene units", title="how far points moved: number of points", yscale="log")


def plot_errors(errors: dict[str, tuple[list[float], list[float]]], file: Path) -> None:
    """Write sorted errors at the start and at the end, one panel per quantity, as one PNG.

    Args:
        errors: quantity with its unit -> errors of the photos (or points) at the start, and at the end.
    """
    figure = Figure(figsize=(4 * len(errors), 3.6), layout="constrained")
    panels = figure.subplots(1, len(errors), squeeze=False)[0]
    for axes, (name, (start, end)) in zip(panels, errors.items(), strict=True):
        for values, colour, label in ((start, GREY, "start"), (end, INK, "end")):
            axes.plot(np.linspace(0, 100, len(values)), np.sort(values), color=colour, label=label)
        axes.set(xlabel="% of the photos (points)", title=name)
        axes.set_ylim(bottom=0)
        axes.legend(frameon=False)
    figure.savefig(file, dpi=DPI)
