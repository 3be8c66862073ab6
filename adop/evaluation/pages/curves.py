"""The curves of a training, read from metrics.jsonl, and their plots."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes

from adop.evaluation.pages.plot_files import BLUE, INK, RED, SERIES, Plot

MAX_VALUE = 1e9  # of a number that is drawn
MAX_ROWS = 2000  # of a curve
SHOWN_SHARE = 0.98  # of the losses: the first steps may be far above all others


@dataclass(frozen=True)
class Curves:
    """The curves of a training: K logged means over training crops, and M scores of held-out photos on the way."""

    step: np.ndarray  # [K]
    seconds: np.ndarray  # [K] since training began
    loss: np.ndarray  # [K]
    psnr: np.ndarray  # [K] dB, of training crops
    held_out: np.ndarray  # [M, 2] step, and PSNR in dB of up to four held-out photos, exposure fitted
    timed: bool  # whether the seconds were logged; else they are spread evenly over the steps

    def __len__(self) -> int:
        """Return the number of logged means."""
        return len(self.step)


def read_curves(file: Path, step: int, seconds: float) -> Curves:
    """Return the curves in a metrics.jsonl; lines that cannot be used are left out, as is a missing file.

    Args: step, seconds: of the run, which the seconds are spread over where the file has none.
    """
    lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
    rows = [row for row in map(_parsed, lines) if row is not None]
    means = _columns(rows, ("step", "loss", "psnr"), "train")
    times = _columns(rows, ("step", "loss", "psnr", "seconds"), "train")[:, 3]
    timed = len(times) == len(means)
    if not timed:
        times = means[:, 0] * (seconds / max(step, 1))
    kept = slice(None, None, max(1, math.ceil(len(means) / MAX_ROWS)))
    held_out = _columns(rows, ("step", "psnr_fitted"), "held_out")
    return Curves(means[kept, 0], times[kept], means[kept, 1], means[kept, 2], held_out, timed)


def _parsed(line: str) -> dict[str, Any] | None:
    try:
        values = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return values if isinstance(values, dict) else None


def _columns(rows: Iterable[dict[str, Any]], names: tuple[str, ...], kind: str) -> np.ndarray:
    """Return [R, len(names)] of the rows of a kind that have these numbers."""
    found = [[row.get(name) for name in names] for row in rows if row.get("kind") == kind]
    usable = [row for row in found if all(map(_is_drawable, row))]
    return np.array(usable, dtype=np.float64).reshape(-1, len(names))


def _is_drawable(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -MAX_VALUE < value < MAX_VALUE


def run_curves(curves: Curves) -> list[Plot]:
    """Return the plots of a run's loss and PSNR over its steps; none where fewer than two means were logged."""
    if len(curves) < 2:
        return []

    def draw_loss(axes: Axes) -> None:
        _draw(axes, curves.step, curves.loss, RED)
        _finish(axes, "loss (lower is better)", "step", [curves.loss])

    def draw_psnr(axes: Axes) -> None:
        _draw(axes, curves.step, curves.psnr, BLUE, "training crops")
        if len(curves.held_out):
            axes.plot(*curves.held_out.T, "o", color=INK, ms=4, label="held-out photos, exposure fitted")
        axes.legend(loc="lower right", fontsize=8.5)
        _finish(axes, "PSNR, dB (higher is better)", "step", [])

    spread = "Means of the latest 50 steps."
    held_out = " Dots: held-out photos, up to four of them on the way." if len(curves.held_out) else ""
    return [
        Plot("loss", f"The loss of the training crops. {spread}", draw_loss),
        Plot("psnr", f"How well the training crops are matched. {spread}{held_out}", draw_psnr),
    ]


def compared_curves(runs: list[Curves], one_loss: bool) -> list[Plot]:
    """Return plots of loss and PSNR over steps and over seconds, a line in its colour of `SERIES` for each run.

    Args: one_loss: whether the runs minimise the same loss; else a sentence says that theirs differ.
    """
    drawn = [(curves, SERIES[i % len(SERIES)]) for i, curves in enumerate(runs) if len(curves) > 1]
    if not drawn:
        return []

    def plot(name: str, over: str, title: str, caption: str) -> Plot:
        def draw(axes: Axes) -> None:
            for curves, colour in drawn:
                _draw(axes, getattr(curves, over), getattr(curves, name), colour)
                if (name, over) == ("psnr", "step"):
                    axes.plot(*curves.held_out.T, "o", color=colour, ms=4)
            _finish(axes, title, over, [c.loss for c, _ in drawn] if name == "loss" else [])

        return Plot(f"{name}_{over}", caption, draw)

    loss, psnr = "loss (lower is better)", "PSNR, dB (higher is better)"
    even = (
        ""
        if all(curves.timed for curves, _ in drawn)
        else " A run's seconds are spread evenly over its steps."
    )
    dots = " Dots: held-out photos, exposure fitted." if any(len(c.held_out) for c, _ in drawn) else ""
    other = "" if one_loss else " The runs weight its terms differently, so its values cannot be compared."
    return [
        plot("loss", "step", loss, f"The loss of the training crops over steps.{other}"),
        plot("psnr", "step", psnr, f"How well the training crops are matched, over steps.{dots}"),
        plot("loss", "seconds", loss, f"The same loss over the time of training.{even}"),
        plot("psnr", "seconds", psnr, f"The same PSNR over the time of training.{even}"),
    ]


def _draw(axes: Axes, x: np.ndarray, y: np.ndarray, colour: str, label: str | None = None) -> None:
    axes.plot(x, y, ".-" if len(x) < 30 else "-", ms=4, color=colour, label=label)


def _finish(axes: Axes, title: str, over: str, losses: list[np.ndarray]) -> None:
    """Name the axes; losses are shown from 0 up to what nearly all of them stay below."""
    axes.set(title=title, xlabel=over)
    axes.set_xlim(left=0)
    if losses:
        axes.set_ylim(
            0, 1.08 * max(max(np.quantile(values, SHOWN_SHARE), values[-1], 1e-9) for values in losses)
        )
