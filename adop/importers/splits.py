"""Which photos are held out from training, by lists of their names that come with a capture."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePosixPath

from adop.errors import UserError, quoted
from adop.files import read_text
from adop.importers.photo_finder import loose
from adop.scene.prepare import Report
from adop.scene.scene import Photo

PARTS = {"train": False, "val": True, "test": True}  # whether the photos of a list are held out

# Ways to compare a listed name with a photo's, from the strictest on.
_KEYS: tuple[Callable[[str], str], ...] = (
    lambda name: str(PurePosixPath(name.replace("\\", "/"))),
    lambda name: loose(str(PurePosixPath(name.replace("\\", "/")))),
    lambda name: loose(PurePosixPath(name.replace("\\", "/")).name),
    lambda name: loose(PurePosixPath(name.replace("\\", "/")).stem),
)


def read_split(path: Path) -> dict[str, list[str]]:
    """Return the names in train.txt, val.txt and test.txt of a folder, or in a file that lists the photos to hold out.

    A line holds one name; empty lines and those that begin with # are skipped.

    Raises: UserError where a list cannot be read, or none holds out any photo.
    """
    files = {part: path / f"{part}.txt" for part in PARTS} if path.is_dir() else {"test": path}
    lists = {}
    for part, file in files.items():
        if not path.is_dir() or os.path.lexists(file):
            lines = (line.strip() for line in read_text(file, errors="surrogateescape").split("\n"))
            lists[part] = [line for line in lines if line and not line.startswith("#")]
    if not any(names for part, names in lists.items() if PARTS[part]):
        raise UserError(
            f"{path}: holds out no photo; --split names a folder with test.txt, or a list of photos to hold out."
        )
    return lists


def held_out_photos(
    lists: Mapping[str, Sequence[str]], names: Sequence[str], where: str, skip_missing: bool
) -> list[bool | None]:
    """Return whether each photo is held out; None if there is a list of photos to train on and no list has the photo.

    Args:
        lists: names of photos by part of the split; they may lack folders and the ending where that is clear.
        names: the photos.
        where: what errors begin with.
        skip_missing: ignore names of photos that are not there.

    Raises: UserError for a name that fits no photo or several, and a photo both to train on and to hold out.
    """
    tables: list[dict[str, list[int]]] = [defaultdict(list) for _ in _KEYS]
    for index, name in enumerate(names):
        for table, key in zip(tables, _KEYS, strict=True):
            table[key(name)].append(index)
    result: list[bool | None] = [None if lists.get("train") else False] * len(names)
    by_list: dict[int, str] = {}
    for part, listed in lists.items():
        for name in listed:
            fits = next(
                (table[key(name)] for table, key in zip(tables, _KEYS, strict=True) if key(name) in table), []
            )
            if len(fits) > 1:
                raise UserError(
                    f"{where}: {quoted(name)} in the list {part} may be {quoted(names[fits[0]])} or "
                    f"{quoted(names[fits[1]])}; list it with its folders."
                )
            if not fits and not skip_missing:
                raise UserError(
                    f"{where}: {quoted(name)} in the list {part} is not among the {len(names)} photos; correct the list."
                )
            for index in fits:
                other = by_list.setdefault(index, part)
                if PARTS[other] != PARTS[part]:
                    raise UserError(
                        f"{where}: {quoted(name)} is in the lists {other} and {part}; remove it from one of them."
                    )
                result[index] = PARTS[part]
    return result


def apply_split(photos: list[Photo], split: Path | None, skip_missing: bool, report: Report) -> list[Photo]:
    """Return the photos that take part in the split, marked, and say how many are held out and left out.

    Args:
        split: what `read_split` reads; None leaves the photos as they are marked already.
    """
    if split is not None:
        names = [photo.name for photo in photos]
        marks = held_out_photos(read_split(split), names, str(split), skip_missing)
        photos = [replace(photo, held_out=mark) for photo, mark in zip(photos, marks, strict=True)]
    if all(photo.held_out is None for photo in photos):
        return photos
    kept = [photo for photo in photos if photo.held_out is not None]
    tested = sum(bool(photo.held_out) for photo in kept)
    report(f"Split: {len(kept) - tested} photos to train on, {tested} held out, as the capture says.")
    if len(kept) < len(photos):
        report(
            f"Split: {len(photos) - len(kept)} of {len(photos)} photos are in none of its lists and were left out."
        )
    return kept
