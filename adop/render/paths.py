"""Camera paths: smooth through the captured cameras, or read from a file."""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from adop.errors import UserError


@dataclass(frozen=True)
class Frame:
    """One camera of a path: a pinhole, square pixels, centre in the middle."""

    world_to_camera: np.ndarray  # [4, 4] float64, OpenCV axes
    focal: float  # in heights of the picture
    exposure: float = 0.0  # EV relative to the look's


def smooth_path(world_to_camera: np.ndarray, focal: np.ndarray, frames: int) -> list[Frame]:
    """Return a path of `frames` cameras through the given ones, in their order, at even speed.

    Args:
        world_to_camera: [K, 4, 4] float64, K >= 2.
        focal: [K] focal lengths in heights of the picture.

    Positions follow a cubic spline, rotations SciPy's rotation spline, both over the way travelled.
    """
    camera_to_world = np.linalg.inv(world_to_camera)
    centres = camera_to_world[:, :3, 3]
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    # Cameras at one place still need time to turn.
    steps = np.maximum(steps, 0.05 * max(float(np.median(steps)), 1e-9))
    times = np.concatenate(([0.0], np.cumsum(steps)))
    at = np.linspace(0, times[-1], frames)
    positions = CubicSpline(times, centres)(at) if len(times) > 2 else _linear(times, centres, at)
    rotations = RotationSpline(times, Rotation.from_matrix(camera_to_world[:, :3, :3]))(at).as_matrix()
    focals = np.interp(at, times, focal)
    path = []
    for rotation, position, value in zip(rotations, positions, focals, strict=True):
        pose = np.eye(4)
        pose[:3, :3], pose[:3, 3] = rotation.T, -rotation.T @ position
        path.append(Frame(pose, float(value)))
    return path


def _linear(times: np.ndarray, values: np.ndarray, at: np.ndarray) -> np.ndarray:
    return np.stack([np.interp(at, times, column) for column in values.T], axis=1)


def thin_out(world_to_camera: np.ndarray, count: int) -> np.ndarray:
    """Return indices of at most `count` cameras, evenly over their order, first and last among them."""
    return np.unique(
        np.linspace(0, len(world_to_camera) - 1, min(count, len(world_to_camera))).round().astype(int)
    )


def load_path(file: Path) -> tuple[list[Frame], tuple[int, int] | None, float | None]:
    """Read a camera path in nerfstudio's JSON form, poses in the scene's own coordinates.

    Returns: the frames, the size (width, height) and the frames per second, where the file names them.
    Raises: UserError naming the file and the camera.
    """
    return read_cameras(file)[1:]


def read_cameras(
    file: Path, content: Any = None
) -> tuple[dict[str, Any], list[Frame], tuple[int, int] | None, float | None]:
    """Read what `load_path` returns, and before it the whole content; `content` stands for the file's, where given."""
    try:
        content = json.loads(file.read_text()) if content is None else content
        cameras = content["camera_path"]
    except OSError as error:
        raise UserError(f"{file}: cannot be read ({error.strerror})") from None
    except (ValueError, KeyError, TypeError, RecursionError):
        raise UserError(f"{file}: expected JSON with a list `camera_path`, as nerfstudio writes it") from None
    if not isinstance(cameras, list) or not cameras:
        raise UserError(f"{file}: `camera_path` holds no camera")
    frames = [_frame(camera, f"{file}: camera {i + 1}") for i, camera in enumerate(cameras)]
    size = None
    if "render_width" in content and "render_height" in content:
        size = (_whole(content["render_width"], file), _whole(content["render_height"], file))
    rate = content.get("fps")
    if rate is not None and not (isinstance(rate, int | float) and 0 < rate <= 1000):
        raise UserError(f"{file}: `fps` should be a number above 0, is {rate!r}")
    return content, frames, size, rate


def _whole(value: object, file: Path) -> int:
    if not isinstance(value, int | float) or not 1 <= value <= 16384:
        raise UserError(f"{file}: render size {value!r} should be between 1 and 16384 pixels")
    return int(value)


def _frame(camera: object, where: str) -> Frame:
    try:
        matrix = np.array(camera["camera_to_world"], dtype=np.float64).reshape(4, 4)  # type: ignore[index]
        fov = float(camera["fov"])  # type: ignore[index]
    except (KeyError, TypeError, ValueError):
        raise UserError(
            f"{where} needs `camera_to_world` (16 numbers, by rows) and `fov` (degrees)"
        ) from None
    rotation = matrix[:3, :3]
    if not np.isfinite(matrix).all() or not np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3):
        raise UserError(f"{where}: `camera_to_world` is not a rigid motion")
    if not 0 < fov < 180:
        raise UserError(f"{where}: `fov` should be between 0 and 180 degrees, is {fov}")
    # OpenGL's camera looks along -z with y up; ours along +z with y down.
    pose = np.linalg.inv(matrix @ np.diag([1.0, -1.0, -1.0, 1.0]))
    exposure = camera.get("exposure", 0.0)  # type: ignore[attr-defined]
    if not isinstance(exposure, int | float) or not -100 <= exposure <= 100:
        raise UserError(f"{where}: `exposure` should be stops, is {exposure!r}")
    return Frame(pose, 0.5 / math.tan(math.radians(fov) / 2), float(exposure))


def save_path(file: Path, frames: list[Frame], size: tuple[int, int], rate: float) -> None:
    """Write a camera path in nerfstudio's JSON form."""
    file.write_text(json.dumps(path_json(frames, size, rate), indent=1) + "\n")


def path_json(frames: list[Frame], size: tuple[int, int], rate: float) -> dict[str, Any]:
    """Return a camera path as nerfstudio's JSON holds it; `exposure` is an addition that nerfstudio ignores."""
    cameras = [
        {
            "camera_to_world": (np.linalg.inv(f.world_to_camera) @ np.diag([1.0, -1.0, -1.0, 1.0]))
            .flatten()
            .tolist(),
            "fov": math.degrees(2 * math.atan(0.5 / f.focal)),
            "aspect": size[0] / size[1],
            "exposure": f.exposure,
        }
        for f in frames
    ]
    return {
        "camera_type": "perspective",
        "render_width": size[0],
        "render_height": size[1],
        "fps": rate,
        "seconds": len(frames) / rate,
        "camera_path": cameras,
    }
