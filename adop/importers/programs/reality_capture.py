"""Reading the table of cameras that RealityScan, formerly RealityCapture, exports as CSV.

Sources: RealityCapture's article on camera math, whose scale is the larger side of the photo, and its makers' formula for
yaw, pitch and roll, checked against a camera that was exported both ways. The table's columns are those of the export
format Internal/External Camera Parameters.
"""

from __future__ import annotations

import csv
import math
from pathlib import Path

import numpy as np

from adop.errors import UserError, one_line, quoted
from adop.files import check_readable
from adop.geometry.brown_lens import brown_lens
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import rigid
from adop.images.photo_files import photo_size
from adop.importers.photo_finder import find_photos, keep_present
from adop.importers.write_capture import share_lenses
from adop.scene.prepare import Report
from adop.scene.scene import Photo

MAX_CAMERAS = 1_000_000
FILM_MM = 36.0  # larger side of the film that focal lengths are given for
# The names of columns that changed: RealityScan 2 writes the second ones.
_RENAMED = {"yaw": "heading", "f_35mm": "f", "px_norm": "px", "py_norm": "py"}
_COLUMNS = ("x", "y", "alt", "heading", "pitch", "roll", "f", "px", "py", "k1", "k2", "k3", "k4", "t1", "t2")


def read_reality_capture(
    path: Path, images: Path, skip_missing: bool, report: Report
) -> tuple[list[Lens], list[Photo]]:
    """Return the lenses, and the photos sorted by name.

    Args: path: the CSV file; images: folder of the photos; skip_missing: leave out photos that are not there.
    Raises: UserError naming the file and the line, and what is wrong.
    """
    rows = _rows(path)
    files = find_photos(images, [name for _, name, _ in rows], str(path), report)
    hint = "the names in the table are looked for in the folder that --images names"
    kept = keep_present(files, skip_missing, hint, report)
    lenses, photos, largest = [], [], 0.0
    for index in kept:
        number, _, values = rows[index]
        lens, error_px = _lens(values, photo_size(files[index]), f"{path}: line {number}")
        largest = max(largest, error_px)
        lenses.append(lens)
    if largest > 0:
        report(f"Lens: k4 was fitted by other radial terms, to within {largest:.2g} pixels.")
    different, own = share_lenses(lenses)
    for index, lens_index in zip(kept, own, strict=True):
        name = files[index].relative_to(images).as_posix()
        photos.append(Photo(files[index], lens_index, _pose(rows[index][2]), name=name))
    return different, sorted(photos, key=lambda photo: photo.name)


def _rows(path: Path) -> list[tuple[int, str, dict[str, float]]]:
    """Return the number of each line of the table, the photo's name, and the other columns."""
    rows: list[tuple[int, str, dict[str, float]]] = []
    check_readable(path)
    try:
        with open(path, encoding="utf-8-sig", errors="surrogateescape", newline="") as file:
            reader = csv.reader(file)
            columns = _columns(path, next(reader, []))
            for words in reader:
                if len(rows) >= MAX_CAMERAS:
                    raise UserError(f"{path}: has more than {MAX_CAMERAS:,} lines; name a table of cameras.")
                if words:
                    rows.append((reader.line_num, *_row(path, reader.line_num, columns, words)))
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"{path}: cannot be read as a table ({one_line(error)}).") from error
    if not rows:
        raise UserError(f"{path}: holds no cameras; export a component with registered photos.")
    return rows


def _columns(path: Path, header: list[str]) -> list[str]:
    words = [word.strip().lower() for word in header]
    names = [_RENAMED.get(word, word) for word in words]
    missing = [name for name in ("#name", *_COLUMNS) if name not in names]
    if missing:
        raise UserError(
            f"{path}: line 1 has no column {missing[0]!r}; export the registration as Internal/External Camera "
            "Parameters."
        )
    return names


def _row(path: Path, number: int, columns: list[str], words: list[str]) -> tuple[str, dict[str, float]]:
    if len(words) != len(columns):
        raise UserError(f"{path}: line {number} has {len(words)} columns instead of {len(columns)}.")
    cells = dict(zip(columns, words, strict=True))
    values = {}
    for name in _COLUMNS:
        try:
            values[name] = float(cells[name])
        except ValueError:
            values[name] = math.nan
        if not math.isfinite(values[name]):
            raise UserError(f"{path}: line {number}: {name} is not a finite number: {quoted(cells[name])}.")
    return cells["#name"], values


def _lens(values: dict[str, float], size: tuple[int, int], where: str) -> tuple[Lens, float]:
    """Return the lens of a photo of this size, and by how many pixels it deviates.

    The lens model is not in the table. One radial coefficient alone is what the Division model has, in another formula.
    """
    width, height = size
    scale = max(width, height)
    focal = values["f"] * scale / FILM_MM
    intrinsics = [focal, focal, width / 2 + values["px"] * scale, height / 2 + values["py"] * scale]
    radial = [values[name] for name in ("k1", "k2", "k3", "k4")]
    if values["k1"] and not any([*radial[1:], values["t1"], values["t2"]]):
        raise UserError(
            f"{where}: has k1 alone, as the Division lens model does, which has no counterpart in adop; set the "
            "distortion model to Brown3 or Brown4, align the photos again, and export."
        )
    return brown_lens(size, intrinsics, radial, (values["t1"], values["t2"]), where)


def _pose(values: dict[str, float]) -> np.ndarray:
    """Return world_to_camera [4,4].

    At heading, pitch and roll 0 (degrees) the camera looks down, along -z, and its upper edge points along y. World axes:
    x east, y north, z up. The camera turns by -heading about z, then by pitch about its x axis, then by roll about its y
    axis.
    """
    angles = [math.radians(values[name]) for name in ("heading", "pitch", "roll")]
    (sh, sp, sr), (ch, cp, cr) = ([f(angle) for angle in angles] for f in (math.sin, math.cos))
    about_z = np.array([[ch, sh, 0], [-sh, ch, 0], [0, 0, 1]])
    about_x = np.array([[1, 0, 0], [0, cp, -sp], [0, sp, cp]])
    about_y = np.array([[cr, 0, sr], [0, 1, 0], [-sr, 0, cr]])
    rotation = (about_z @ about_x @ about_y @ np.diag([1.0, -1.0, -1.0])).T
    centre = np.array([values["x"], values["y"], values["alt"]])
    return rigid(rotation, -rotation @ centre)
