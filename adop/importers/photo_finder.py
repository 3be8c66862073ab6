"""Finding the photos that another program's file names, which may lie elsewhere now and may lack their ending there."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

from adop.errors import UserError, quoted
from adop.scene.prepare import Report
from adop.scene.scene import photo_file

ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp")
MIN_PHOTOS = 2  # of an import that leaves out missing ones
MAX_FOLDERS = 16  # at the end of a path, that are looked at


def find_photos(images: Path, names: Sequence[str], where: str) -> list[Path]:
    """Return the file of each photo in a folder: where the end of its path says, or the only one of that name.

    The path may be absolute, or begin with other folders. A name without an ending stands for any photo of that name. A
    photo that is not found gets a path where there is none.

    Raises: UserError beginning with `where` for a name that leaves the folder, that fits several photos, or that means
        the same photo as another one.
    """
    if not images.is_dir():
        raise UserError(f"{images}: no such folder of photos.")
    by_name: dict[str, list[Path]] | None = None
    found: dict[Path, str] = {}
    for name in names:
        file = _at_its_place(images, name, where)
        if not os.path.isfile(file):
            by_name = _by_name(images) if by_name is None else by_name
            candidates = by_name.get(file.name, [])
            if len(candidates) > 1:
                raise UserError(
                    f"{where}: photo {quoted(name)} may be {candidates[0]} or {candidates[1]}; name a folder that holds "
                    "one of them."
                )
            file = candidates[0] if candidates else file
        if file in found:
            raise UserError(
                f"{where}: photos {quoted(found[file])} and {quoted(name)} are both {file}; leave one out."
            )
        found[file] = name
    return list(found)


def keep_present(files: Sequence[Path], skip_missing: bool, hint: str, report: Report) -> list[int]:
    """Return the indices of the files that are there.

    Args:
        skip_missing: leave out the others and report how many; otherwise they are an error.
        hint: what the error says about where photos are looked for.

    Raises: UserError for a missing photo, or where fewer than `MIN_PHOTOS` are left.
    """
    present = [index for index, file in enumerate(files) if os.path.isfile(file)]
    missing = [file for file in files if not os.path.isfile(file)]
    if missing and not skip_missing:
        raise UserError(
            f"{missing[0]}: photo not found ({len(missing)} of {len(files)} are missing); {hint}, "
            "and --skip-missing leaves out those that are not there."
        )
    if missing and len(present) < MIN_PHOTOS:
        raise UserError(
            f"{missing[0]}: photo not found ({len(missing)} of {len(files)} are missing); an import needs at least "
            f"{MIN_PHOTOS} photos, and {hint}."
        )
    if missing:
        report(f"{len(missing)} of {len(files)} photos are missing and were left out, such as {missing[0]}.")
    return present


def _at_its_place(images: Path, name: str, where: str) -> Path:
    """Return the file that the longest possible end of a path names in the folder, or else one that is not there."""
    path = name.replace("\\", "/")
    path = path[2:] if path[1:2] == ":" else path
    parts = [part for part in path.split("/") if part not in ("", ".")][-MAX_FOLDERS:]
    whole = photo_file(images, "/".join(parts), where)
    ends = (images.joinpath(*parts[start:]) for start in range(len(parts)))
    return next((file for file in ends if os.path.isfile(file)), whole)


def _by_name(images: Path) -> dict[str, list[Path]]:
    """Return the photos in a folder and below by their names, with the ending and without."""
    table = defaultdict(list)
    for folder, folders, names in os.walk(images):
        folders.sort()
        for name in sorted(names):
            if name.lower().endswith(ENDINGS):
                table[name].append(Path(folder) / name)
                table[name.rsplit(".", 1)[0]].append(Path(folder) / name)
    return table
