"""Plots of what a run has learned of its cameras, and of what a benchmark recovered."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from adop.evaluation.photometric_truth import RADII, CameraErrors, CameraTruth

CHANNELS = (("red", "#c0392b"), ("green", "#27863c"), ("blue", "#2460a7"))
GREY, INK = "#9a9a9a", "#333333"


def plot_camera(
    found: CameraTruth,
    exif: np.ndarray | None,
    file: Path,
    truth: CameraTruth | None = None,
    errors: CameraErrors | None = None,
) -> None:
    """Write exposures against EXIF (or the truth), the response curves and the vignette, as one PNG."""
    figure = Figure(figsize=(12, 3.8), layout="constrained")
    left, middle, right = figure.subplots(1, 3)
    exponent = 1.0 if errors is None else errors.exponent
    against = truth.exposure if truth is not None else exif
    if against is None:
        left.plot(found.exposure - found.exposure.mean(), ".-", color=INK, lw=0.8)
        left.set(xlabel="photo", ylabel="learned EV", title="exposures (no EXIF)")
    else:
        own = exponent * found.exposure
        own = own - own.mean() + against.mean()
        span = [min(against.min(), own.min()), max(against.max(), own.max())]
        left.plot(span, span, color=GREY, lw=1)
        left.plot(against, own, ".", color=INK)
        left.set(
            xlabel="true EV" if truth is not None else "EXIF's EV", ylabel="learned EV", title="exposures"
        )
    for c, (name, colour) in enumerate(CHANNELS):
        if truth is not None and errors is not None:
            middle.plot(truth.light, truth.response[:, c], color=colour, lw=4, alpha=0.3)
            middle.plot(truth.light, errors.response[:, c], color=colour, lw=1.2, label=name)
        else:
            middle.plot(found.light, found.response[:, c], color=colour, lw=1.2, label=name)
    middle.set(
        xlabel="light", ylabel="photo", title="response (pale: true)" if truth is not None else "response"
    )
    middle.legend(frameon=False)
    if truth is not None:
        right.plot(RADII, truth.vignette, color=GREY, lw=4, alpha=0.5, label="true")
    right.plot(RADII, found.vignette**exponent, color=INK, lw=1.2, label="learned")
    right.set(xlabel="half diagonals from the centre", ylabel="factor", title="vignette", ylim=(0, 1.1))
    right.legend(frameon=False)
    figure.savefig(file, dpi=110)


def plot_errors(bars: dict[str, tuple[list[float], list[float]]], file: Path) -> None:
    """Write, for each group, the sorted errors of its photos at the start and at the end, as one PNG.

    Args:
        bars: name with unit -> errors at the start, errors at the end.
    """
    figure = Figure(figsize=(4 * max(1, len(bars)), 3.6), layout="constrained")
    for axis, (name, (start, end)) in zip(
        np.atleast_1d(figure.subplots(1, max(1, len(bars)))), bars.items(), strict=False
    ):
        for values, colour, label in ((start, GREY, "start"), (end, INK, "end")):
            share = np.linspace(0, 100, len(values))
            axis.plot(share, np.sort(values), color=colour, label=label)
        axis.set(xlabel="% of the photos (points)", title=name)
        axis.set_ylim(bottom=0)
        axis.legend(frameon=False)
    figure.savefig(file, dpi=110)


def plot_moves(pixels: list[float], names: list[str], shifts: np.ndarray | None, file: Path) -> None:
    """Write how far each photo's picture moved, and how far the points did, as one PNG."""
    figure = Figure(figsize=(12, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(2, 1))
    left.bar(range(len(pixels)), pixels, color=INK)
    left.set(xlabel="photo", ylabel="pixels (median of the photo)", title="how far cameras moved")
    if len(names) <= 40:
        left.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    if shifts is None or not len(shifts) or shifts.max() <= 0:
        right.set(title="points were not moved", xticks=[], yticks=[])
    else:
        right.hist(shifts, bins=60, color=INK)
        right.set(xlabel="scene units", ylabel="points", title="how far points moved", yscale="log")
    figure.savefig(file, dpi=110)
