"""Camera paths that a person edits: key frames in time, interpolated smoothly."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator
from scipy.spatial.transform import Rotation, RotationSpline

from adop.errors import UserError
from adop.files import read_json, write_text
from adop.render.camera_path import CameraPath, Frame, evenly_spaced
from adop.render.nerfstudio_path import (
    DEFAULT_RATE,
    DEFAULT_SIZE,
    parse_frame,
    parse_path,
    path_json,
)

MAX_KEYS = 500
MAX_SECONDS = 3600.0
MAX_FRAMES = 50_000
IMPORTED_KEYS = 24  # key frames made from a file that has frames only
SECONDS_PER_KEY = 2.0  # between key frames of a file that does not say how long its path is


@dataclass(frozen=True)
class KeyFrame:
    """A camera that a path passes through at a given time."""

    time: float  # seconds from the start of the path
    frame: Frame


@dataclass(frozen=True)
class KeyPath:
    """Key frames in order of time, and the size and rate at which the path is rendered."""

    keys: tuple[KeyFrame, ...]
    width: int = 960  # px
    height: int = 540  # px
    rate: float = 24.0  # frames per second

    def __post_init__(self) -> None:
        """Sort the keys. Raises: UserError for keys, sizes or rates that no path can have."""
        keys = tuple(sorted(self.keys, key=lambda key: key.time))
        object.__setattr__(self, "keys", keys)
        times = np.array([key.time for key in keys])
        if len(keys) > MAX_KEYS:
            raise UserError(f"a path has at most {MAX_KEYS} key frames, not {len(keys)}")
        if len(keys) and not (np.isfinite(times).all() and times.min() >= 0 and times.max() <= MAX_SECONDS):
            raise UserError(f"the time of a key frame must be between 0 and {MAX_SECONDS:.0f} seconds")
        if (np.diff(times) < 1e-3).any():
            raise UserError("two key frames are at the same time; move one of them")
        if not (16 <= self.width <= 8192 and 16 <= self.height <= 8192):
            raise UserError(
                f"{self.width}x{self.height}: the frames of a path must have 16 to 8192 pixels a side"
            )
        if not 1 <= self.rate <= 240:
            raise UserError(f"a path has 1 to 240 frames per second, not {self.rate}")
        if self.seconds * self.rate > MAX_FRAMES:
            raise UserError(
                f"the path has {self.seconds * self.rate:,.0f} frames; the limit is {MAX_FRAMES:,}"
            )

    @property
    def seconds(self) -> float:
        """The time from the first key frame to the last."""
        return self.keys[-1].time - self.keys[0].time if self.keys else 0.0

    def sampled(self) -> CameraPath:
        """Return the path sampled at its rate, first and last key frame included. Raises: UserError without keys."""
        count = max(1, round(self.seconds * self.rate)) + (1 if self.seconds > 0 else 0)
        start = self.keys[0].time if self.keys else 0.0
        frames = interpolate(self.keys, start + np.linspace(0.0, self.seconds, count))
        return CameraPath(frames, self.width, self.height, self.rate)


def interpolate(keys: tuple[KeyFrame, ...], times: np.ndarray) -> list[Frame]:
    """Return the frames at `times` (seconds) of a path through `keys`, which are in order of time.

    Positions follow a natural cubic spline and rotations SciPy's rotation spline, whose angular velocity is
    continuous. The logarithm of the focal length and the exposure are monotone between keys, so neither overshoots.

    Raises: UserError where there are no keys.
    """
    if not keys:
        raise UserError("the path has no key frames yet")
    at = np.clip(times, keys[0].time, keys[-1].time)
    if len(keys) == 1:
        return [keys[0].frame] * len(at)
    knots = np.array([key.time for key in keys])
    poses = np.linalg.inv(np.stack([key.frame.world_to_camera for key in keys]))
    centres = CubicSpline(knots, poses[:, :3, 3], bc_type="natural")(at)
    rotations = RotationSpline(knots, Rotation.from_matrix(poses[:, :3, :3]))(at).as_matrix()
    focal = np.exp(PchipInterpolator(knots, np.log([key.frame.focal for key in keys]))(at))
    exposure = PchipInterpolator(knots, [key.frame.exposure for key in keys])(at)
    frames = []
    for rotation, centre, f, ev in zip(rotations, centres, focal, exposure, strict=True):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ centre
        frames.append(Frame(pose, float(f), float(ev)))
    return frames


def key_path_json(path: KeyPath) -> dict[str, Any]:
    """Return a path as nerfstudio's camera path JSON: every sampled frame, and the key frames.

    We add each camera's `exposure` (EV) and each key frame's `time` (seconds), which nerfstudio ignores.
    """
    content = path_json(path.sampled())
    key_cameras = CameraPath([key.frame for key in path.keys], path.width, path.height, path.rate)
    content["keyframes"] = [
        {
            "matrix": camera["camera_to_world"],
            "fov": camera["fov"],
            "aspect": camera["aspect"],
            "exposure": camera["exposure"],
            "time": key.time,
            "override_transition_enabled": False,
            "override_transition_sec": None,
        }
        for camera, key in zip(path_json(key_cameras)["camera_path"], path.keys, strict=True)
    ]
    return content | {"seconds": path.seconds, "is_cycle": False, "smoothness_value": 0.5}


def save_key_path(file: Path, path: KeyPath) -> None:
    """Write a path as nerfstudio's camera path JSON."""
    text = json.dumps(key_path_json(path), indent=1) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_text(file, text)


def load_key_path(file: Path) -> KeyPath:
    """Read a path of key frames that adop or nerfstudio has written.

    Key frames without a `time`, as nerfstudio writes them, are spread evenly over the file's `seconds`. In a file
    without `keyframes`, up to `IMPORTED_KEYS` of its frames become key frames.

    Raises: UserError naming the file and what is wrong with it.
    """
    content = read_json(file)
    path = parse_path(content, file)
    rate = path.rate or DEFAULT_RATE
    size = path.size or DEFAULT_SIZE
    saved = content.get("keyframes")
    if isinstance(saved, list) and saved:
        keys = _saved_keys(saved, content.get("seconds"), file)
    else:
        chosen = evenly_spaced(len(path.frames), IMPORTED_KEYS)
        keys = tuple(KeyFrame(float(i) / rate, path.frames[i]) for i in chosen)
    try:
        return KeyPath(keys, size[0], size[1], rate)
    except UserError as error:
        raise UserError(f"{file}: {error}") from None


def _saved_keys(saved: list[Any], seconds: object, file: Path) -> tuple[KeyFrame, ...]:
    """Return the key frames of a file whose path takes `seconds`."""
    if len(saved) > MAX_KEYS or not all(isinstance(key, dict) for key in saved):
        raise UserError(f"{file}: `keyframes` must be a list of at most {MAX_KEYS} key frames")
    frames = [
        parse_frame(_with_matrix(key, file), f"{file}: key frame {i + 1}") for i, key in enumerate(saved)
    ]
    times = [float(key["time"]) for key in saved if isinstance(key.get("time"), int | float)]
    if len(times) < len(frames):
        length = SECONDS_PER_KEY * len(frames)
        if isinstance(seconds, int | float) and 0 < seconds <= MAX_SECONDS:
            length = seconds
        times = list(np.linspace(0, length, len(frames))) if len(frames) > 1 else [0.0]
    return tuple(KeyFrame(time, frame) for time, frame in zip(times, frames, strict=True))


def _with_matrix(key: dict[str, Any], file: Path) -> dict[str, Any]:
    """Return a key frame with its `matrix` as a `camera_to_world` of 16 numbers, row by row.

    nerfstudio writes `matrix` as a list, row by row; its older versions write a JSON text, column by column.
    """
    matrix = key.get("matrix")
    if isinstance(matrix, str):
        try:
            matrix = np.array(json.loads(matrix), dtype=np.float64).reshape(4, 4).T.flatten().tolist()
        except (TypeError, ValueError, OverflowError, RecursionError):
            raise UserError(f"{file}: the `matrix` of a key frame is not 16 numbers") from None
    fov = key.get("fov")
    if not isinstance(fov, int | float) or not math.isfinite(fov):
        raise UserError(f"{file}: a key frame has no `fov` in degrees")
    return key | {"camera_to_world": matrix}
