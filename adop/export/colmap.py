"""Refined cameras and points as a COLMAP model."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adop.errors import UserError, one_line
from adop.export.cameras import lens_parameters, refined_lenses, refined_poses
from adop.export.points import ExportedPoints
from adop.geometry.colmap_lens import EXACT_MODELS
from adop.geometry.lens import Lens
from adop.importers.programs.colmap import read_colmap, read_points3d
from adop.run.run import Run

if TYPE_CHECKING:
    import pycolmap

MODELS = ("PINHOLE", "OPENCV", "FULL_OPENCV", "OPENCV_FISHEYE")  # with the fewest parameters first
SPLIT_FILE = "test.txt"  # of the held-out photos' names, as `adop import colmap --split` reads it


def check_colmap(run: Run) -> None:
    """Raise UserError where pycolmap cannot be imported, or COLMAP has no model of a lens."""
    try:
        import pycolmap  # noqa: F401
    except ImportError as error:
        raise UserError(
            f"an export to colmap needs pycolmap, which cannot be imported ({one_line(error)}): pip install pycolmap."
        ) from None
    for index, lens in enumerate(run.scene.lenses):
        if lens.model == "ocam":
            raise UserError(
                f"{run.scene.folder}: lens {index} is omnidirectional (ocam), of which COLMAP has no model; the points "
                "can be exported as ply."
            )


def write_colmap(run: Run, points: ExportedPoints, offset: np.ndarray, folder: Path, text: bool) -> None:
    """Write a COLMAP model with a camera for each lens, all photos and all points, which have no tracks.

    Args:
        offset: [3] f64, added to the scene's coordinates, as it was to the points'.
        folder: an empty one.
        text: write text files instead of binary ones.
    """
    import pycolmap

    model = pycolmap.Reconstruction()
    for index, lens in enumerate(refined_lenses(run)):
        model.add_camera_with_trivial_rig(colmap_camera(lens, index + 1))
    poses = refined_poses(run, offset)
    for index, (photo, pose) in enumerate(zip(run.scene.photos, poses, strict=True)):
        image = pycolmap.Image(name=photo.name, camera_id=photo.lens + 1, image_id=index + 1)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    track = pycolmap.Track()
    for position, colour in zip(points.xyz, points.colour_bytes, strict=True):
        model.add_point3D(position, track, colour)
    if text:
        model.write_text(folder)
    else:
        model.write(folder)
    _check_whole(folder, len(poses), len(points.xyz))
    held_out = [run.scene.photos[index].name for index in run.split["held_out"]]
    if held_out:
        (folder / SPLIT_FILE).write_text("".join(f"{name}\n" for name in held_out), encoding="utf-8")


def _check_whole(folder: Path, photos: int, points: int) -> None:
    """Raise OSError where a model that COLMAP wrote lacks a part: COLMAP does not notice that the disk is full."""
    try:
        whole = len(read_colmap(folder).images) == photos and len(read_points3d(folder)[0]) == points
    except UserError:
        whole = False
    if not whole:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))


def colmap_camera(lens: Lens, identity: int) -> pycolmap.Camera:
    """Return an opencv or fisheye lens as a camera of the COLMAP model with the fewest parameters that expresses it."""
    import pycolmap

    values = lens_parameters(lens)
    for model in MODELS:
        kind, names = EXACT_MODELS[model]
        used = names.split()
        if kind == lens.model and all(value == 0 for name, value in values.items() if name not in used):
            camera = pycolmap.Camera(camera_id=identity, model=model, width=lens.width, height=lens.height)
            camera.params = [values[name] for name in used]
            return camera
    raise ValueError(f"lens: expected opencv or fisheye, got {lens.model}")
