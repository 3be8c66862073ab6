"""The plot of held-out scores over training time, and their table."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FormatStrFormatter, NullFormatter

PANELS = {
    "psnr_fitted": "PSNR, exposure fitted, dB",
    "psnr_corrected": "PSNR, colour-corrected, dB",
    "ssim_corrected": "SSIM, colour-corrected",
    "flip_corrected": "FLIP, colour-corrected (lower is better)",
}
COLOURS = ("#14599e", "#c85a28", "#27863c", "#8e44ad", "#b8860b", "#c0392b", "#117a8b", "#555555")
GREY = "#888888"


def plot_quality(scenes: dict[str, Any], title: str, file: Path) -> None:
    """Write the scores over seconds as one PNG: a row for each scene, a line for each preset, a mark for each rival.

    Args: scenes: by name, as in the JSON of `adop bench quality`.
    """
    figure = Figure(figsize=(15, 0.6 + 3.4 * len(scenes)), dpi=100, layout="constrained")
    figure.suptitle(title, fontsize=10)
    rows = figure.subplots(len(scenes), len(PANELS), squeeze=False, sharex="row")
    for (scene, result), row in zip(scenes.items(), rows, strict=True):
        for axes, (score, label) in zip(row, PANELS.items(), strict=True):
            _plot_score(axes, result, score)
            axes.set(title=f"{scene}: {label}", xlabel="seconds")
            axes.title.set_fontsize(9)
            axes.grid(color="#eeeeee")
        _scale_seconds(row[0], result)
        row[0].legend(frameon=False, fontsize=8)
    figure.savefig(file)


def _scale_seconds(axes: Axes, result: dict[str, Any]) -> None:
    """Show seconds from 0, or by their logarithm where the shortest and the longest differ tenfold."""
    seconds = [point["seconds"] for trained in result["presets"].values() for point in trained["curve"]]
    seconds += [rival["seconds"] for rival in result["rivals"].values() if rival["seconds"] is not None]
    if max(seconds) < 10 * min(seconds):
        axes.set_xlim(0, 1.05 * max(seconds))
    else:
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(FormatStrFormatter("%g"))
        axes.xaxis.set_minor_formatter(NullFormatter())


def _plot_score(axes: Axes, result: dict[str, Any], score: str) -> None:
    colours = iter(COLOURS * (1 + (len(result["presets"]) + len(result["rivals"])) // len(COLOURS)))
    for name, trained in result["presets"].items():
        points = [(point["seconds"], point[score]) for point in trained["curve"]]
        axes.plot(*zip(*points, strict=True), ".-", color=next(colours), label=name)
    for name, rival in result["rivals"].items():
        # A rival's exposure cannot be fitted: in that panel it has only its entry of the legend.
        colour, value = next(colours), rival["mean"].get(score, math.nan)
        if rival["seconds"] is None:
            axes.axhline(value, color=colour, ls="--", lw=1.2, label=name)
        else:
            axes.plot(rival["seconds"], value, "D", color=colour, label=name)
    untrained = next(iter(result["presets"].values()))["baseline_points"][score]
    axes.axhline(untrained, color=GREY, ls=":", lw=1, label="points, untrained")


def quality_table(scenes: dict[str, Any]) -> str:
    """Return the scores at the end of training as a table, a row for each preset and rival of each scene."""
    lines = [
        f"{'':34}{'seconds':>8}{'PSNR':>8}{'PSNR':>9}{'PSNR':>11}{'SSIM':>8}{'FLIP':>8}{'edge':>10}",
        f"{'held-out photos, mean':42}{'plain':>8}{'fitted':>9}{'corrected':>11}{'corr.':>8}{'corr.':>8}{'contrast':>10}",
    ]
    for scene, result in scenes.items():
        lines.append(scene)
        rows = {name: trained["curve"][-1] for name, trained in result["presets"].items()}
        rows |= {
            name: rival["mean"] | {"seconds": rival["seconds"]} for name, rival in result["rivals"].items()
        }
        rows["points, untrained"] = next(iter(result["presets"].values()))["baseline_points"]
        lines += [f"  {name:32}{_cells(row)}" for name, row in rows.items()]
    return "\n".join(lines)


def _cells(row: dict[str, Any]) -> str:
    columns = (
        ("seconds", 8, 0),
        ("psnr", 8, 2),
        ("psnr_fitted", 9, 2),
        ("psnr_corrected", 11, 2),
        ("ssim_corrected", 8, 3),
        ("flip_corrected", 8, 3),
        ("edge_contrast_corrected", 10, 2),
    )
    values = ((row.get(name), width, decimals) for name, width, decimals in columns)
    return "".join(
        f"{'-':>{width}}" if value is None else f"{value:{width}.{decimals}f}"
        for value, width, decimals in values
    )
