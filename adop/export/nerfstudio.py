"""Refined cameras, points and photos as a data set of nerfstudio: transforms.json and what it names.

https://docs.nerf.studio/quickstart/data_conventions.html
"""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np

from adop.errors import UserError
from adop.export.cameras import lens_parameters, refined_lenses, refined_poses
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import invert_rigid
from adop.images.writers import save_png
from adop.run.run import Run
from adop.scene.scene import Photo, photo_file

JSON_FILE, PLY_FILE, PHOTOS, MASKS = "transforms.json", "points.ply", "images", "masks"
_MODELS = {"opencv": "OPENCV", "fisheye": "OPENCV_FISHEYE"}
_RATIONAL = ("k4", "k5", "k6")  # of OpenCV's eight coefficients, those of its denominator
_FLIP = (1.0, -1.0, -1.0)  # from x right, y down, z forward to x right, y up, z back


def check_nerfstudio(run: Run) -> None:
    """Raise UserError where nerfstudio has no model of a lens."""
    lenses = refined_lenses(run)
    for index, lens in enumerate(lenses):
        where = f"{run.scene.folder}: lens {index}"
        if lens.model not in _MODELS:
            raise UserError(
                f"{where} is omnidirectional (ocam), of which nerfstudio has no model; the points can be exported as ply."
            )
        if lens.model == "opencv" and any(lens_parameters(lens)[name] != 0 for name in _RATIONAL):
            raise UserError(
                f"{where} has a rational distortion (k4 k5 k6), of which nerfstudio has no model; export to colmap, and "
                "undistort the photos with COLMAP."
            )
    if len({lens.model for lens in lenses}) > 1:
        raise UserError(
            f"{run.scene.folder}: has pinhole and fisheye lenses, but nerfstudio has one camera model for all photos."
        )


def write_nerfstudio(run: Run, offset: np.ndarray, folder: Path, link: bool) -> None:
    """Write transforms.json, and copy or link the photos and masks that it names; it names the points `PLY_FILE` too.

    Held-out photos are those to validate and to test with.

    Args:
        offset: [3] f64, added to the scene's coordinates.
        folder: an empty one.
        link: make symbolic links to photos and masks instead of copies.
    """
    photos, lenses = run.scene.photos, [_lens_values(lens) for lens in refined_lenses(run)]
    used = {photo.lens for photo in photos}
    shared = lenses[used.pop()] if len(used) == 1 else None
    frames = []
    for photo, pose in zip(photos, refined_poses(run, offset), strict=True):
        frame: dict[str, Any] = {"file_path": f"{PHOTOS}/{photo.name}"}
        _place(photo.file, folder / PHOTOS, photo.name, link)
        if any(other.mask for other in photos):  # nerfstudio wants one for every photo or none
            frame["mask_path"] = f"{MASKS}/{_place_mask(run, photo, folder / MASKS, link)}"
        camera_to_world = invert_rigid(pose)
        camera_to_world[:3, :3] *= _FLIP
        frames.append(
            frame
            | (lenses[photo.lens] if shared is None else {})
            | {"transform_matrix": camera_to_world.tolist()}
        )
    model = _MODELS[run.scene.lenses[photos[0].lens].model]
    values = {
        "camera_model": model,
        **(shared or {}),
        "ply_file_path": PLY_FILE,
        **_split(run),
        "frames": frames,
    }
    (folder / JSON_FILE).write_text(json.dumps(values, indent=1) + "\n", encoding="utf-8")


def _lens_values(lens: Lens) -> dict[str, float]:
    """Return the keys of a lens in transforms.json."""
    values = {
        name: value
        for name, value in lens_parameters(lens).items()
        if name not in _RATIONAL or lens.model == "fisheye"
    }
    renamed = {"fl_x": values.pop("fx"), "fl_y": values.pop("fy")}
    return {"w": lens.width, "h": lens.height, **renamed, **values}


def _split(run: Run) -> dict[str, list[str]]:
    """Return the lists of photos to train, to validate and to test with; none where no photo is held out."""
    if not run.split["held_out"]:
        return {}
    lists = {"train": run.split["train"], "val": run.split["held_out"], "test": run.split["held_out"]}
    return {
        f"{part}_filenames": [f"{PHOTOS}/{run.scene.photos[index].name}" for index in photos]
        for part, photos in lists.items()
    }


def _place(source: Path, folder: Path, name: str, link: bool) -> None:
    """Copy or link a file to its name in a folder."""
    target = photo_file(folder, name, str(folder))
    target.parent.mkdir(parents=True, exist_ok=True)
    if link:
        target.symlink_to(os.path.abspath(source))
    else:
        shutil.copyfile(source, target)


def _place_mask(run: Run, photo: Photo, folder: Path, link: bool) -> str:
    """Copy or link a photo's mask, or write one of which every pixel counts, and return its name in the folder."""
    name = f"{photo.name}{photo.mask.suffix if photo.mask else '.png'}"
    if photo.mask:
        _place(photo.mask, folder, name, link)
    else:
        lens = run.scene.lenses[photo.lens]
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        save_png(folder / name, np.full((lens.height, lens.width), 255, np.uint8))
    return name
