"""Read COLMAP models, binary and text, into plain numbers; nothing is interpreted here."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adop.errors import UserError
from adop.geometry.lens import Lens

MODELS = {
    0: ("SIMPLE_PINHOLE", 3), 1: ("PINHOLE", 4), 2: ("SIMPLE_RADIAL", 4), 3: ("RADIAL", 5), 4: ("OPENCV", 8),
    5: ("OPENCV_FISHEYE", 8), 6: ("FULL_OPENCV", 12), 7: ("FOV", 5), 8: ("SIMPLE_RADIAL_FISHEYE", 4),
    9: ("RADIAL_FISHEYE", 5), 10: ("THIN_PRISM_FISHEYE", 12), 11: ("RAD_TAN_THIN_PRISM_FISHEYE", 16),
    12: ("SIMPLE_DIVISION", 4), 13: ("DIVISION", 5), 14: ("SIMPLE_FISHEYE", 3), 15: ("FISHEYE", 4),
    16: ("EUCM", 6), 17: ("EQUIRECTANGULAR", 2),
}  # fmt: skip
SIZES = {name: size for name, size in MODELS.values()}
# Which parameters a model has, in COLMAP's order; those not named are zero.
_EXACT = {
    "SIMPLE_PINHOLE": ("opencv", "f cx cy"),
    "PINHOLE": ("opencv", "fx fy cx cy"),
    "SIMPLE_RADIAL": ("opencv", "f cx cy k1"),
    "RADIAL": ("opencv", "f cx cy k1 k2"),
    "OPENCV": ("opencv", "fx fy cx cy k1 k2 p1 p2"),
    "FULL_OPENCV": ("opencv", "fx fy cx cy k1 k2 p1 p2 k3 k4 k5 k6"),
    "SIMPLE_FISHEYE": ("fisheye", "f cx cy"),
    "FISHEYE": ("fisheye", "fx fy cx cy"),
    "SIMPLE_RADIAL_FISHEYE": ("fisheye", "f cx cy k1"),
    "RADIAL_FISHEYE": ("fisheye", "f cx cy k1 k2"),
    "OPENCV_FISHEYE": ("fisheye", "fx fy cx cy k1 k2 k3 k4"),
}
_ORDER = {"opencv": "k1 k2 p1 p2 k3 k4 k5 k6", "fisheye": "k1 k2 k3 k4"}


@dataclass(frozen=True)
class ColmapCamera:
    """A camera as COLMAP stores it."""

    model: str
    width: int
    height: int
    params: tuple[float, ...]


@dataclass(frozen=True)
class ColmapImage:
    """A registered photo: world-to-camera rotation (quaternion w x y z) and translation."""

    name: str
    camera: int
    rotation: tuple[float, float, float, float]
    translation: tuple[float, float, float]


@dataclass(frozen=True)
class ColmapModel:
    """Cameras by id, and photos sorted by name."""

    folder: Path
    cameras: dict[int, ColmapCamera]
    images: tuple[ColmapImage, ...]


def read_colmap(folder: Path) -> ColmapModel:
    """Read `cameras` and `images` of a COLMAP model, `.bin` preferred to `.txt`; rigs and frames are ignored.

    Raises: UserError naming the file, the line or offset and what is wrong.
    """
    folder = _model_folder(Path(folder))
    suffix = ".bin" if (folder / "cameras.bin").is_file() else ".txt"
    cameras_path, images_path = folder / f"cameras{suffix}", folder / f"images{suffix}"
    for path in (cameras_path, images_path):
        if not path.is_file():
            raise UserError(
                f"{path}: not found; a COLMAP model has cameras and images, both .bin or both .txt."
            )
    if suffix == ".bin":
        cameras, images = _cameras_binary(cameras_path), _images_binary(images_path)
    else:
        cameras, images = _cameras_text(cameras_path), _images_text(images_path)
    names: set[str] = set()
    for image in images:
        if image.camera not in cameras:
            raise UserError(
                f"{images_path}: photo {image.name!r} uses camera {image.camera}, "
                f"which {cameras_path.name} does not have."
            )
        if image.name in names:
            raise UserError(f"{images_path}: photo {image.name!r} is listed twice.")
        names.add(image.name)
    if not images:
        raise UserError(f"{images_path}: the model has no registered photos.")
    return ColmapModel(folder, cameras, tuple(sorted(images, key=lambda image: image.name)))


def lens_of(camera: ColmapCamera, where: str) -> Lens:
    """Turn a COLMAP camera into a Lens, exactly; refuse models that have no exact counterpart.

    Args: where: names the camera in the error.
    """
    if camera.model not in _EXACT:
        raise UserError(
            f"{where}: camera model {camera.model} has no exact counterpart here; undistort the photos "
            f"(colmap image_undistorter) or use one of {', '.join(_EXACT)}."
        )
    model, names = _EXACT[camera.model]
    values = dict(zip(names.split(), camera.params, strict=True))
    focal = values.get("f", 0.0)
    intrinsics = [values.get("fx", focal), values.get("fy", focal), values["cx"], values["cy"]]
    distortion = [values.get(name, 0.0) for name in _ORDER[model].split()]
    try:
        return Lens(model, camera.width, camera.height, np.array(intrinsics), np.array(distortion))
    except ValueError as error:
        raise UserError(f"{where}: {error}.") from error


def read_points3d(folder: Path) -> tuple[np.ndarray, np.ndarray]:
    """Read the sparse points of a model: xyz [N,3] f64 and colours [N,3] u8."""
    folder = _model_folder(Path(folder))
    if (folder / "points3D.bin").is_file():
        return _points_binary(folder / "points3D.bin")
    if (folder / "points3D.txt").is_file():
        return _points_text(folder / "points3D.txt")
    raise UserError(f"{folder}: has no points3D.bin or points3D.txt; name a point cloud with --points.")


def _model_folder(folder: Path) -> Path:
    """Accept `sparse/0` and also `sparse`, where it holds one model only."""
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder; name the folder that holds cameras.bin and images.bin.")
    if any((folder / name).is_file() for name in ("cameras.bin", "cameras.txt")):
        return folder
    models = [
        sub
        for sub in sorted(folder.iterdir())
        if any((sub / f"cameras.{s}").is_file() for s in ("bin", "txt"))
    ]
    if len(models) == 1:
        return models[0]
    if models:
        raise UserError(
            f"{folder}: holds {len(models)} models ({', '.join(m.name for m in models)}); name one of them."
        )
    raise UserError(f"{folder}: no cameras.bin or cameras.txt here; name the folder of a COLMAP model.")


class _Reader:
    """Little-endian numbers of a binary file, every read checked against its end."""

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self.data = path.read_bytes()
        except OSError as error:
            raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
        self.where = 0

    def take(self, layout: str) -> tuple:
        size = struct.calcsize(layout)
        self.skip(size)
        return struct.unpack_from(layout, self.data, self.where - size)

    def skip(self, size: int) -> None:
        if size > len(self.data) - self.where:
            raise UserError(f"{self.path}: is cut off or damaged at byte {self.where} of {len(self.data)}.")
        self.where += size

    def name(self) -> str:
        end = self.data.find(b"\0", self.where, self.where + 4096)
        if end < 0:
            raise UserError(f"{self.path}: a photo's name does not end, at byte {self.where}.")
        text = self.data[self.where : end]
        self.where = end + 1
        try:
            return text.decode("utf-8")
        except UnicodeDecodeError as error:
            raise UserError(f"{self.path}: a photo's name is not UTF-8, at byte {self.where}.") from error

    def done(self) -> None:
        if self.where != len(self.data):
            raise UserError(
                f"{self.path}: {len(self.data) - self.where} bytes are left over; the file is damaged."
            )


def _cameras_binary(path: Path) -> dict[int, ColmapCamera]:
    reader = _Reader(path)
    cameras = {}
    for _ in range(reader.take("<Q")[0]):
        number, model, width, height = reader.take("<IiQQ")
        if model not in MODELS:
            raise UserError(f"{path}: camera {number} has the unknown model id {model}.")
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
        reader.skip(24 * reader.take("<Q")[0])  # its observations: x, y, id of the point
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
    """Lines of a text file with their numbers, comments left out."""
    try:
        with open(path, encoding="utf-8") as file:
            for number, line in enumerate(file, 1):
                line = line.strip()
                if not line.startswith("#") and (line or keep_empty):
                    yield number, line
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(f"{path}: cannot be read as text ({error}).") from error


def _cameras_text(path: Path) -> dict[int, ColmapCamera]:
    cameras = {}
    for number, line in _lines(path):
        words = line.split()
        try:
            key, model, width, height = int(words[0]), words[1], int(words[2]), int(words[3])
            params = tuple(float(word) for word in words[4:])
        except (ValueError, IndexError) as error:
            raise UserError(
                f"{path}: line {number} should read 'id MODEL width height parameters'."
            ) from error
        if len(params) != SIZES.get(model, len(params)):
            raise UserError(
                f"{path}: line {number}: {model} has {SIZES[model]} parameters, found {len(params)}."
            )
        cameras[key] = ColmapCamera(model, width, height, params)
    return cameras


def _images_text(path: Path) -> list[ColmapImage]:
    images = []
    lines = _lines(path, keep_empty=True)
    for number, line in lines:
        if not line:
            continue
        words = line.split(maxsplit=9)
        try:
            pose = [float(word) for word in words[1:8]]
            image = ColmapImage(words[9], int(words[8]), tuple(pose[:4]), tuple(pose[4:]))  # type: ignore[arg-type]
            int(words[0])
        except (ValueError, IndexError) as error:
            raise UserError(
                f"{path}: line {number} should read 'id qw qx qy qz tx ty tz camera name'."
            ) from error
        images.append(image)
        observations = next(lines, (0, ""))[1]  # on a line of their own, which may be empty
        if len(observations.split()) % 3:
            raise UserError(
                f"{path}: line {number + 1} should hold the observations 'x y point' of {words[9]!r}."
            )
    return images


def _points_text(path: Path) -> tuple[np.ndarray, np.ndarray]:
    xyz, colors = [], []
    for number, line in _lines(path):
        words = line.split(maxsplit=7)
        try:
            xyz.append([float(word) for word in words[1:4]])
            colors.append([min(max(int(word), 0), 255) for word in words[4:7]])
            if len(xyz[-1]) + len(colors[-1]) != 6:
                raise ValueError
        except ValueError as error:
            raise UserError(f"{path}: line {number} should read 'id x y z r g b error track'.") from error
    return np.array(xyz, np.float64).reshape(-1, 3), np.array(colors, np.uint8).reshape(-1, 3)
