"""The exposure of a photo, from the EXIF tags that its camera wrote."""

from __future__ import annotations

import csv
import math
import warnings
from pathlib import Path
from typing import Any

from PIL import Image

from adop.errors import UserError, one_line
from adop.files import read_text
from adop.images.exr import exr_header
from adop.images.photo_files import is_exr, open_photo

_EXIF_IFD, _EXPOSURE_TIME, _F_NUMBER, _ISO = 0x8769, 33434, 33437, 34855
_SHUTTER_SPEED, _APERTURE = 37377, 37378  # APEX values: log2(1/t), 2*log2(N)
ORIENTATION = 0x0112
# Make, model, orientation, date, EXIF and GPS: the others of a TIFF file describe the layout of its pixels.
_KEPT_TAGS = {0x010F, 0x0110, ORIENTATION, 0x0132, 0x8769, 0x8825}
MAX_EV = 100.0  # of what is read from files
PLAUSIBLE_EV = (-12.0, 24.0)  # an hour by starlight, and the brightest sun


def exposure_value(exposure_time: float, f_number: float, iso: float) -> float | None:
    """Return EV at ISO 100, `log2(N^2/t) - log2(ISO/100)`, or None where no camera takes such photos.

    A larger EV means a darker photo of the same scene. The exposure compensation that the photographer chose is
    already part of the three numbers.

    Args: exposure_time: t in seconds; f_number: N; iso: film speed.
    """
    values = (exposure_time, f_number, iso)
    if not all(math.isfinite(value) and value > 0 for value in values):
        return None
    value = 2 * math.log2(f_number) - math.log2(exposure_time) - math.log2(iso / 100.0)
    return value if PLAUSIBLE_EV[0] <= value <= PLAUSIBLE_EV[1] else None


def read_tags(path: Path) -> tuple[dict[int, Any], dict[int, Any]]:
    """Return a photo's tags, and those of its EXIF part; none where it cannot be opened."""
    try:
        with warnings.catch_warnings(), open_photo(path) as image:
            warnings.simplefilter("ignore")  # damaged tags count as missing
            tags = image.getexif()
            return dict(tags), dict(tags.get_ifd(_EXIF_IFD))
    except UserError:
        return {}, {}  # a photo that cannot be opened is reported where its pixels are read


def kept_exif(image: Image.Image) -> bytes:
    """Return the EXIF data without the orientation: Pillow turns TIFF and HEIC upright as it reads them."""
    tags = image.getexif()
    kept = Image.Exif()
    kept.load(tags.tobytes())
    for tag in set(kept) - _KEPT_TAGS:
        del kept[tag]
    if image.format in ("TIFF", "HEIF"):
        kept.pop(ORIENTATION, None)
    return kept.tobytes()


def read_exposure(path: Path) -> float | None:
    """Return a photo's EV at ISO 100 from its EXIF tags, or None where a tag is missing or invalid.

    EXR files have attributes instead: expTime, aperture and isoSpeed.
    """
    if is_exr(path):
        return _exr_exposure(path)
    _, tags = read_tags(path)
    time = _number(tags.get(_EXPOSURE_TIME))
    if not time > 0 and _SHUTTER_SPEED in tags:
        time = _power_of_two(-_number(tags[_SHUTTER_SPEED]))
    f_number = _number(tags.get(_F_NUMBER))
    if not f_number > 0 and _APERTURE in tags:
        f_number = _power_of_two(0.5 * _number(tags[_APERTURE]))
    return exposure_value(time, f_number, _number(tags.get(_ISO)))


def _exr_exposure(path: Path) -> float | None:
    try:
        header = exr_header(path)
    except UserError:
        return None  # the file is reported where its pixels are read
    return exposure_value(*(_number(header.get(name)) for name in ("expTime", "aperture", "isoSpeed")))


def read_exposure_table(path: Path) -> dict[str, float | None]:
    """Read exposures from a CSV file with the columns name, exposure_time, f_number, iso (or name, ev).

    Returns: EV at ISO 100 by name, None where the row has none; `ev` is used where one of the other three is missing.
    Raises: UserError naming the file, the line and what is wrong.
    """
    path = Path(path)
    rows = csv.DictReader(read_text(path, "a CSV file").splitlines())
    try:
        return _table_of(path, rows)
    except csv.Error as error:
        raise UserError(f"{path}: line {rows.line_num} is not CSV ({one_line(error)}).") from error


def _table_of(path: Path, rows: csv.DictReader) -> dict[str, float | None]:
    columns = set(rows.fieldnames or ())
    if "name" not in columns or not ({"exposure_time", "f_number", "iso"} <= columns or "ev" in columns):
        raise UserError(f"{path}: needs the columns name, exposure_time, f_number, iso (or name, ev).")
    table: dict[str, float | None] = {}
    for row in rows:
        try:
            three = [float(row.get(key) or "nan") for key in ("exposure_time", "f_number", "iso")]
            ev = float(row.get("ev") or "nan")
        except ValueError as error:
            raise UserError(f"{path}: line {rows.line_num} has a value that is not a number.") from error
        if abs(ev) > MAX_EV:
            raise UserError(f"{path}: line {rows.line_num} has an ev beyond {MAX_EV:g} stops.")
        value = exposure_value(*three)
        table[row["name"] or ""] = value if value is not None else (ev if math.isfinite(ev) else None)
    return table


def _number(value: object) -> float:
    """Return an EXIF value (rational, integer, a tuple of them, or missing) as a float, NaN where it is not one."""
    if isinstance(value, tuple):
        value = value[0] if value else None
    try:
        return float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, ArithmeticError):
        return math.nan


def _power_of_two(exponent: float) -> float:
    """Return 2^exponent, NaN where the exponent is far beyond any camera's."""
    return 2.0**exponent if abs(exponent) < 64 else math.nan
