"""Camera paths: the cameras of a moving view, and a smooth path through the captured cameras."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.interpolate import CubicSpline
from scipy.spatial.transform import Rotation, RotationSpline

from adop.geometry.camera import Camera
from adop.geometry.lens import Lens
from adop.render.camera_settings import CameraSettings
from adop.scene.scene import Scene

MAX_KEY_CAMERAS = 24  # captured cameras that a smooth path passes through


@dataclass(frozen=True)
class Frame:
    """One camera of a path: a pinhole with square pixels and its principal point in the image centre."""

    world_to_camera: np.ndarray  # [4, 4] float64, OpenCV axes
    focal: float  # focal length in image heights
    exposure: float = 0.0  # EV, added to the exposure of the path's settings


@dataclass(frozen=True)
class CameraPath:
    """Frames to render, their size and their rate."""

    frames: list[Frame]
    width: int  # px
    height: int  # px
    rate: float  # frames per second

    def cameras(
        self, settings: CameraSettings, device: torch.device
    ) -> Iterator[tuple[Camera, CameraSettings]]:
        """Yield each frame's camera (B = 1) and its settings: the frame's exposure is added to that of `settings`."""
        for frame in self.frames:
            camera = pinhole(frame, self.width, self.height, device)
            yield camera, replace(settings, exposure=settings.exposure + frame.exposure)


def pinhole(frame: Frame, width: int, height: int, device: torch.device) -> Camera:
    """Return the camera (B = 1) of a frame, of `width` x `height` pixels."""
    focal = frame.focal * height
    return Camera(
        model="opencv",
        width=width,
        height=height,
        intrinsics=torch.tensor([[focal, focal, width / 2, height / 2]], dtype=torch.float32, device=device),
        distortion=torch.zeros(1, 8, device=device),
        world_to_camera=torch.from_numpy(frame.world_to_camera).float()[None].to(device),
    )


def smooth_path(world_to_camera: np.ndarray, focal: np.ndarray, frames: int) -> list[Frame]:
    """Return `frames` frames of a path through the given cameras, in their order and at constant speed.

    Args:
        world_to_camera: [K, 4, 4] float64, K >= 2.
        focal: [K] focal lengths in image heights.

    Positions follow a cubic spline and rotations SciPy's rotation spline, both parametrised by the distance travelled.
    """
    camera_to_world = np.linalg.inv(world_to_camera)
    centres = camera_to_world[:, :3, 3]
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    # Cameras at the same position still need time to turn.
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


def evenly_spaced(total: int, count: int) -> np.ndarray:
    """Return at most `count` evenly spaced indices below `total`, the first and the last included."""
    return np.unique(np.linspace(0, total - 1, min(count, total)).round().astype(int))


def photos_path(
    scene: Scene, seconds: float, rate: float, width: int | None, photos: list[int] | None = None
) -> CameraPath:
    """Return a smooth path through captured cameras, in their order, with the photos' aspect and field of view.

    Args:
        width: of the frames in pixels; None: that of the first photo.
        photos: the photos whose cameras it passes through, at least two; None: all, or `MAX_KEY_CAMERAS` of them.
    """
    keys = evenly_spaced(len(scene.photos), MAX_KEY_CAMERAS).tolist() if photos is None else photos
    poses = np.stack([scene.photos[i].world_to_camera for i in keys])
    lenses = [scene.lenses[scene.photos[i].lens] for i in keys]
    frames = smooth_path(poses, np.array([focal_of(lens) for lens in lenses]), frame_count(seconds, rate))
    return sized_path(frames, lenses[0], rate, width)


def focal_of(lens: Lens) -> float:
    """Return a lens's focal length in image heights."""
    return float(lens.intrinsics[1] / lens.height)


def frame_count(seconds: float, rate: float) -> int:
    """Return how many frames a path of `seconds` has; a path has at least two."""
    return max(2, round(seconds * rate))


def sized_path(frames: list[Frame], lens: Lens, rate: float, width: int | None) -> CameraPath:
    """Return a path whose frames have the proportions of a lens's photos.

    Args: width: in pixels; None: that of the photos. Width and height are rounded to even numbers.
    """
    width = width or lens.width
    height = round(width * lens.height / lens.width)
    return CameraPath(frames, width - width % 2, max(2, height - height % 2), rate)
