"""Camera paths that a person lays: key frames in time, smooth between them, as nerfstudio's camera path JSON."""

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
from adop.files import write_atomically
from adop.render.paths import Frame, path_json, read_cameras

MAX_KEYS = 500
MAX_SECONDS = 3600.0
MAX_FRAMES = 50_000


@dataclass(frozen=True)
class KeyFrame:
    """A camera that a path passes at a time."""

    time: float  # seconds from the start of the path
    frame: Frame


@dataclass(frozen=True)
class KeyPath:
    """Key frames in the order of time, and how the path is rendered."""

    keys: tuple[KeyFrame, ...]
    width: int = 960  # px
    height: int = 540  # px
    rate: float = 24.0  # frames per second

    def __post_init__(self) -> None:
        """Put the keys in order. Raises: UserError for what no path can have."""
        keys = tuple(sorted(self.keys, key=lambda key: key.time))
        object.__setattr__(self, "keys", keys)
        times = np.array([key.time for key in keys])
        if len(keys) > MAX_KEYS:
            raise UserError(f"a path has at most {MAX_KEYS} key frames, not {len(keys)}")
        if len(keys) and not (np.isfinite(times).all() and times.min() >= 0 and times.max() <= MAX_SECONDS):
            raise UserError(f"key frames lie between 0 and {MAX_SECONDS:.0f} seconds")
        if (np.diff(times) < 1e-3).any():
            raise UserError("two key frames are at the same time; move one of them")
        if not (16 <= self.width <= 8192 and 16 <= self.height <= 8192):
            raise UserError(f"{self.width}x{self.height}: a path's pictures have 16 to 8192 pixels a side")
        if not 1 <= self.rate <= 240:
            raise UserError(f"{self.rate} frames per second: a path has 1 to 240")
        if self.seconds * self.rate > MAX_FRAMES:
            raise UserError(
                f"the path has {self.seconds * self.rate:,.0f} frames; at most {MAX_FRAMES:,} are rendered"
            )

    @property
    def seconds(self) -> float:
        """From the first key frame to the last."""
        return self.keys[-1].time - self.keys[0].time if self.keys else 0.0

    def frames(self) -> list[Frame]:
        """Return the path's frames, the first and last key among them."""
        count = max(1, round(self.seconds * self.rate)) + (1 if self.seconds > 0 else 0)
        start = self.keys[0].time if self.keys else 0.0
        return interpolate(self.keys, start + np.linspace(0.0, self.seconds, count))


def interpolate(keys: tuple[KeyFrame, ...], times: np.ndarray) -> list[Frame]:
    """Return the frames at `times` (seconds) of a path through `keys` (in order; at least one).

    Positions follow a natural cubic spline, rotations SciPy's rotation spline (its angular velocity is continuous);
    the logarithm of the focal length and the exposure are monotone between keys, so that neither overshoots.
    """
    if not keys:
        raise UserError("the path has no key frame yet")
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
    """Return the path as nerfstudio's camera path JSON holds it: every frame, and the key frames beside them.

    `exposure` (EV) and `time` (seconds) of a camera are additions, which nerfstudio ignores.
    """
    size = (path.width, path.height)
    content = path_json(path.frames(), size, path.rate)
    keys = path_json([key.frame for key in path.keys], size, path.rate)["camera_path"]
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
        for camera, key in zip(keys, path.keys, strict=True)
    ]
    return content | {"seconds": path.seconds, "is_cycle": False, "smoothness_value": 0.5}


def save_key_path(file: Path, path: KeyPath) -> None:
    """Write a path as nerfstudio's camera path JSON."""
    text = json.dumps(key_path_json(path), indent=1) + "\n"
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, lambda temporary: temporary.write_text(text))


def load_key_path(file: Path) -> KeyPath:
    """Read a path of key frames, as adop or nerfstudio writes it.

    Keys without a `time` (nerfstudio's) are spread evenly over the file's `seconds`; a file without `keyframes`
    gets up to 24 of its frames as keys. Raises: UserError naming the file and what is wrong with it.
    """
    content, frames, size, rate = read_cameras(file)
    rate = rate or 24.0
    size = size or (960, 540)
    given = content.get("keyframes")
    if isinstance(given, list) and given:
        cameras = [key | {"camera_to_world": key.get("matrix")} for key in given if isinstance(key, dict)]
        readable = [_key_matrix(camera, file) for camera in cameras]
        _, frames, _, _ = read_cameras(file, {"camera_path": readable})
        times = [camera.get("time") for camera in cameras]
        seconds = content.get("seconds")
    else:
        chosen = np.unique(np.linspace(0, len(frames) - 1, min(24, len(frames))).round().astype(int))
        times = [float(i) / rate for i in chosen]
        frames, seconds = [frames[i] for i in chosen], None
    known = [float(time) for time in times if isinstance(time, int | float)]
    if len(known) < len(frames):
        length = (
            seconds if isinstance(seconds, int | float) and 0 < seconds <= MAX_SECONDS else 2.0 * len(frames)
        )
        known = list(np.linspace(0, length, len(frames))) if len(frames) > 1 else [0.0]
    keys = tuple(KeyFrame(time, frame) for time, frame in zip(known, frames, strict=True))
    return KeyPath(keys, size[0], size[1], rate)


def _key_matrix(camera: dict[str, Any], file: Path) -> dict[str, Any]:
    """Nerfstudio writes `matrix` by rows as a list, older versions as a JSON text by columns."""
    matrix = camera["camera_to_world"]
    if isinstance(matrix, str):
        try:
            matrix = np.array(json.loads(matrix), dtype=np.float64).reshape(4, 4).T.flatten().tolist()
        except (TypeError, ValueError):
            raise UserError(f"{file}: the `matrix` of a key frame is not 16 numbers") from None
    fov = camera.get("fov")
    if not isinstance(fov, int | float) or not math.isfinite(fov):
        raise UserError(f"{file}: a key frame has no `fov` in degrees")
    return camera | {"camera_to_world": matrix}
