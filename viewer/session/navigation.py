"""Camera navigation: pure functions from one viewpoint to the next. Drags are measured in image heights.

Dragging orbits about a pivot, the wheel moves towards it, WASD flies; the scene's up direction always stays up.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from adop.render.camera_path import Frame
from adop.render.scene_paths import photo_depth, scene_centre, scene_up
from adop.scene.scene import Scene
from adop.viewer.drawing.captured_region import CapturedRegion

MIN_TILT = math.radians(3)  # smallest angle that orbiting leaves between the view and up or down
RADIANS_PER_HEIGHT = math.pi  # orbit angle of a drag over the image's height
MIN_DISTANCE, MAX_DISTANCE = 1e-3, 1e3  # of the pivot, in units of the scene's scale
MIN_FOCAL, MAX_FOCAL = 0.15, 20.0  # focal length in image heights
STOP_COST = (
    0.2  # of a stop by which a photo is brighter or darker than most: as much as this tangent off its centre
)
SLOW_DISTANCE = (
    1.5  # from the captured region, in its sizes, at which motions away from it have become slowest
)
SLOWEST = 0.05  # share of a motion that is left there
SLOW_STEPS = 8  # of such a motion, each as slow as where it begins


@dataclass(frozen=True, eq=False)
class Viewpoint:
    """A freely moving camera and the pivot that it orbits."""

    camera_to_world: np.ndarray  # [4, 4] f64, x right, y down, z forward
    pivot: np.ndarray  # [3] f64, world; the centre of orbiting and the target of dollying
    focal: float  # focal length in image heights
    up: np.ndarray  # [3] f64 unit, world
    scale: float  # of the scene, scene units: the unit of flying speed

    @property
    def position(self) -> np.ndarray:
        """The camera's centre [3], world."""
        return self.camera_to_world[:3, 3]

    @property
    def distance(self) -> float:
        """The distance from camera to pivot, scene units."""
        return max(float(np.linalg.norm(self.pivot - self.position)), MIN_DISTANCE * self.scale)

    def frame(self, exposure: float = 0.0) -> Frame:
        """Return the viewpoint as a frame of a camera path."""
        return Frame(np.linalg.inv(self.camera_to_world), self.focal, exposure)


def orbit(viewpoint: Viewpoint, right: float, down: float) -> Viewpoint:
    """Rotate about the pivot so that the scene follows a drag; the view stops short of straight up and down."""
    rotation = _drag_rotation(viewpoint, RADIANS_PER_HEIGHT * right, RADIANS_PER_HEIGHT * down)
    return _rotated(viewpoint, rotation, viewpoint.pivot)


def turn(viewpoint: Viewpoint, right: float, down: float) -> Viewpoint:
    """Rotate the camera about its own centre; the pivot rotates with it."""
    half = RADIANS_PER_HEIGHT / 2
    rotation = _drag_rotation(viewpoint, half * right, half * down)
    turned = _rotated(viewpoint, rotation, viewpoint.position)
    return replace(turned, pivot=viewpoint.position + rotation @ (viewpoint.pivot - viewpoint.position))


def pan(viewpoint: Viewpoint, right: float, down: float) -> Viewpoint:
    """Shift the camera so that what is at the pivot's depth follows the drag."""
    height = viewpoint.distance / viewpoint.focal  # of the image, at the pivot's depth
    shift = viewpoint.camera_to_world[:3, :3] @ np.array([-right * height, -down * height, 0.0])
    return _shifted(viewpoint, shift)


def dolly(viewpoint: Viewpoint, amount: float) -> Viewpoint:
    """Divide the distance to the pivot by exp(`amount`): move towards it where `amount` > 0, else away from it."""
    distance = float(
        np.clip(
            viewpoint.distance * math.exp(-amount),
            MIN_DISTANCE * viewpoint.scale,
            MAX_DISTANCE * viewpoint.scale,
        )
    )
    direction = (viewpoint.pivot - viewpoint.position) / viewpoint.distance
    matrix = viewpoint.camera_to_world.copy()
    matrix[:3, 3] = viewpoint.pivot - direction * distance
    return replace(viewpoint, camera_to_world=matrix)


def fly(viewpoint: Viewpoint, right: float, down: float, forward: float) -> Viewpoint:
    """Move along the camera's axes, in units of the scene's scale; the pivot moves with it."""
    return _shifted(
        viewpoint, viewpoint.camera_to_world[:3, :3] @ np.array([right, down, forward]) * viewpoint.scale
    )


def zoom(viewpoint: Viewpoint, focal: float) -> Viewpoint:
    """Set the focal length, in image heights."""
    return replace(viewpoint, focal=float(np.clip(focal, MIN_FOCAL, MAX_FOCAL)))


def with_pivot(viewpoint: Viewpoint, point: np.ndarray) -> Viewpoint:
    """Set the pivot [3]; the image stays the same."""
    return replace(viewpoint, pivot=np.asarray(point, np.float64))


def straighten(viewpoint: Viewpoint) -> Viewpoint:
    """Turn the camera about its viewing direction until its horizon is level; straight up or down, nothing changes."""
    forward = viewpoint.camera_to_world[:3, 2]
    right = np.cross(forward, viewpoint.up)
    if np.linalg.norm(right) < math.sin(MIN_TILT) / 2:
        return viewpoint
    right = right / np.linalg.norm(right)
    matrix = viewpoint.camera_to_world.copy()
    matrix[:3, 0], matrix[:3, 1] = right, np.cross(forward, right)
    return replace(viewpoint, camera_to_world=matrix)


def with_own_up(viewpoint: Viewpoint) -> Viewpoint:
    """Take the camera's own up direction as that of the scene."""
    return replace(viewpoint, up=-viewpoint.camera_to_world[:3, 1])


def fit(viewpoint: Viewpoint, region: CapturedRegion, aspect: float) -> Viewpoint:
    """Step back in the viewing direction until the image shows the whole region; its centre becomes the pivot.

    Args: aspect: width of the image divided by its height.
    """
    local = (region.corners() - region.centre) @ viewpoint.camera_to_world[:3, :3]
    reach = np.abs(local[:, :2]) * (
        2 * viewpoint.focal / np.array([aspect, 1.0])
    )  # the depth that each corner needs
    distance = float((reach.max(1) - local[:, 2]).max())
    matrix = viewpoint.camera_to_world.copy()
    matrix[:3, 3] = region.centre - matrix[:3, 2] * distance
    return replace(viewpoint, camera_to_world=matrix, pivot=region.centre)


def slowed(
    viewpoint: Viewpoint, region: CapturedRegion, motion: Callable[..., Viewpoint], amounts: list[float]
) -> Viewpoint:
    """Return the viewpoint after a motion, of which the less is left the farther it leads away from the region."""
    moved = motion(viewpoint, *amounts)
    if region.distance(moved.position) <= region.distance(viewpoint.position):
        return moved
    for _ in range(SLOW_STEPS):
        outside = region.distance(viewpoint.position)
        share = max(SLOWEST, 1 - outside / SLOW_DISTANCE) / SLOW_STEPS
        viewpoint = motion(viewpoint, *(share * amount for amount in amounts))
    return viewpoint


def at_frame(viewpoint: Viewpoint, frame: Frame) -> Viewpoint:
    """Move to a frame of a path, with the pivot straight ahead at the same distance as before."""
    matrix = np.linalg.inv(frame.world_to_camera)
    pivot = matrix[:3, 3] + matrix[:3, 2] * viewpoint.distance
    return replace(viewpoint, camera_to_world=matrix, pivot=pivot, focal=frame.focal)


def at_photo(scene: Scene, photo: int, viewpoint: Viewpoint | None = None) -> Viewpoint:
    """Move to the camera of a photo, with the pivot on what the middle of the photo shows.

    Args: viewpoint: whose up direction and scale are kept; None: they are estimated from the scene.
    """
    matrix = np.linalg.inv(np.asarray(scene.photos[photo].world_to_camera, np.float64))
    lens = scene.lenses[scene.photos[photo].lens]
    depth = photo_depth(scene, photo)
    up = scene_up(scene) if viewpoint is None else viewpoint.up
    scale = depth if viewpoint is None else viewpoint.scale
    pivot = matrix[:3, 3] + matrix[:3, 2] * depth
    return Viewpoint(matrix, pivot, float(lens.intrinsics[1] / lens.height), up, scale)


def at_pose(viewpoint: Viewpoint, world_to_camera: np.ndarray) -> Viewpoint:
    """Move to a pose [4, 4], with the pivot straight ahead at the same distance as before."""
    return at_frame(viewpoint, Frame(world_to_camera, viewpoint.focal))


def start_photo(scene: Scene, photos: list[int], exposure: np.ndarray) -> int:
    """Return the one of some photos that shows what most look at near its centre, and that is exposed as most are.

    Args: exposure: [P] EV of every photo relative to their mean.
    Returns: its index; 0 where none shows that.
    """
    middle = scene_centre(scene).centre
    best, smallest = 0, math.inf
    for index in photos:
        pose = scene.photos[index].world_to_camera
        local = pose[:3, :3] @ middle + pose[:3, 3]
        tangent = math.hypot(local[0], local[1]) / max(local[2], 1e-9) if local[2] > 0 else math.inf
        cost = tangent + STOP_COST * abs(float(exposure[index]))
        if cost < smallest:
            best, smallest = index, cost
    return best


def start_viewpoint(scene: Scene, photo: int) -> Viewpoint:
    """Return the first viewpoint of a scene: that of a photo, with the scene's up direction and scale."""
    centres = np.stack([np.linalg.inv(photo.world_to_camera)[:3, 3] for photo in scene.photos])
    viewpoint = at_photo(scene, photo)
    spread = float(np.median(np.linalg.norm(centres - np.median(centres, axis=0), axis=1)))
    return replace(viewpoint, scale=max(spread, 0.1 * viewpoint.distance, 1e-6))


def _drag_rotation(viewpoint: Viewpoint, yaw_angle: float, pitch_angle: float) -> np.ndarray:
    """Return the rotation [3, 3] of the camera for a drag by angles to the right and down."""
    yaw = _axis_rotation(viewpoint.up, -yaw_angle)
    axis = yaw @ viewpoint.camera_to_world[:3, 0]
    forward = yaw @ viewpoint.camera_to_world[:3, 2]
    pitch = _axis_rotation(axis, _limited_pitch(forward, viewpoint.up, axis, -pitch_angle))
    return pitch @ yaw


def _axis_rotation(axis: np.ndarray, angle: float) -> np.ndarray:
    """Return the rotation [3, 3] by `angle` radians about an axis [3] (Rodrigues' formula)."""
    x, y, z = axis / np.linalg.norm(axis)
    cross = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
    return np.eye(3) + math.sin(angle) * cross + (1 - math.cos(angle)) * cross @ cross


def _limited_pitch(forward: np.ndarray, up: np.ndarray, axis: np.ndarray, angle: float) -> float:
    """Return the part of a rotation about the camera's right axis that keeps the view `MIN_TILT` from up and down."""
    tilt = math.acos(float(np.clip(forward @ up, -1, 1)))
    # With x right and y down, a positive rotation about the right axis tilts the view upwards.
    sense = 1.0 if np.cross(axis, forward) @ up >= 0 else -1.0
    wanted = tilt - sense * angle
    kept = min(max(wanted, min(MIN_TILT, tilt)), max(math.pi - MIN_TILT, tilt))
    return sense * (tilt - kept)


def _rotated(viewpoint: Viewpoint, rotation: np.ndarray, centre: np.ndarray) -> Viewpoint:
    matrix = np.eye(4)
    left, _, right = np.linalg.svd(rotation @ viewpoint.camera_to_world[:3, :3])
    # Orthonormal again, or rounding errors would add up over thousands of drags.
    matrix[:3, :3] = left @ right
    matrix[:3, 3] = centre + rotation @ (viewpoint.position - centre)
    return replace(viewpoint, camera_to_world=matrix)


def _shifted(viewpoint: Viewpoint, shift: np.ndarray) -> Viewpoint:
    matrix = viewpoint.camera_to_world.copy()
    matrix[:3, 3] += shift
    return replace(viewpoint, camera_to_world=matrix, pivot=viewpoint.pivot + shift)
