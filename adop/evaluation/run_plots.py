"""Plots of a run: what it has learned about the physical camera, and how far cameras and points moved."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from adop.evaluation.photometric_truth import learned_camera
from adop.evaluation.plots import plot_camera, plot_moves
from adop.refine.align import render_points
from adop.refine.alignment_equations import pixel_shift
from adop.run.run import Run

DEPTH_SCALE = 4  # by which the view is reduced whose depth the shift of a photo is measured at


@torch.no_grad()
def plot_run(run: Run, folder: Path) -> None:
    """Write `camera.png` (exposures, response, vignette) and `moves.png` (cameras, points) of a run's trained photos."""
    folder.mkdir(parents=True, exist_ok=True)
    photos, scene = run.split["train"], run.scene
    exposures = [photo.exposure for photo in scene.photos]
    exif = None if any(value is None for value in exposures) else np.array(exposures, dtype=float)[photos]
    plot_camera(learned_camera(run.pipeline).of(photos), exif, folder / "camera.png")
    names = [Path(scene.photos[photo].name).stem for photo in photos]
    pixels = [_photo_shift(run, photo) for photo in photos]
    plot_moves(pixels, names, _point_shifts(run), folder / "moves.png")


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
    rendering = render_points(run.pipeline, camera.reduced(DEPTH_SCALE), index)
    return pixel_shift(start, camera, rendering.depth)


def _point_shifts(run: Run) -> np.ndarray:
    """Return how far each remaining point of the scene has moved since the start, scene units."""
    origin = run.pipeline.points.origin.cpu()
    from_scene = origin >= 0
    start = torch.from_numpy(np.ascontiguousarray(run.scene.points.xyz)).float()[origin[from_scene].long()]
    return (run.pipeline.points().xyz.cpu()[from_scene] - start).norm(dim=1).numpy()
