"""Camera motion: pure functions from one view to the next. Drags are in heights of the picture.

Conventions are those of most viewers: orbit about a pivot, wheel towards it, WASD to fly, the scene's up stays up.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import numpy as np

from adop.render.camera_path import Frame
from adop.scene.scene import Scene

LEAST_TILT = math.radians(3)  # between the view and up or down, where orbiting stops
HALF_TURN = math.pi  # of a drag over the picture's height
NEAREST, FARTHEST = 1e-3, 1e3  # distance of the pivot, in scales of the scene
WIDEST, LONGEST = 0.15, 20.0  # focal length in heights


@dataclass(frozen=True, eq=False)
class Eye:
    """A free camera and what it turns about."""

    camera_to_world: np.ndarray  # [4, 4] f64, x right, y down, z forward
    pivot: np.ndarray  # [3] f64, world; orbiting and dollying refer to it
    focal: float  # in heights of the picture
    up: np.ndarray  # [3] f64 unit, world
    scale: float  # of the scene: a flying second's way

    @property
    def position(self) -> np.ndarray:
        """[3], world."""
        return self.camera_to_world[:3, 3]

    @property
    def distance(self) -> float:
        """From the camera to the pivot, scene units."""
        return max(float(np.linalg.norm(self.pivot - self.position)), NEAREST * self.scale)

    def frame(self, exposure: float = 0.0) -> Frame:
        """Return the eye as a frame of a path."""
        return Frame(np.linalg.inv(self.camera_to_world), self.focal, exposure)


def orbit(eye: Eye, right: float, down: float) -> Eye:
    """Turn about the pivot as if a drag took hold of the scene; never over the top."""
    yaw = _turn(eye.up, -HALF_TURN * right)
    axis = yaw @ eye.camera_to_world[:3, 0]
    forward = yaw @ eye.camera_to_world[:3, 2]
    pitch = _turn(axis, _allowed(forward, eye.up, axis, -HALF_TURN * down))
    return _about(eye, pitch @ yaw, eye.pivot)


def turn(eye: Eye, right: float, down: float) -> Eye:
    """CameraSettings about from where the camera stands; the pivot turns with it."""
    yaw = _turn(eye.up, -HALF_TURN / 2 * right)
    axis = yaw @ eye.camera_to_world[:3, 0]
    forward = yaw @ eye.camera_to_world[:3, 2]
    pitch = _turn(axis, _allowed(forward, eye.up, axis, -HALF_TURN / 2 * down))
    rotation = pitch @ yaw
    turned = _about(eye, rotation, eye.position)
    return replace(turned, pivot=eye.position + rotation @ (eye.pivot - eye.position))


def pan(eye: Eye, right: float, down: float) -> Eye:
    """Shift the camera so that what lies at the pivot's depth follows the drag."""
    reach = eye.distance / eye.focal
    shift = eye.camera_to_world[:3, :3] @ np.array([-right * reach, -down * reach, 0.0])
    return _shifted(eye, shift)


def dolly(eye: Eye, amount: float) -> Eye:
    """Go towards the pivot (amount > 0) by a share of the distance, or away from it."""
    distance = float(np.clip(eye.distance * math.exp(-amount), NEAREST * eye.scale, FARTHEST * eye.scale))
    direction = (eye.pivot - eye.position) / eye.distance
    matrix = eye.camera_to_world.copy()
    matrix[:3, 3] = eye.pivot - direction * distance
    return replace(eye, camera_to_world=matrix)


def fly(eye: Eye, right: float, down: float, forward: float) -> Eye:
    """Move along the camera's own axes, in scales of the scene; the pivot comes along."""
    return _shifted(eye, eye.camera_to_world[:3, :3] @ np.array([right, down, forward]) * eye.scale)


def zoom(eye: Eye, focal: float) -> Eye:
    """Change the focal length, in heights of the picture."""
    return replace(eye, focal=float(np.clip(focal, WIDEST, LONGEST)))


def turn_about(eye: Eye, point: np.ndarray) -> Eye:
    """Choose another pivot [3]; the picture stays as it is."""
    return replace(eye, pivot=np.asarray(point, np.float64))


def at_frame(eye: Eye, frame: Frame) -> Eye:
    """Put the eye into a frame of a path, its pivot as far ahead as before."""
    matrix = np.linalg.inv(frame.world_to_camera)
    pivot = matrix[:3, 3] + matrix[:3, 2] * eye.distance
    return replace(eye, camera_to_world=matrix, pivot=pivot, focal=frame.focal)


def at_photo(scene: Scene, photo: int, eye: Eye | None = None) -> Eye:
    """Stand where a photo was taken, turning about what its middle shows."""
    matrix = np.linalg.inv(np.asarray(scene.photos[photo].world_to_camera, np.float64))
    lens = scene.lenses[scene.photos[photo].lens]
    depth = _depth_ahead(scene, photo)
    up = scene_up(scene) if eye is None else eye.up
    scale = depth if eye is None else eye.scale
    pivot = matrix[:3, 3] + matrix[:3, 2] * depth
    return Eye(matrix, pivot, float(lens.intrinsics[1] / lens.height), up, scale)


def start(scene: Scene) -> Eye:
    """Return the first view of a scene: the photo that sees most of the middle of what the photos see."""
    centres = np.stack([np.linalg.inv(photo.world_to_camera)[:3, 3] for photo in scene.photos])
    middle = np.median(scene.points.xyz[:: max(1, len(scene.points.xyz) // 20000)], axis=0)
    best, least = 0, math.inf
    for index, photo in enumerate(scene.photos):
        local = photo.world_to_camera[:3, :3] @ middle + photo.world_to_camera[:3, 3]
        off = math.hypot(local[0], local[1]) / max(local[2], 1e-9) if local[2] > 0 else math.inf
        if off < least:
            best, least = index, off
    eye = at_photo(scene, best)
    spread = float(np.median(np.linalg.norm(centres - np.median(centres, axis=0), axis=1)))
    return replace(eye, scale=max(spread, 0.1 * eye.distance, 1e-6))


def scene_up(scene: Scene) -> np.ndarray:
    """Return the scene's up [3] unit; where the photos all say otherwise, theirs."""
    own = np.asarray(scene.up_vector, np.float64)
    own = own / max(float(np.linalg.norm(own)), 1e-12)
    ups = -np.stack([photo.world_to_camera[1, :3] for photo in scene.photos])
    mean = ups.mean(0)
    # A flight that looks straight down says nothing of up: its cameras' ups cancel out.
    if np.linalg.norm(mean) > 0.5 and own @ mean / np.linalg.norm(mean) < math.cos(math.radians(60)):
        return mean / np.linalg.norm(mean)
    return own


def _depth_ahead(scene: Scene, photo: int) -> float:
    """Return how far away the things are that the middle ninth of a photo shows.

    Of the depths of all points there, a low quantile: what lies behind the front is not seen.
    """
    lens, pose = scene.lenses[scene.photos[photo].lens], scene.photos[photo].world_to_camera
    xyz = scene.points.xyz[:: max(1, len(scene.points.xyz) // 50000)]
    local = xyz @ pose[:3, :3].T + pose[:3, 3]
    ahead = local[:, 2] > 1e-9
    reach = np.array([lens.width, lens.height]) / 6 / lens.intrinsics[:2]
    inside = ahead & (np.abs(local[:, :2]) < reach * np.maximum(local[:, 2:], 1e-9)).all(1)
    chosen = inside if inside.sum() >= 10 else ahead
    if not chosen.any():
        return 1.0
    depth = np.sort(local[chosen, 2])
    share = np.cumsum(1 / depth**2)  # far points crowd in a picture
    return float(depth[np.searchsorted(share, 0.3 * share[-1])])


def _turn(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return the rotation [3, 3] about an axis (Rodrigues)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _allowed(forward: np.ndarray, up: np.ndarray, axis: np.ndarray, angle: float) -> float:
    """Return as much of a pitch about the camera's right axis as keeps the view off the poles."""
    tilt = math.acos(float(np.clip(forward @ up, -1, 1)))
    # Turning about the right axis (x right, y down) by a positive angle tips the view towards up.
    sense = 1.0 if np.cross(axis, forward) @ up >= 0 else -1.0
    wanted = tilt - sense * angle
    kept = min(max(wanted, min(LEAST_TILT, tilt)), max(math.pi - LEAST_TILT, tilt))
    return sense * (tilt - kept)


def _about(eye: Eye, rotation: np.ndarray, centre: np.ndarray) -> Eye:
    matrix = np.eye(4)
    left, _, right = np.linalg.svd(rotation @ eye.camera_to_world[:3, :3])
    matrix[:3, :3] = left @ right  # rounding must not add up over thousands of drags
    matrix[:3, 3] = centre + rotation @ (eye.position - centre)
    return replace(eye, camera_to_world=matrix)


def _shifted(eye: Eye, shift: np.ndarray) -> Eye:
    matrix = eye.camera_to_world.copy()
    matrix[:3, 3] += shift
    return replace(eye, camera_to_world=matrix, pivot=eye.pivot + shift)
