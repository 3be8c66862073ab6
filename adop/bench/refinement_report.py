"""What `adop bench refine` prints, plots and writes of its runs."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adop.evaluation.photometric_truth import PhysicalCamera, compare, learned_camera
from adop.evaluation.plots import plot_camera, plot_errors
from adop.run.photos.scene_photos import known_exposures
from adop.run.run import Run

Errors = dict[str, list[float]]  # errors by name, one for each photo, lens or point that was measured
UNITS = {
    "exposure_ev": "EV",
    "white_balance": "relative",
    "vignette_rmse": "",
    "response_rmse": "",
    "pose_rotation_deg": "degrees",
    "pose_translation_rel": "of the distance",
    "pose_reprojection_px": "px",
    "rolling_shutter_px": "px",
    "focal_rel": "relative",
    "k1": "",
    "points_patch_px": "px",
    "points_px": "px",
}
ROUNDING = 2e-5  # in the unit of any of them; a smaller error is rounding


@dataclass(frozen=True)
class Recovery:
    """A run of the benchmark, and its errors."""

    run: Run
    camera_truth: PhysicalCamera | None
    start: Errors  # after the disturbance
    before_training: Errors  # after the first training step
    end: Errors
    seconds: float  # from the disturbance to the first training step
    scores: dict[str, Any]  # of the held-out photos, as `eval/eval.json` holds them


def summarise(recovery: Recovery) -> dict[str, dict[str, float]]:
    """Return medians and maxima of each kind of error, for the JSON file; points that were removed do not count."""
    return {
        name: {
            "start": float(np.nanmedian(start)),
            "before_training": float(np.nanmedian(recovery.before_training[name])),
            "end": float(np.nanmedian(recovery.end[name])),
            "worst_start": float(np.nanmax(start)),
            "worst_end": float(np.nanmax(recovery.end[name])),
            "further_off": sum(e > s for s, e in zip(start, recovery.end[name], strict=True)),
        }
        for name, start in recovery.start.items()
        if start
    }


def format_table(recovery: Recovery, title: str) -> str:
    """Return the medians as a table, with the share of each error that the run removed."""
    lines = [
        f"{title}: median errors; aligned: after {recovery.seconds:.0f} s, before training",
        f"{'':24}{'start':>10}{'aligned':>10}{'end':>10}{'removed':>10}   worst: start, end",
    ]
    for name, values in summarise(recovery).items():
        start, end = values["start"], values["end"]
        removed = f"{100 * (1 - end / start):.1f} %" if start > ROUNDING else "-"
        lines.append(
            f"{name:24}{start:10.4f}{values['before_training']:10.4f}{end:10.4f}"
            f"{removed:>10}   {values['worst_start']:.4f}, {values['worst_end']:.4f} {UNITS[name]}"
        )
    return "\n".join(lines)


def format_scores(scores: dict[str, dict[str, float]]) -> str:
    """Return the mean scores of held-out photos as a table, one run a row."""
    lines = [f"{'held-out photos':20}  PSNR    PSNR fitted  SSIM"]
    for name, values in scores.items():
        lines.append(
            f"{name:20}  {values['psnr']:5.2f}   {values['psnr_fitted']:5.2f}        {values['ssim']:.4f}"
        )
    return "\n".join(lines)


def save_plots(recovery: Recovery, folder: Path, method: str) -> list[Path]:
    """Plot the errors, and the physical camera if its truth is known; return the files."""
    files = []
    spreads = {
        f"{name}, {UNITS[name]}": (start, recovery.end[name])
        for name, start in recovery.start.items()
        if len(start) > 1 and max(start) > ROUNDING
    }
    if spreads:
        files.append(folder / f"errors_{method}.png")
        plot_errors(spreads, files[-1])
    truth = recovery.camera_truth
    if truth is not None:
        run, photos = recovery.run, recovery.run.split["train"]
        found = learned_camera(run.pipeline)
        errors = compare(found, truth, photos, known_exposures(run.scene) is not None)
        files.append(folder / f"camera_{method}.png")
        plot_camera(found.of(photos), None, files[-1], truth.of(photos), errors)
    return files
