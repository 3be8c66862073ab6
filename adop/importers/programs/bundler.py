"""Reading reconstructions of Bundler: `bundle.out` of version 0.3 and the list of photos.

A camera looks along its negative z axis, with y up, as in OpenGL. Its pixels are counted from the centre of the photo,
and the radial distortion is 1 + k1 r² + k2 r⁴, which OpenCV's model includes. Source: the manual of Bundler 0.4, VI.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adop.errors import UserError, one_line
from adop.files import check_readable, read_text
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import nearest_rotation, rigid
from adop.images.photo_files import photo_size
from adop.importers.photo_finder import find_photos, keep_present
from adop.importers.write_capture import share_lenses
from adop.scene.ply import RawPoints
from adop.scene.prepare import Report
from adop.scene.scene import Photo

HEADER = "# Bundle file v0.3"
MAX_CAMERAS = 1_000_000
_BYTES_OF_CAMERA, _BYTES_OF_POINT = 30, 14  # of the text, at least
_AXES = np.diag([1.0, -1.0, -1.0])  # from OpenGL's camera axes to ours


@dataclass(frozen=True, eq=False)
class _Camera:
    line: int  # where it begins
    lens: tuple[float, float, float]  # f k1 k2
    rotation: np.ndarray  # [3,3]
    translation: np.ndarray  # [3]


def read_bundler(
    bundle: Path, photo_list: Path | None, images: Path, skip_missing: bool, report: Report
) -> tuple[list[Lens], list[Photo], RawPoints]:
    """Return the lenses, the registered photos sorted by name, and the sparse points.

    Args:
        bundle: bundle.out.
        photo_list: the list of photos; None looks for list.txt beside the bundle and in the folder above it.
        images: folder of the photos.
        skip_missing: leave out photos that are not there.

    Raises: UserError naming the file and the line, and what is wrong.
    """
    cameras, points = _read(bundle)
    names_file = _find_list(bundle) if photo_list is None else photo_list
    names = _read_list(names_file)
    if len(names) != len(cameras):
        raise UserError(
            f"{names_file}: lists {len(names)} photos, but {bundle} has {len(cameras)} cameras; name its own with --list."
        )
    registered = [index for index, camera in enumerate(cameras) if camera.lens[0] != 0]
    if not registered:
        raise UserError(
            f"{bundle}: none of its {len(cameras)} cameras is registered; all focal lengths are 0."
        )
    if len(registered) < len(cameras):
        report(
            f"{len(cameras) - len(registered)} of {len(cameras)} cameras are not registered and were left out."
        )
    files = find_photos(images, [names[index] for index in registered], str(names_file), report)
    hint = "the names in the list are looked for in the folder that --images names"
    kept = keep_present(files, skip_missing, hint, report)
    chosen = [(files[place], cameras[registered[place]]) for place in kept]
    different, own = share_lenses([_lens(camera, file, bundle) for file, camera in chosen])
    photos = []
    for (file, camera), lens_index in zip(chosen, own, strict=True):
        rotation = nearest_rotation(camera.rotation, f"{bundle}: line {camera.line}")
        pose = rigid(_AXES @ rotation, _AXES @ camera.translation)
        photos.append(Photo(file, lens_index, pose, name=file.relative_to(images).as_posix()))
    return different, sorted(photos, key=lambda photo: photo.name), points


def _lens(camera: _Camera, file: Path, bundle: Path) -> Lens:
    f, k1, k2 = camera.lens
    width, height = photo_size(file)
    try:
        return Lens(
            "opencv",
            width,
            height,
            np.array([f, f, width / 2, height / 2]),
            np.array([k1, k2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]),
        )
    except ValueError as error:
        raise UserError(f"{bundle}: line {camera.line}: {error}.") from error


def _read(path: Path) -> tuple[list[_Camera], RawPoints]:
    """Return the cameras and the points of a bundle file."""
    check_readable(path)
    try:
        size = path.stat().st_size
        with open(path, encoding="utf-8") as file:
            lines = _lines(path, enumerate(file, 1))
            number, first = next(lines)
            if first != HEADER:
                raise UserError(
                    f"{path}: line 1 must read '{HEADER}'; name a bundle.out of Bundler 0.3 or later."
                )
            number, counts = next(lines)
            camera_count, point_count = _counts(path, number, counts, size)
            cameras = [_read_camera(path, lines) for _ in range(camera_count)]
            xyz, colors = np.empty((point_count, 3)), np.empty((point_count, 3), np.uint8)
            for index in range(point_count):
                xyz[index], colors[index] = _read_point(path, lines)
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({one_line(error)}).") from error
    return cameras, RawPoints(xyz, None, colors, str(path))


def _lines(path: Path, numbered: Iterator[tuple[int, str]]) -> Iterator[tuple[int, str]]:
    """Yield the numbers and the text of the lines that are not empty; UserError where they end."""
    number = 0
    for number, line in numbered:
        if text := line.strip():
            yield number, text
    raise UserError(f"{path}: is cut off after line {number}.")


def _counts(path: Path, number: int, text: str, size: int) -> tuple[int, int]:
    """Return the numbers of cameras and points, which the file's size must allow for."""
    words = text.split()
    if len(words) != 2 or not all(word.isascii() and word.isdigit() and len(word) < 18 for word in words):
        raise UserError(f"{path}: line {number} must hold the numbers of cameras and points.")
    cameras, points = int(words[0]), int(words[1])
    if cameras > MAX_CAMERAS or cameras * _BYTES_OF_CAMERA + points * _BYTES_OF_POINT > size:
        raise UserError(
            f"{path}: line {number}: {cameras} cameras and {points} points do not fit into {size} bytes; the file is "
            "cut off or damaged."
        )
    return cameras, points


def _read_camera(path: Path, lines: Iterator[tuple[int, str]]) -> _Camera:
    number, text = next(lines)
    lens = _floats(path, number, text, "f k1 k2")
    rows = [
        _floats(path, *next(lines), "three numbers of a camera's rotation or translation") for _ in range(4)
    ]
    return _Camera(number, (lens[0], lens[1], lens[2]), np.array(rows[:3]), np.array(rows[3]))


def _read_point(path: Path, lines: Iterator[tuple[int, str]]) -> tuple[list[float], list[float]]:
    position = _floats(path, *next(lines), "a point's x y z")
    number, text = next(lines)
    color = _floats(path, number, text, "a point's red green blue")
    if not all(0 <= value <= 255 for value in color):
        raise UserError(f"{path}: line {number} must hold a point's red green blue, each 0 to 255.")
    number, text = next(lines)
    words = text.split(maxsplit=1)
    seen = len(words[1].split()) if len(words) > 1 else 0
    if not (words[0].isascii() and words[0].isdigit() and len(words[0]) < 18 and seen == 4 * int(words[0])):
        raise UserError(
            f"{path}: line {number} must hold a point's number of views, and four numbers for each."
        )
    return position, color


def _floats(path: Path, number: int, text: str, what: str) -> list[float]:
    """Return the three finite numbers of a line."""
    try:
        values = [float(word) for word in text.split(maxsplit=3)]
    except ValueError:
        values = []
    if len(values) != 3 or not np.isfinite(values).all():
        raise UserError(f"{path}: line {number} must hold {what}, all finite.")
    return values


def _find_list(bundle: Path) -> Path:
    places = [bundle.absolute().parent / "list.txt", bundle.absolute().parent.parent / "list.txt"]
    found = next((place for place in places if place.is_file()), None)
    if found is None:
        raise UserError(f"{bundle}: there is no list.txt beside it; name the list of photos with --list.")
    return found


def _read_list(path: Path) -> list[str]:
    """Return the photos' names: a line is a name, which `0` and a focal length may follow."""
    names = []
    for line in read_text(path, errors="surrogateescape").split("\n"):
        words = line.strip().rsplit(maxsplit=2)
        if len(words) == 3 and words[1] == "0" and _is_number(words[2]):
            names.append(words[0])
        elif len(words) > 1 and words[-1] == "0":
            names.append(line.strip()[:-1].strip())
        elif words:
            names.append(line.strip())
    return names


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
