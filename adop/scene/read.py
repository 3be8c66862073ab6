"""Loading a scene folder; every value is checked where it is read. The format: scenes/README.md."""

from __future__ import annotations

import configparser
import math
import os
from pathlib import Path

import numpy as np

from adop.errors import UserError, one_line, quoted
from adop.files import read_text
from adop.geometry.lens import Lens, PosedLens
from adop.geometry.rigid_motion import invert_rigid, rigid, rotation_from_quaternion
from adop.images.exif import MAX_EV
from adop.scene.ply import read_ply
from adop.scene.point_cloud import PointCloud, load_prepared, save_prepared
from adop.scene.prepare import Report, prepare
from adop.scene.scene import Photo, Scene, first_twice, stays_inside, usable_names

PREPARED_FILE = "points.safetensors"
SPLIT_FILE = "split.txt"
NAME_ERRORS = "surrogateescape"  # names of files may hold bytes that are not UTF-8
SPLIT_WORDS = {"train": False, "test": True}  # whether a photo is held out
FARTHEST = 1e18  # scene units; squares of larger numbers do not fit into float32
FILE_MODELS = {0: "opencv", 1: "ocam", 2: "fisheye"}  # camera_type_int; 2 is adop's addition to ADOP's format


def load_scene(folder: Path, report: Report = print) -> Scene:
    """Load a scene folder.

    A point cloud that has not been prepared yet, or whose PLY file has changed since, is prepared now, and the result is
    stored beside it.

    Args: report: called with a sentence for each change.
    Raises: UserError naming the file and line, what is wrong, and what to do.
    """
    folder = Path(folder)
    if not folder.exists():
        raise UserError(
            f"{folder}: there is no such folder; 'adop capture PHOTOS --output SCENE' makes a scene."
        )
    if not (folder / "dataset.ini").is_file():
        raise UserError(f"{folder}: not a scene folder (no dataset.ini); {_how_to_make(folder)}.")
    ini = _Ini(folder / "dataset.ini", "SceneDatasetParams")
    default_model = FILE_MODELS.get(ini.integer("camera_type_int", 0))
    if default_model is None:
        raise UserError(f"{ini.path}: camera_type_int must be one of {sorted(FILE_MODELS)}.")
    camera_files = ini.text("camera_files", "camera.ini").split()
    if not camera_files:
        raise UserError(f"{ini.path}: camera_files names no file.")
    by_name = {
        name: _load_lens(_inside(folder, name, ini.path), default_model)
        for name in dict.fromkeys(camera_files)
    }
    lenses = tuple(by_name[name] for name in camera_files)
    photos = _load_photos(folder, ini, len(lenses))
    up = np.array(ini.numbers("up_vector", 3, [0.0, 1.0, 0.0]))
    if not 1e-9 < np.linalg.norm(up) < FARTHEST:
        raise UserError(f"{ini.path}: up_vector must not be zero, and not huge.")
    znear, zfar = ini.number("znear", 0.1), ini.number("zfar", 1000.0)
    if not 0 < znear < zfar:
        raise UserError(f"{ini.path}: needs 0 < znear < zfar, found {znear:g} and {zfar:g}.")
    views = [(lenses[photo.lens], photo.world_to_camera) for photo in photos]
    ply = _inside(folder, ini.text("file_point_cloud", "point_cloud.ply"), ini.path)
    return Scene(
        name=folder.resolve().name,
        folder=folder,
        lenses=lenses,
        photos=photos,
        points=_load_points(ply, views, report),
        up_vector=up / np.linalg.norm(up),
        scene_exposure=_scene_exposure(ini),
        znear=znear,
        zfar=zfar,
        world_offset=np.array(ini.numbers("world_offset", 3, [0.0, 0.0, 0.0])),
    )


def _scene_exposure(ini: _Ini) -> float:
    exposure = ini.number("scene_exposure_value", 0.0)
    if abs(exposure) > MAX_EV:
        raise UserError(f"{ini.path}: scene_exposure_value must be an EV of at most {MAX_EV:g}.")
    return exposure


def _how_to_make(folder: Path) -> str:
    """Return what makes a scene of what the folder holds."""
    if (folder / "transforms.json").is_file():
        return f"make one with 'adop import nerfstudio {folder} --output SCENE'"
    if any((folder / f"cameras.{end}").is_file() for end in ("bin", "txt")):
        return f"make one with 'adop import colmap {folder} --images PHOTOS --output SCENE'"
    return f"make one of photos with 'adop capture {folder} --output SCENE'"


def _inside(folder: Path, name: str, source: Path) -> Path:
    """Return the path of a name that a file gives, inside a folder that it must not leave."""
    if not stays_inside(name):
        raise UserError(f"{source}: {quoted(name)} does not stay inside {folder}; use a path relative to it.")
    return folder / name.replace("\\", "/")


class _Ini:
    """One section of an ini file, whose values are checked when they are asked for."""

    def __init__(self, path: Path, section: str) -> None:
        self.path = path
        parser = configparser.RawConfigParser(
            delimiters=("=",), comment_prefixes=("#", ";"), strict=False, empty_lines_in_values=False
        )
        parser.optionxform = str  # type: ignore[assignment, method-assign]
        try:
            parser.read_string(read_text(path, "an ini file"), source=path.name)
            self.values = dict(parser[section])
        except KeyError as error:
            raise UserError(f"{path}: has no section [{section}].") from error
        except configparser.Error as error:
            raise UserError(f"{path}: is not an ini file ({one_line(error)}).") from error

    def text(self, key: str, default: str) -> str:
        return self.values.get(key, default).strip()

    def numbers(self, key: str, count: int | None, default: list[float] | None) -> list[float]:
        if key not in self.values:
            if default is None:
                raise UserError(f"{self.path}: has no {key!r}.")
            return default
        try:
            values = [float(word) for word in self.values[key].split()]
        except ValueError as error:
            raise UserError(f"{self.path}: {key} holds something that is not a number.") from error
        if count is not None and len(values) != count:
            raise UserError(f"{self.path}: {key} needs {count} numbers, but has {len(values)}.")
        if not all(math.isfinite(value) for value in values):
            raise UserError(f"{self.path}: {key} holds a value that is not finite.")
        return values

    def number(self, key: str, default: float | None) -> float:
        return self.numbers(key, 1, None if default is None else [default])[0]

    def integer(self, key: str, default: int | None) -> int:
        value = self.number(key, default)
        if value != int(value):
            raise UserError(f"{self.path}: {key} must be a whole number, found {value:g}.")
        return int(value)


def _load_lens(path: Path, default_model: str) -> Lens:
    ini = _Ini(path, "SceneCameraParams")
    model = ini.text("model", default_model)
    width, height = ini.integer("w", None), ini.integer("h", None)
    poly_cam2world = None
    if model == "ocam":
        c, d, e, row, column = ini.numbers("op", 5, None)
        polynomial = ini.numbers("poly_world2cam", None, None)
        if not 0 < len(polynomial) <= 16:
            raise UserError(f"{path}: poly_world2cam needs 1 to 16 numbers, but has {len(polynomial)}.")
        cutoff = ini.number("ocam_cutoff", 1.0)
        distortion = [c, d, e, cutoff, *polynomial, *[0.0] * (16 - len(polynomial))]
        # Pixels per radian on the optical axis.
        slope = abs(np.polynomial.Polynomial(polynomial).deriv()(-math.pi / 2)) or 1.0
        intrinsics = [slope, slope, column + 0.5, row + 0.5]
        poly_cam2world = np.array(ini.numbers("poly_cam2world", None, []))
    else:
        fx, fy, cx, cy, skew = ini.numbers("K", 5, None)
        if skew != 0:
            raise UserError(f"{path}: K has the skew {skew:g}, but only skew 0 is supported.")
        k1, k2, k3, k4, k5, k6, p1, p2 = ini.numbers("distortion", 8, [0.0] * 8)
        distortion = [k1, k2, k3, k4] if model == "fisheye" else [k1, k2, p1, p2, k3, k4, k5, k6]
        intrinsics = [fx, fy, cx + 0.5, cy + 0.5]
    try:
        return Lens(model, width, height, np.array(intrinsics), np.array(distortion), poly_cam2world)
    except ValueError as error:
        raise UserError(f"{path}: {error}.") from error


def _read_lines(path: Path, errors: str = "strict") -> list[str]:
    lines = [line.strip() for line in read_text(path, errors=errors).split("\n")]
    while lines and not lines[-1]:
        lines.pop()
    return lines


def _read_table(path: Path, columns: int, names: list[str]) -> list[list[float]] | None:
    """Return the numbers of a file with a line for each photo, or None where there is no such file."""
    if not os.path.lexists(path):
        return None
    lines = _read_lines(path)
    _check_length(path, len(lines), len(names))
    table = []
    for number, line in enumerate(lines, 1):
        try:
            table.append([float(word) for word in line.split()])
        except ValueError as error:
            raise UserError(
                f"{path}: line {number} ({names[number - 1]}) holds something that is not a number."
            ) from error
        if len(table[-1]) != columns:
            raise UserError(
                f"{path}: line {number} ({names[number - 1]}) needs {columns} numbers, but has {len(table[-1])}."
            )
    return table


def _check_length(path: Path, count: int, photos: int) -> None:
    if count != photos:
        raise UserError(
            f"{path}: has {count} lines, but images.txt has {photos}; there must be one for each photo."
        )


def _load_photos(folder: Path, ini: _Ini, lens_count: int) -> tuple[Photo, ...]:
    names, files = _photo_files(folder, ini)
    poses = _read_table(folder / "poses.txt", 7, names)
    if poses is None:
        raise UserError(f"{folder / 'poses.txt'}: not found; a scene needs a pose for each photo.")
    lenses = _read_table(folder / "camera_indices.txt", 1, names) or [[0.0]] * len(names)
    exposures = _read_table(folder / "exposure.txt", 1, names)
    balances = _read_table(folder / "white_balance.txt", 3, names)
    masks = _load_masks(folder, ini, names)
    split = _load_split(folder / SPLIT_FILE, names)
    where = folder / "camera_indices.txt"
    photos = []
    for i, name in enumerate(names):
        index = lenses[i][0]
        if not (0 <= index < lens_count and index == int(index)):
            raise UserError(f"{where}: line {i + 1} ({name}): there is no camera {index:g}.")
        pose = _world_to_camera(poses[i], f"{folder / 'poses.txt'}: line {i + 1} ({name})")
        exposure = exposures[i][0] if exposures and not math.isnan(exposures[i][0]) else None
        if exposure is not None and abs(exposure) > MAX_EV:
            raise UserError(
                f"{folder / 'exposure.txt'}: line {i + 1} ({name}) must be an EV of at most {MAX_EV:g}, or nan."
            )
        balance = _white_balance(folder / "white_balance.txt", i, name, balances[i]) if balances else None
        photos.append(Photo(files[i], int(index), pose, exposure, balance, masks[i], name, split[i]))
    return tuple(photos)


def _photo_files(folder: Path, ini: _Ini) -> tuple[list[str], list[Path]]:
    """Return the name and the file of each photo."""
    lines = _read_lines(folder / "images.txt", NAME_ERRORS)
    if not lines:
        raise UserError(f"{folder / 'images.txt'}: lists no photos.")
    twice = first_twice(lines)
    if twice is not None:
        raise UserError(f"{folder / 'images.txt'}: {quoted(twice)} is listed twice.")
    images = _directory(folder, ini.text("image_dir", "color/"))
    files = [_inside(images, line, folder / "images.txt") for line in lines]
    missing = [file for file in files if not os.path.isfile(file)]
    if missing:
        raise UserError(f"{missing[0]}: photo not found ({len(missing)} of {len(files)} are missing).")
    return usable_names([line.replace("\\", "/") for line in lines]), files


def _load_split(path: Path, names: list[str]) -> list[bool | None]:
    """Return whether each photo is held out, or None for all where the scene has no split."""
    if not os.path.lexists(path):
        return [None] * len(names)
    lines = _read_lines(path)
    _check_length(path, len(lines), len(names))
    for number, line in enumerate(lines, 1):
        if line not in SPLIT_WORDS:
            raise UserError(
                f"{path}: line {number} ({names[number - 1]}) must be train or test, not {quoted(line)}."
            )
    return [SPLIT_WORDS[line] for line in lines]


def _world_to_camera(row: list[float], where: str) -> np.ndarray:
    """Return world_to_camera [4,4] of a line of poses.txt: camera to world, quaternion x y z w, then translation."""
    if not (np.abs(row) < FARTHEST).all():
        raise UserError(f"{where}: the pose is not finite, or is huge.")
    x, y, z, w, *translation = row
    return invert_rigid(rigid(rotation_from_quaternion((w, x, y, z), where), np.array(translation)))


def _white_balance(path: Path, index: int, name: str, values: list[float]) -> np.ndarray:
    balance = np.array(values)
    if not (np.isfinite(balance).all() and (balance > 0).all() and balance[1] == 1):
        raise UserError(f"{path}: line {index + 1} ({name}) must be three positive numbers with green = 1.")
    return balance


def _load_masks(folder: Path, ini: _Ini, names: list[str]) -> list[Path | None]:
    path = folder / "masks.txt"
    if not os.path.lexists(path):
        return [None] * len(names)
    lines = _read_lines(path, NAME_ERRORS)
    _check_length(path, len(lines), len(names))
    directory = _directory(folder, ini.text("mask_dir", "masks/"))
    masks = [None if line in ("", "-") else _inside(directory, line, path) for line in lines]
    missing = [mask for mask in masks if mask and not os.path.isfile(mask)]
    if missing:
        raise UserError(f"{missing[0]}: mask not found ({len(missing)} are missing); see masks.txt.")
    return masks


def _directory(folder: Path, name: str) -> Path:
    """Return a folder that is absolute, relative to the scene or, as in ADOP, relative to the working directory."""
    for candidate in (folder / name, Path(name)):
        if os.path.isdir(candidate):
            return candidate
    raise UserError(
        f"{folder / 'dataset.ini'}: no folder {quoted(name)}, neither in the scene nor in the working directory."
    )


def _load_points(ply: Path, views: list[PosedLens], report: Report) -> PointCloud:
    if not os.path.isfile(ply):
        raise UserError(f"{ply}: point cloud not found.")
    prepared = ply.with_name(PREPARED_FILE)
    cloud = load_prepared(prepared, ply)
    if cloud is None:
        report(f"{ply}: preparing the points; the result is stored for the next time.")
        cloud = prepare(read_ply(ply), views, report=report)
        try:
            save_prepared(cloud, prepared, ply)
        except OSError as error:
            reason = error.strerror or error
            report(f"{prepared}: cannot be written ({reason}); the points will be prepared each time.")
    return cloud
