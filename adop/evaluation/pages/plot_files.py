"""Plots of a page: each an SVG file for light pages, and one for dark pages that differs in its colours alone."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from adop.evaluation.pages.document import text
from adop.files import write_text

# Colours of a plot on a light page, and what they become on a dark one; others are read well on both.
INK, GREY, GRID = "#333a44", "#9a9a9a", "#e4e6e9"
RED, GREEN, BLUE = "#c0392b", "#27863c", "#2460a7"
DARK = {INK: "#d3d8e0", GRID: "#2d323b", RED: "#f0796b", GREEN: "#5cc878", BLUE: "#74a9e6"}
SERIES = ("#2f7ed8", "#dd6b20", "#2fa36b", "#b565d9", "#b8901a", "#d64d6f", "#1f9fb3", "#8a8f98")
SIZE_INCHES = (5.2, 3.1)  # small, so that its texts can be read where a phone's width is all there is
MARGINS = {
    "left": 0.115,
    "right": 0.975,
    "top": 0.9,
    "bottom": 0.155,
}  # fixed: a layout engine takes twice as long
STYLE: dict[Any, Any] = {
    "font.size": 9.5,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "svg.hashsalt": "adop",  # the same plot gives the same file
    "text.color": INK,
    "axes.edgecolor": GREY,
    "axes.labelcolor": INK,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
}


@dataclass(frozen=True)
class Plot:
    """A plot: what draws it, and the sentence below it."""

    name: str  # of its files, without ending
    caption: str  # plain text
    draw: Callable[[Axes], None]


def write_plot(plot: Plot, folder: Path) -> None:
    """Write a plot as `NAME.svg` and `NAME_dark.svg`."""
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=SIZE_INCHES)
        figure.subplots_adjust(**MARGINS)
        plot.draw(figure.subplots())
        written = io.StringIO()
        figure.savefig(written, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    light = written.getvalue()
    dark = light
    for colour, other in DARK.items():
        dark = dark.replace(colour, other)
    write_text(folder / f"{plot.name}.svg", light)
    write_text(folder / f"{plot.name}_dark.svg", dark)


def remove_plot(name: str, folder: Path) -> None:
    """Remove the files of a plot, if there are any."""
    for file in (folder / f"{name}.svg", folder / f"{name}_dark.svg"):
        file.unlink(missing_ok=True)


def plot_figure(source: str, caption: str) -> str:
    """Return a plot in HTML, in the colours of the page.

    Args:
        source: path of its files from the page, without ending.
        caption: the sentence below it, plain text.
    """
    return (
        f'<figure class="card"><picture><source srcset="{text(source)}_dark.svg" media="(prefers-color-scheme: dark)">'
        f'<img src="{text(source)}.svg" alt="{text(caption)}" loading="lazy"></picture>'
        f"<figcaption>{text(caption)}</figcaption></figure>"
    )
