"""Reading `transforms.json` of nerfstudio, instant-ngp and Blender."""

from __future__ import annotations

import os
from collections import ChainMap
from pathlib import Path
from typing import Any

from adop.errors import UserError, quoted
from adop.files import read_json
from adop.geometry.lens import Lens
from adop.geometry.nerfstudio_lens import nerfstudio_lens, nerfstudio_pose, nerfstudio_size
from adop.images.photo_files import photo_size
from adop.importers.photo_finder import keep_present
from adop.scene.prepare import Report
from adop.scene.scene import Photo, first_twice, photo_file

_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG")


def read_transforms(
    path: Path, images: Path | None, skip_missing: bool, report: Report
) -> tuple[list[Lens], list[Photo], Path | None]:
    """Return the lenses, the photos sorted by name, and the PLY file that the JSON names, if any.

    Args:
        path: transforms.json or its folder.
        images: the folder that file_path is relative to, by default the JSON's.
        skip_missing: leave out photos that are not there.

    Raises: UserError naming the file and the frame, and what is wrong.
    """
    path = path / "transforms.json" if path.is_dir() else path
    data = _load(path)
    images = path.parent if images is None else images
    frames = _frames(path, data, images)
    hint = f"paths are relative to {images}, which --images changes"
    kept = keep_present([file for _, _, file in frames], skip_missing, hint, report)
    lenses: list[Lens] = []
    lens_index: dict[tuple, int] = {}  # by the lens's numbers
    photos = []
    for where, frame, file in (frames[index] for index in kept):
        values = ChainMap(frame, data)
        lens = nerfstudio_lens(values, nerfstudio_size(values, where) or photo_size(file), where)
        key = (lens.model, lens.width, lens.height, *lens.intrinsics, *lens.distortion)
        if key not in lens_index:
            lens_index[key] = len(lenses)
            lenses.append(lens)
        pose = nerfstudio_pose(frame.get("transform_matrix"), where)
        mask_name = _text(frame, "mask_path", where)
        mask = None if mask_name is None else _find(images, mask_name, where)
        if mask is not None and not os.path.isfile(mask):
            raise UserError(f"{where}: the mask {mask} is not there; paths are relative to {images}.")
        name = file.relative_to(images).as_posix()
        photos.append(Photo(file, lens_index[key], pose, mask=mask, name=name))
    twice = first_twice([photo.name for photo in photos])
    if twice is not None:
        raise UserError(f"{path}: photo {quoted(twice)} is listed twice.")
    cloud = _text(data, "ply_file_path", str(path))
    ply = None if cloud is None else photo_file(path.parent, cloud, str(path))
    return lenses, sorted(photos, key=lambda photo: photo.name), ply


def _frames(path: Path, data: dict[str, Any], images: Path) -> list[tuple[str, dict[str, Any], Path]]:
    """Return what errors call each frame, the frame, and its photo, which may not be there."""
    frames = []
    for number, frame in enumerate(data["frames"]):
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise UserError(f"{path}: frame {number} has no file_path.")
        where = f"{path}: frame {number} ({quoted(frame['file_path'])})"
        frames.append((where, frame, _find(images, frame["file_path"], where)))
    return frames


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file() and (path.parent / "keyframes").is_dir():
        raise UserError(
            f"{path.parent}: holds the raw data of Polycam; `ns-process-data polycam --data {path.parent} "
            "--output-dir DIR` makes a transforms.json of it."
        )
    data = read_json(path)
    if isinstance(data, dict) and "frames" not in data and {"poses", "K"} <= data.keys():
        raise UserError(
            f"{path}: is the metadata of Record3D; `ns-process-data record3d --data {path.parent} --output-dir DIR` "
            "makes a transforms.json of it."
        )
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list) or not data["frames"]:
        raise UserError(f"{path}: has no list of frames; name a transforms.json of nerfstudio.")
    return data


def _text(values: dict[str, Any], key: str, where: str) -> str | None:
    """Return the text under a key, or None where there is none."""
    value = values.get(key)
    if value is not None and not isinstance(value, str):
        raise UserError(f"{where}: {key} must be a text, not {quoted(value)}.")
    return value


def _find(images: Path, name: str, where: str) -> Path:
    """Return the file of a photo or mask, or the path as it is where there is none; Blender's names lack the ending."""
    base = photo_file(images, name, where)
    candidates = (base.with_name(base.name + ending) for ending in _ENDINGS)
    return next((file for file in candidates if os.path.isfile(file)), base)
