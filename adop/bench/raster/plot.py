"""The plot of how the rasterizer's time grows with the number of points."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter, FormatStrFormatter, LogLocator, NullFormatter, NullLocator

COLOURS = ("#14599e", "#c85a28")


@dataclass(frozen=True)
class GrowthRow:
    """The cost of drawing a cloud with level of detail."""

    points: int
    forward_ms: float
    blended: float  # points that pixels blend, summed over all levels
    per_pixel: float  # points that a covered pixel of the finest level blends, mean
    peak_gib: float  # most memory so far: of the process, or on a GPU of torch's allocator


def plot_growth(views: dict[str, list[GrowthRow]], title: str, file: Path) -> None:
    """Write milliseconds over points as a PNG, both axes logarithmic, beside a line of time proportional to points.

    Args:
        views: label of a view -> its rows, fewest points first; every view has the same numbers of points.
    """
    figure = Figure(figsize=(7.6, 4.6), dpi=100, layout="constrained")
    axes = figure.subplots()
    for colour, (label, rows) in zip(COLOURS, views.items(), strict=False):
        points, times = [row.points for row in rows], [row.forward_ms for row in rows]
        axes.plot(points, times, "o-", color=colour, label=label)
        axes.annotate(
            f"{times[-1]:.3g} ms", (points[-1], times[-1]), (8, -4), textcoords="offset points", color=colour
        )
    first = next(iter(views.values()))
    proportional = [first[0].forward_ms * row.points / first[0].points for row in first]
    points = [row.points for row in first]
    axes.plot(points, proportional, "--", color="#888888", lw=1, label="proportional to the points")
    axes.set(xscale="log", yscale="log", xlabel="points", ylabel="time of a forward pass, ms")
    axes.set_title(title, loc="left", fontsize=11)
    axes.set_xticks(points, [EngFormatter(sep=" ")(count) for count in points])
    axes.xaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FormatStrFormatter("%g"))
    axes.yaxis.set_minor_formatter(NullFormatter())
    axes.margins(x=0.12)
    axes.grid(color="#e4e4e4")
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
    figure.savefig(file)
