"""Plots of what a run has learned about its cameras, and of the errors that a benchmark measures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adop.evaluation.photometric_truth import RADII, CameraErrors, PhysicalCamera

CHANNELS = (("red", "#c0392b"), ("green", "#27863c"), ("blue", "#2460a7"))
GREY, INK = "#9a9a9a", "#333333"
DPI = 110
MAX_NAMED_PHOTOS = 40  # more names do not fit on an axis


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
    exponent = 1.0 if errors is None else errors.exponent
    if truth is not None:
        _plot_exposures(left, exponent * found.exposure, truth.exposure, "true EV")
    elif exif is not None:
        _plot_exposures(left, exponent * found.exposure, exif, "EV from EXIF")
    else:
        left.plot(found.exposure - found.exposure.mean(), ".-", color=INK, lw=0.8)
        left.set(xlabel="photo", ylabel="learned EV", title="exposures (no EXIF)")
    light, response = found.light, found.response
    if truth is not None and errors is not None:
        light, response = truth.light, errors.response
    for c, (name, colour) in enumerate(CHANNELS):
        if truth is not None:
            middle.plot(truth.light, truth.response[:, c], color=colour, lw=4, alpha=0.3)
        middle.plot(light, response[:, c], color=colour, lw=1.2, label=name)
    title = "response" if truth is None else "response (pale: true)"
    middle.set(xlabel="light", ylabel="photo value", title=title)
    middle.legend(frameon=False)
    if truth is not None:
        right.plot(RADII, truth.vignette, color=GREY, lw=4, alpha=0.5, label="true")
    right.plot(RADII, found.vignette**exponent, color=INK, lw=1.2, label="learned")
    right.set(xlabel="half diagonals from the centre", ylabel="factor", title="vignette", ylim=(0, 1.1))
    right.legend(frameon=False)
    figure.savefig(file, dpi=DPI)


def _plot_exposures(axes: Axes, learned: np.ndarray, reference: np.ndarray, label: str) -> None:
    """Draw learned against reference exposures [P], EV, after their means are aligned."""
    learned = learned - learned.mean() + reference.mean()
    ends = [min(reference.min(), learned.min()), max(reference.max(), learned.max())]
    axes.plot(ends, ends, color=GREY, lw=1)
    axes.plot(reference, learned, ".", color=INK)
    axes.set(xlabel=label, ylabel="learned EV", title="exposures")


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


def plot_moves(pixels: list[float], names: list[str], shifts: np.ndarray, file: Path) -> None:
    """Write how far the cameras and the points moved from their start as one PNG.

    Args:
        pixels: median shift of each photo's image.
        names: of the photos.
        shifts: [N] of the points, scene units.
    """
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    left.bar(range(len(pixels)), pixels, color=INK)
    left.set(xlabel="photo", ylabel="median shift of the image, pixels", title="how far cameras moved")
    if len(names) <= MAX_NAMED_PHOTOS:
        left.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    if not len(shifts) or shifts.max() <= 0:
        right.set(title="points were not moved", xticks=[], yticks=[])
    else:
        right.hist(shifts, bins=60, color=INK)
        right.set(xlabel="scene units", ylabel="points", title="how far points moved", yscale="log")
    figure.savefig(file, dpi=DPI)
