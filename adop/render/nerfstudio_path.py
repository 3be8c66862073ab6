"""Camera paths on disk, as nerfstudio's camera path JSON."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from adop.errors import UserError, quoted
from adop.files import read_json
from adop.render.camera_path import CameraPath, Frame

FARTHEST = 1e18  # scene units; squares of larger numbers do not fit into float32
MAX_SIDE = 16384  # px
DEFAULT_SIZE = (960, 540)  # px, of a file that names no size
PERSPECTIVE = "perspective"  # the camera type that is read and written
DEFAULT_RATE = 24.0  # frames per second, of a file that names no rate
# nerfstudio's cameras look along -z with y up (OpenGL); ours look along +z with y down.
FLIP_YZ = np.diag([1.0, -1.0, -1.0, 1.0])


@dataclass(frozen=True)
class PathFile:
    """What a camera path file contains, poses in the coordinates of the scene."""

    frames: list[Frame]
    size: tuple[int, int] | None  # width and height in pixels; None: not in the file
    rate: float | None  # frames per second; None: not in the file


def load_path(file: Path) -> PathFile:
    """Read a camera path file. Raises: UserError naming the file and the camera."""
    return parse_path(read_json(file), file)


def file_path(file: Path, width: int | None, rate: float | None) -> CameraPath:
    """Return the path in a camera path file, ready to render.

    Args: width, rate: replace the file's width and frames per second.
    """
    loaded = load_path(file)
    size = loaded.size or DEFAULT_SIZE
    if width is not None:
        size = (width, max(1, round(width * size[1] / size[0])))
        if size[1] > MAX_SIDE:
            raise UserError(
                f"{file}: at a width of {width} its frames are {size[1]} pixels high; ask for less"
            )
    return CameraPath(loaded.frames, size[0], size[1], rate or loaded.rate or DEFAULT_RATE)


def parse_path(content: Any, file: Path) -> PathFile:
    """Return the path in the parsed content of a file. Raises: UserError naming the file and the camera."""
    if not isinstance(content, dict) or "camera_path" not in content:
        raise UserError(f"{file}: expected JSON with a list `camera_path`, as nerfstudio writes it")
    cameras = content["camera_path"]
    if not isinstance(cameras, list) or not cameras:
        raise UserError(f"{file}: `camera_path` contains no camera")
    frames = [parse_frame(camera, f"{file}: camera {i + 1}") for i, camera in enumerate(cameras)]
    kind = content.get("camera_type", PERSPECTIVE)
    if kind != PERSPECTIVE:
        raise UserError(
            f"{file}: `camera_type` is {quoted(kind)}, but only {PERSPECTIVE!r} is rendered from a file; change it there"
        )
    size, sides = None, [name for name in ("render_width", "render_height") if name in content]
    if len(sides) == 1:
        raise UserError(
            f"{file}: has `{sides[0]}` alone; name both, or none for {DEFAULT_SIZE[0]}x{DEFAULT_SIZE[1]}"
        )
    if sides:
        size = (_side(content["render_width"], file), _side(content["render_height"], file))
    rate = content.get("fps")
    if rate is not None and not (isinstance(rate, int | float) and 0 < rate <= 1000):
        raise UserError(f"{file}: `fps` must be a number above 0 and at most 1000, not {quoted(rate)}")
    return PathFile(frames, size, rate)


def _side(value: object, file: Path) -> int:
    if not isinstance(value, int | float) or not 1 <= value <= MAX_SIDE:
        raise UserError(
            f"{file}: the render size must be between 1 and {MAX_SIDE} pixels, not {quoted(value)}"
        )
    return int(value)


def parse_frame(camera: Any, where: str) -> Frame:
    """Return the frame of one camera of a file. Raises: UserError beginning with `where`."""
    try:
        matrix = np.array(camera["camera_to_world"], dtype=np.float64).reshape(4, 4)
        fov = float(camera["fov"])
    except (KeyError, TypeError, ValueError, OverflowError):
        raise UserError(
            f"{where} needs `camera_to_world` (16 numbers, row by row) and `fov` (degrees)"
        ) from None
    if not _is_rigid(matrix):
        raise UserError(f"{where}: `camera_to_world` is not a rigid motion")
    if not 1e-3 <= fov < 180:
        raise UserError(f"{where}: `fov` must be between 0.001 and 180 degrees, not {fov:g}")
    world_to_camera = np.linalg.inv(matrix @ FLIP_YZ)
    exposure = camera.get("exposure", 0.0)
    if not isinstance(exposure, int | float) or not -100 <= exposure <= 100:
        raise UserError(f"{where}: `exposure` must be a number of stops, not {quoted(exposure)}")
    return Frame(world_to_camera, 0.5 / math.tan(math.radians(fov) / 2), float(exposure))


def _is_rigid(matrix: np.ndarray) -> bool:
    """Return whether a matrix [4, 4] is a rotation and a translation to no place beyond all measure."""
    if not (np.abs(matrix) < FARTHEST).all():
        return False
    rotation = matrix[:3, :3]
    orthogonal = np.allclose(rotation @ rotation.T, np.eye(3), atol=1e-3)
    return bool(orthogonal and np.linalg.det(rotation) > 0 and np.allclose(matrix[3], (0, 0, 0, 1)))


def path_json(path: CameraPath) -> dict[str, Any]:
    """Return a path as nerfstudio's camera path JSON. We add each camera's `exposure`, which nerfstudio ignores."""
    cameras = [
        {
            "camera_to_world": (np.linalg.inv(frame.world_to_camera) @ FLIP_YZ).flatten().tolist(),
            "fov": math.degrees(2 * math.atan(0.5 / frame.focal)),
            "aspect": path.width / path.height,
            "exposure": frame.exposure,
        }
        for frame in path.frames
    ]
    return {
        "camera_type": PERSPECTIVE,
        "render_width": path.width,
        "render_height": path.height,
        "fps": path.rate,
        "seconds": len(path.frames) / path.rate,
        "camera_path": cameras,
    }
