"""Reading `transforms.json` of nerfstudio and instant-ngp, and Blender's three files, one of each part of the split."""

from __future__ import annotations

import os
from collections import ChainMap
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from adop.errors import UserError, quoted
from adop.files import read_json
from adop.geometry.lens import Lens
from adop.geometry.nerfstudio_lens import nerfstudio_lens, nerfstudio_pose, nerfstudio_size
from adop.images.photo_files import photo_size
from adop.importers.photo_finder import find_file, find_photos, keep_present
from adop.importers.splits import PARTS, held_out_photos
from adop.importers.write_capture import share_lenses
from adop.scene.prepare import Report
from adop.scene.scene import Photo


@dataclass(frozen=True, eq=False)
class _Frame:
    where: str  # what errors call it
    own: dict[str, Any]
    values: ChainMap[str, Any]  # its own, and those of its file
    part: str | None  # of the split


def read_transforms(
    path: Path, images: Path | None, skip_missing: bool, use_split: bool, report: Report
) -> tuple[list[Lens], list[Photo], Path | None]:
    """Return the lenses, the photos sorted by name, and the PLY file that the JSON names, if any.

    A photo's `held_out` is None where the file has no split, or where the photo is in none of its lists.

    Args:
        path: transforms.json, or a folder with it, or with transforms_train.json and others.
        images: the folder that file_path is relative to, by default the JSON's.
        skip_missing: leave out photos that are not there.
        use_split: whether the split that the file has counts.

    Raises: UserError naming the file and the frame, and what is wrong.
    """
    sources = [(file, part, _load(file)) for file, part in _files(path)]
    first = sources[0][0]
    images = first.parent if images is None else images
    frames = [frame for file, part, data in sources for frame in _frames(file, part, data)]
    names = [frame.own["file_path"] for frame in frames]
    files = find_photos(images, names, str(first), report)
    kept = keep_present(
        files, skip_missing, f"paths are relative to {images}, which --images changes", report
    )
    held_out = _split(first, sources[0][2], frames, skip_missing) if use_split else [None] * len(frames)
    lenses, own = share_lenses([_lens(frames[index], files[index]) for index in kept])
    photos = []
    for index, lens in zip(kept, own, strict=True):
        frame, file = frames[index], files[index]
        pose = nerfstudio_pose(frame.own.get("transform_matrix"), frame.where)
        name = file.relative_to(images).as_posix()
        mask = _mask(frame, images)
        photos.append(Photo(file, lens, pose, mask=mask, name=name, held_out=held_out[index]))
    clouds = [(file, _text(data, "ply_file_path", str(file))) for file, _, data in sources]
    ply = next(
        (find_file(file.parent, cloud, str(file)) for file, cloud in clouds if cloud is not None), None
    )
    return lenses, sorted(photos, key=lambda photo: photo.name), ply


def _files(path: Path) -> list[tuple[Path, str | None]]:
    """Return the file to read, or Blender's, each with the part of the split that its name says."""
    if not path.is_dir():
        return [(path, None)]
    parts = [(path / f"transforms_{part}.json", part) for part in PARTS]
    there = [(file, part) for file, part in parts if file.is_file()]
    whole = path / "transforms.json"
    return [*there] if there and not whole.is_file() else [(whole, None)]


def _frames(path: Path, part: str | None, data: dict[str, Any]) -> list[_Frame]:
    frames = []
    for number, frame in enumerate(data["frames"]):
        if not isinstance(frame, dict) or not isinstance(frame.get("file_path"), str):
            raise UserError(f"{path}: frame {number} has no file_path.")
        where = f"{path}: frame {number} ({quoted(frame['file_path'])})"
        own_part = _text(frame, "split", where)
        if own_part is not None and own_part not in PARTS:
            raise UserError(f"{where}: its split must be one of {', '.join(PARTS)}, not {quoted(own_part)}.")
        frames.append(_Frame(where, frame, ChainMap(frame, data), part or own_part))
    return frames


def _split(path: Path, data: dict[str, Any], frames: list[_Frame], skip_missing: bool) -> list[bool | None]:
    """Return whether each frame's photo is held out, None where no list has it or there is no split."""
    lists = {part: data[f"{part}_filenames"] for part in PARTS if f"{part}_filenames" in data}
    parts = [None if frame.part is None else PARTS[frame.part] for frame in frames]
    if not lists:
        return parts
    for part, names in lists.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise UserError(f"{path}: {part}_filenames must be a list of texts, not {quoted(names)}.")
    if any(part is not None for part in parts):
        raise UserError(f"{path}: has a split both in lists and in frames; remove one, or use --split.")
    return held_out_photos(lists, [frame.own["file_path"] for frame in frames], str(path), skip_missing)


def _lens(frame: _Frame, file: Path) -> Lens:
    size = nerfstudio_size(frame.values, frame.where) or photo_size(file)
    return nerfstudio_lens(frame.values, size, frame.where)


def _mask(frame: _Frame, images: Path) -> Path | None:
    name = _text(frame.own, "mask_path", frame.where)
    mask = None if name is None else find_file(images, name, frame.where)
    if mask is not None and not os.path.isfile(mask):
        raise UserError(f"{frame.where}: the mask {mask} is not there; paths are relative to {images}.")
    return mask


def _load(path: Path) -> dict[str, Any]:
    if not path.is_file() and (path.parent / "keyframes").is_dir():
        raise UserError(
            f"{path.parent}: holds the raw data of Polycam; `ns-process-data polycam --data {path.parent} "
            "--output-dir DIR` makes a transforms.json of it."
        )
    data = read_json(path, errors="surrogateescape")
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
