"""Reading COLMAP models, binary and text, as plain numbers; `geometry.colmap_lens` says what they mean.

The format: https://colmap.github.io/format.html
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adop.errors import UserError, quoted
from adop.files import check_readable
from adop.scene.scene import first_twice

# Name and number of parameters of COLMAP's camera models by their id.
MODELS = {
    0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8), 6: ("FULL_OPENCV", 12), 7: ("FOV", 5), 8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5), 10: ("THIN_PRISM_FISHEYE", 12), 11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4), 13: ("DIVISION", 5), 14: ("SIMPLE_FISHEYE", 3), 15: ("FISHEYE", 4),
    16: ("EUCM", 6), 17: ("EQUIRECTANGULAR", 2),
}  # fmt: skip
MAX_DIGITS = 20  # of 2^64
PARAMETER_COUNTS = {name: size for name, size in MODELS.values()}


@dataclass(frozen=True)
class ColmapCamera:
    """A row of `cameras`."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """A row of `images`, that is, a registered photo: its world-to-camera rotation and translation."""

    name: str
    camera: int  # key into ColmapModel.cameras
    rotation: tuple[float, float, float, float]  # quaternion w x y z
    translation: tuple[float, float, float]


@dataclass(frozen=True)
class ColmapModel:
    """Cameras by id, and photos sorted by name."""

    folder: Path
    cameras: dict[int, ColmapCamera]
    images: tuple[ColmapImage, ...]


def read_colmap(folder: Path) -> ColmapModel:
    """Read `cameras` and `images` of a COLMAP model, `.bin` in preference to `.txt`; rigs and frames are ignored.

    Raises: UserError naming the file, the line or the byte, and what is wrong.
    """
    folder = _model_folder(Path(folder))
    suffix = ".bin" if (folder / "cameras.bin").is_file() else ".txt"
    cameras_path, images_path = folder / f"cameras{suffix}", folder / f"images{suffix}"
    for path in (cameras_path, images_path):
        if not path.is_file():
            raise UserError(
                f"{path}: not found; a COLMAP model consists of cameras and images, both .bin or both .txt."
            )
    if suffix == ".bin":
        cameras, images = _cameras_binary(cameras_path), _images_binary(images_path)
    else:
        cameras, images = _cameras_text(cameras_path), _images_text(images_path)
    for image in images:
        if image.camera not in cameras:
            raise UserError(
                f"{images_path}: photo {quoted(image.name)} uses camera {image.camera}, "
                f"which {cameras_path.name} does not have."
            )
    twice = first_twice([image.name for image in images])
    if twice is not None:
        raise UserError(f"{images_path}: photo {quoted(twice)} is listed twice.")
    if not images:
        raise UserError(f"{images_path}: the model has no registered photos.")
    return ColmapModel(folder, cameras, tuple(sorted(images, key=lambda image: image.name)))


def has_points3d(folder: Path) -> bool:
    """Return whether the folder of a model has a file of sparse points."""
    return any((folder / name).is_file() for name in ("points3D.bin", "points3D.txt"))


def read_points3d(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Return the sparse points of a model: xyz [N,3] f64 and colours [N,3] u8."""
    folder = _model_folder(Path(folder))
    if (folder / "points3D.bin").is_file():
        return _points_binary(folder / "points3D.bin")
    if (folder / "points3D.txt").is_file():
        return _points_text(folder / "points3D.txt")
    raise UserError(f"{folder}: has no points3D.bin or points3D.txt; name a point cloud with --points.")


def _model_folder(folder: Path) -> Path:
    """Return the folder of the model: the given one, or its only subfolder with a model (`sparse/0` of `sparse`)."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder that holds cameras.bin and images.bin.")
    if any((folder / name).is_file() for name in ("cameras.bin", "cameras.txt")):
        return folder
    models = [
        sub
        for sub in sorted(folder.iterdir())
        if any(os.path.isfile(sub / f"cameras.{s}") for s in ("bin", "txt"))
    ]
    if len(models) == 1:
        return models[0]
    if models:
        raise UserError(
            f"{folder}: holds {len(models)} models ({', '.join(m.name for m in models)}); name one of them."
        )
    raise UserError(f"{folder}: no cameras.bin or cameras.txt here; name the folder of a COLMAP model.")


class _Reader:
    """Reads little-endian numbers of a binary file and checks each read against the end of the file."""

    def __init__(self, path: Path) -> None:
        self.path = path
        check_readable(path)
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
        self.offset = 0  # bytes

    def take(self, layout: str) -> tuple:
        size = struct.calcsize(layout)
        self.skip(size)
        return struct.unpack_from(layout, self.data, self.offset - size)

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.offset:
            raise UserError(f"{self.path}: is cut off or damaged at byte {self.offset} of {len(self.data)}.")
        self.offset += size

    def name(self) -> str:
        end = self.data.find(b"\0", self.offset, self.offset + 4096)
        if end < 0:
            raise UserError(f"{self.path}: a photo's name does not end, at byte {self.offset}.")
        text = self.data[self.offset : end]
        self.offset = end + 1
        return text.decode("utf-8", "surrogateescape")

    def done(self) -> None:
        if self.offset != len(self.data):
            raise UserError(
                f"{self.path}: {len(self.data) - self.offset} bytes are left over at its end; the file is damaged."
            )


def _cameras_binary(path: Path) -> dict[int, ColmapCamera]:
    reader = _Reader(path)
    cameras = {}
    for _ in range(reader.take("<Q")[0]):
        number, model, width, height = reader.take("<IiQQ")
        if model not in MODELS:
            raise UserError(f"{path}: camera {number} has the unknown model id {model}.")
        if number in cameras:
            raise UserError(f"{path}: camera {number} is listed twice.")
        name, size = MODELS[model]
        cameras[number] = ColmapCamera(name, width, height, reader.take(f"<{size}d"))
    reader.done()
    return cameras


def _images_binary(path: Path) -> list[ColmapImage]:
    reader = _Reader(path)
    images = []
    for _ in range(reader.take("<Q")[0]):
        _, *pose, camera = reader.take("<I7dI")
        name = reader.name()
        reader.skip(24 * reader.take("<Q")[0])  # observations: x, y, id of the point
        images.append(ColmapImage(name, camera, tuple(pose[:4]), tuple(pose[4:])))
    reader.done()
    return images


def _points_binary(path: Path) -> tuple[np.ndarray, np.ndarray]:
    reader = _Reader(path)
    xyz, colors = [], []
    for _ in range(reader.take("<Q")[0]):
        _, x, y, z, red, green, blue, _, track = reader.take("<Q3d3BdQ")
        reader.skip(8 * track)
        xyz.append((x, y, z))
        colors.append((red, green, blue))
    reader.done()
    return np.array(xyz, np.float64).reshape(-1, 3), np.array(colors, np.uint8).reshape(-1, 3)


def _lines(path: Path, keep_empty: bool = False) -> Iterator[tuple[int, str]]:
    """Yield the numbers and the text of a file's lines, without comments; blanks at their ends may belong to a name."""
    check_readable(path)
    try:
        with open(path, encoding="utf-8", errors="surrogateescape") as file:
            for number, line in enumerate(file, 1):
                line = line.rstrip("\r\n")
                if not line.lstrip().startswith("#") and (line.strip() or keep_empty):
                    yield number, line
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error


def _whole(word: str) -> int:
    """Return a whole number of at most 64 bits. Raises: ValueError."""
    if len(word) > MAX_DIGITS:
        raise ValueError
    return int(word)


def _cameras_text(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for number, line in _lines(path):
        words = line.split()
        try:
            key, model, width, height = _whole(words[0]), words[1], _whole(words[2]), _whole(words[3])
            params = tuple(float(word) for word in words[4:])
        except (ValueError, IndexError) as error:
            raise UserError(f"{path}: line {number} must read 'id MODEL width height parameters'.") from error
        if model not in PARAMETER_COUNTS:
            raise UserError(f"{path}: line {number}: {quoted(model)} is no camera model that adop knows.")
        if len(params) != PARAMETER_COUNTS[model]:
            raise UserError(
                f"{path}: line {number}: {model} has {PARAMETER_COUNTS[model]} parameters, got {len(params)}."
            )
        if key in cameras:
            raise UserError(f"{path}: line {number}: camera {key} is listed twice.")
        cameras[key] = ColmapCamera(model, width, height, params)
    return cameras


def _images_text(path: Path) -> list[ColmapImage]:
    images = []
    lines = _lines(path, keep_empty=True)
    for number, line in lines:
        if not line.strip():
            continue
        words = line.split(maxsplit=9)
        try:
            pose = [float(word) for word in words[1:8]]
            image = ColmapImage(words[9], _whole(words[8]), tuple(pose[:4]), tuple(pose[4:]))  # type: ignore[arg-type]
            _whole(words[0])
        except (ValueError, IndexError) as error:
            raise UserError(
                f"{path}: line {number} must read 'id qw qx qy qz tx ty tz camera name'."
            ) from error
        images.append(image)
        observations = next(lines, (0, ""))[1]  # always a line, which may be empty
        if len(observations.split()) % 3:
            raise UserError(
                f"{path}: line {number + 1} must hold the observations 'x y point' of {quoted(words[9])}."
            )
    return images


def _points_text(path: Path) -> tuple[np.ndarray, np.ndarray]:
    xyz, colors = [], []
    for number, line in _lines(path):
        words = line.split(maxsplit=7)
        try:
            xyz.append([float(word) for word in words[1:4]])
            colors.append([min(max(_whole(word), 0), 255) for word in words[4:7]])
            if len(xyz[-1]) + len(colors[-1]) != 6:
                raise ValueError
        except ValueError as error:
            raise UserError(f"{path}: line {number} must read 'id x y z r g b error track'.") from error
    return np.array(xyz, np.float64).reshape(-1, 3), np.array(colors, np.uint8).reshape(-1, 3)
