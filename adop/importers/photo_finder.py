"""Finding the photos that another program's file names, which may lie elsewhere now and be spelt otherwise there."""

from __future__ import annotations

import os
import unicodedata
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path, PurePosixPath

from adop.errors import UserError, printable, quoted
from adop.images.photo_files import ENDINGS
from adop.importers.masks import without_masks
from adop.scene.prepare import Report
from adop.scene.scene import photo_file, usable_name

MIN_PHOTOS = 2  # of an import that leaves out missing ones
MAX_FOLDERS = 16  # at the end of a path, that are looked at


def find_photos(images: Path, names: Sequence[str], where: str, report: Report) -> list[Path]:
    """Return the file of each photo in a folder: where the end of its path says, or the only one of that name.

    The path may be absolute, one of Windows, or begin with other folders; folders above `images` are never looked into.
    A name without an ending stands for any photo of that name. Names of files that are not there as they are written are
    compared without regard to case, blanks at their ends, and the encoding of accents. A photo that is not found gets a
    path where there is none.

    Args: where: the file that names the photos, for errors; report: told how many were found by their names.
    Raises: UserError for a name that fits several photos, or that means the same photo as another one.
    """
    if not images.is_dir():
        raise UserError(f"{images}: no such folder of photos.")
    by_name: dict[str, list[PurePosixPath]] | None = None
    found: dict[Path, str] = {}
    searched: list[tuple[str, Path]] = []
    for name in names:
        parts = _parts(images, name, where)
        placed = file = _at_its_place(images, name, parts, where)
        if placed is None or _is_label(parts):
            by_name = _by_name(images) if by_name is None else by_name
            file = _of_that_name(images, name, parts, by_name, where) or placed
        if file is not None and file != placed:
            searched.append((name, file))
        file = file or images.joinpath(*parts)
        if file in found:
            raise UserError(
                f"{where}: photos {quoted(found[file])} and {quoted(name)} are both {file}; leave one out."
            )
        found[file] = name
    if searched:
        name, file = searched[0]
        report(
            f"{len(searched)} of {len(names)} photos were found in another folder, or spelt otherwise, than "
            f"{printable(where)} says, such as {quoted(name)}: {printable(file)}."
        )
    return list(found)


def find_file(folder: Path, name: str, where: str) -> Path:
    """Return the file in a folder that the end of a path names, or the path of one that is not there."""
    parts = _parts(folder, name, where)
    return _at_its_place(folder, name, parts, where) or folder.joinpath(*parts)


def loose(name: str) -> str:
    """Return a name in the form in which names are compared that case, blanks and encoding may tell apart."""
    return unicodedata.normalize("NFC", usable_name(name)).casefold()


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
        report(
            f"{len(missing)} of {len(files)} photos are missing and were left out, such as {printable(missing[0])}."
        )
    return present


def _parts(folder: Path, name: str, where: str) -> list[str]:
    """Return the last folders and the name of a path, without what would lead out of a folder."""
    path = name.replace("\\", "/")
    path = path[2:] if path[1:2] == ":" else path
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            parts = parts[:-1]
        elif part not in ("", "."):
            parts.append(part)
    parts = parts[-MAX_FOLDERS:]
    if not parts:
        raise UserError(
            f"{where}: {quoted(name)} names no file in the folder {folder}; use a path inside it."
        )
    photo_file(folder, "/".join(parts), where)
    return parts


def _at_its_place(folder: Path, name: str, parts: list[str], where: str) -> Path | None:
    """Return the file that the name, or else the longest possible end of the path, names in the folder."""
    literal = PurePosixPath(name)
    below = os.sep == "/" and not literal.is_absolute() and ".." not in literal.parts
    if below and os.path.isfile(folder / literal):
        return folder / literal
    for start in range(len(parts)):
        files = _with_ending(folder.joinpath(*parts[start:]))
        if len(files) > 1:
            raise _several(where, name, files)
        if files:
            return files[0]
    return None


def _with_ending(path: Path) -> list[Path]:
    """Return the file of that name or, where the name has no ending of a photo, those that add one."""
    if os.path.isfile(path):
        return [path]
    if path.suffix.lower() in ENDINGS:
        return []
    names = [path.name + ending for small in ENDINGS for ending in (small, small.upper())]
    files = [path.with_name(name) for name in names if os.path.isfile(path.with_name(name))]
    return list({os.stat(file).st_ino or file: file for file in reversed(files)}.values())


def _of_that_name(
    images: Path, name: str, parts: list[str], by_name: dict[str, list[PurePosixPath]], where: str
) -> Path | None:
    """Return the photo of a name, of several the one whose folders also fit best, or None."""
    candidates = by_name.get(loose(parts[-1]), [])
    exact = [path for path in candidates if parts[-1] in (path.name, path.stem)]
    wanted = [loose(part) for part in reversed(parts[:-1])]

    def fit(path: PurePosixPath) -> tuple[int, bool]:
        folders = [loose(part) for part in reversed(path.parts[:-1])]
        differing = (i for i, (one, two) in enumerate(zip(folders, wanted, strict=False)) if one != two)
        same = next(differing, min(len(folders), len(wanted)))
        return same, same == len(folders) and not _is_label(parts)

    fits = [(fit(path), path) for path in exact or candidates]
    best = [images / path for score, path in fits if score == max(fits)[0]]
    if len(best) > 1:
        raise _several(where, name, best)
    return best[0] if best else None


def _is_label(parts: list[str]) -> bool:
    """Return whether a name has neither folders nor an ending, and so may mean a photo in any folder."""
    return len(parts) == 1 and PurePosixPath(parts[0].strip()).suffix.lower() not in ENDINGS


def _several(where: str, name: str, files: list[Path]) -> UserError:
    return UserError(
        f"{where}: photo {quoted(name)} may be {files[0]} or {files[1]}; name a folder that holds one of them."
    )


def _by_name(images: Path) -> dict[str, list[PurePosixPath]]:
    """Return the paths of the photos in a folder and below by their loose names, with the ending and without."""
    files = []
    for folder, folders, names in os.walk(images):
        folders.sort()
        files += [Path(folder, name) for name in sorted(names) if name.strip().lower().endswith(ENDINGS)]
    table = defaultdict(list)
    for file in without_masks(files):
        path = PurePosixPath(file.relative_to(images).as_posix())
        for key in {loose(path.name), loose(path.stem)}:
            table[key].append(path)
    return table
