"""Reading `transforms.json` of nerfstudio, instant-ngp and Blender."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.geometry.nerfstudio_lens import nerfstudio_lens, nerfstudio_pose, nerfstudio_size
from adop.images.photo_files import photo_size
from adop.scene.scene import Photo, photo_file

_ENDINGS = ("", ".png", ".jpg", ".jpeg", ".JPG", ".PNG")
_MAX_JSON_BYTES = 1 << 30


def read_transforms(path: Path, images: Path | None) -> tuple[list[Lens], list[Photo], Path | None]:
    """Return the lenses, the photos sorted by name, and the PLY file that the JSON names, if any.

    Args: path: transforms.json or its folder; images: the folder that file_path is relative to, by default the JSON's.
    Raises: UserError naming the file and the frame, and what is wrong.
    """
    path = path / "transforms.json" if path.is_dir() else path
    data = _load(path)
    images = path.parent if images is None else images
    lenses: list[Lens] = []
    lens_index: dict[tuple, int] = {}  # by the lens's numbers
    photos = []
    for number, frame in enumerate(data["frames"]):
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise UserError(f"{path}: frame {number} has no file_path.")
        where = f"{path}: frame {number} ({frame['file_path'][:200]})"
        file = _find(images, frame["file_path"], where)
        values = {**data, **frame}
        lens = nerfstudio_lens(values, nerfstudio_size(values, where) or photo_size(file), where)
        key = (lens.model, lens.width, lens.height, *lens.intrinsics, *lens.distortion)
        if key not in lens_index:
            lens_index[key] = len(lenses)
            lenses.append(lens)
        pose = nerfstudio_pose(frame.get("transform_matrix"), where)
        mask = frame.get("mask_path")
        mask = _find(images, mask, where) if isinstance(mask, str) else None
        name = file.relative_to(images).as_posix()
        photos.append(Photo(file, lens_index[key], pose, mask=mask, name=name))
    names = [photo.name for photo in photos]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise UserError(f"{path}: photo {twice!r} is listed twice.")
    cloud = data.get("ply_file_path")
    ply = photo_file(path.parent, cloud, str(path)) if isinstance(cloud, str) else None
    return lenses, sorted(photos, key=lambda photo: photo.name), ply


def _load(path: Path) -> dict[str, Any]:
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise UserError(f"{path}: is too large to be a transforms.json.")
        data = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    except (ValueError, RecursionError) as error:
        raise UserError(f"{path}: is not JSON ({error}).") from error
    if not isinstance(data, dict) or not isinstance(data.get("frames"), list) or not data["frames"]:
        raise UserError(f"{path}: has no list of frames; name a transforms.json of nerfstudio.")
    return data


def _find(images: Path, name: str, where: str) -> Path:
    """Return the file of a photo or mask; Blender's names lack the ending."""
    base = photo_file(images, name, where)
    for ending in _ENDINGS:
        file = base.with_name(base.name + ending)
        if file.is_file():
            return file
    raise UserError(f"{where}: {base} not found; paths are relative to {images}, which --images changes.")
