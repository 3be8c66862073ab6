"""Plots of a run: what it has learned about the physical camera, and how far cameras and points moved."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from matplotlib.axes import Axes

from adop.evaluation.pages.plot_files import Plot, remove_plot, write_plot
from adop.evaluation.photometric_truth import learned_camera
from adop.evaluation.plots import (
    draw_camera_moves,
    draw_exposures,
    draw_point_moves,
    draw_response,
    draw_vignette,
)
from adop.refine.alignment_equations import pixel_shift
from adop.run.run import Run

DEPTH_SCALE = 4  # by which the view is reduced whose depth the shift of a photo is measured at
LEAST_SHIFT_PX = 0.01  # of the image of a camera that counts as moved
CAPTIONS = {  # of the plots, by the names of their files
    "exposures": "Learned exposures of the trained photos.",
    "response": "The learned response of the first camera.",
    "vignette": "The learned vignette of the first lens.",
    "camera_moves": "How far the trained photos' cameras were moved by refinement.",
    "point_moves": "How far the points were moved by refinement.",
}


@torch.no_grad()
def plot_run(run: Run, folder: Path) -> None:
    """Write the plots of `CAPTIONS` of a run's trained photos into `plots` in a folder; empty ones are left out."""
    photos, scene = run.split["train"], run.scene
    exposures = [scene.photos[photo].exposure for photo in photos]
    exif = None if any(value is None for value in exposures) else np.array(exposures, dtype=float)
    camera = learned_camera(run.pipeline).of(photos)
    draw: dict[str, Callable[[Axes], None]] = {
        "exposures": partial(draw_exposures, learned=camera.exposure, reference=exif, label="EV from EXIF"),
        "response": partial(draw_response, light=camera.light, response=camera.response),
        "vignette": partial(draw_vignette, vignette=camera.vignette),
    }
    pixels = [_photo_shift(run, photo) for photo in photos]
    if max(pixels) > LEAST_SHIFT_PX:
        draw["camera_moves"] = partial(draw_camera_moves, pixels=pixels)
    shifts = _point_shifts(run)
    if len(shifts) and shifts.max() > 0:
        draw["point_moves"] = partial(draw_point_moves, shifts=shifts)
    plots = folder / "plots"
    plots.mkdir(parents=True, exist_ok=True)
    for name, caption in CAPTIONS.items():
        if name in draw:
            write_plot(Plot(name, caption, draw[name]), plots)
        elif not (name == "point_moves" and len(shifts) == 0):  # it is not known where points were
            remove_plot(name, plots)


def _photo_shift(run: Run, photo: int) -> float:
    """Return by how many pixels a photo's image has moved since the start, the median."""
    index = torch.tensor([photo])
    given, camera = run.scene.photos[photo], run.pipeline.camera(index)
    lens = run.scene.lenses[given.lens]
    start = replace(
        camera,
        world_to_camera=torch.from_numpy(given.world_to_camera)[None].to(camera.crop),
        intrinsics=torch.from_numpy(lens.intrinsics)[None].to(camera.crop),
        distortion=torch.from_numpy(lens.distortion)[None].to(camera.crop),
        motion=None,
    )
    return pixel_shift(start, camera, run.pipeline.surfaces(camera.reduced(DEPTH_SCALE)))


def _point_shifts(run: Run) -> np.ndarray:
    """Return how far each remaining point of the scene has moved since the start, scene units; [0]: unknown."""
    if not run.trained_points:
        return np.zeros(0)
    origin = run.pipeline.points.origin.cpu()
    from_scene = origin >= 0
    start = torch.from_numpy(np.ascontiguousarray(run.scene.points.xyz)).float()[origin[from_scene].long()]
    return (run.pipeline.points.positions().cpu()[from_scene] - start).norm(dim=1).numpy()
