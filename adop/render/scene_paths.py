"""What a scene's photos look at, and the camera paths that follow from it: a turntable about it, a spiral before it."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from adop.geometry.rigid_motion import look_at_pose
from adop.render.camera_path import MAX_KEY_CAMERAS, CameraPath, Frame, evenly_spaced, focal_of
from adop.scene.scene import Scene

SAMPLE_POINTS = 50_000  # about how many points are looked at
MAX_PHOTOS = 100  # evenly spread, of which the depths are estimated
MIN_POINTS = 10  # in the middle of a view, to estimate the depth there
FRONT_SHARE = 0.3  # share of the visible surface that is nearer than the estimated depth
MIDDLE_SHARE = 1 / 3  # of a view's width and height
# How much a photo's depth counts beside its ray, of which it is much surer; parallel rays say nothing of the depth.
DEPTH_WEIGHT = 0.03
ROUNDS = 10  # in which photos that look elsewhere than most lose their weight
LEAST_RADIUS = 1e-3  # of a scene, as a share of the depth: photos that were all taken at one place meet there
MAX_TILT = math.radians(60)  # of a scene's own up direction from that of its photos; beyond it theirs counts
WIDEST_GAP = math.radians(90)  # between photos around the centre, that a turntable passes over
LEAST_SWING = math.radians(10)  # of a turntable that does not go all the way round
LOOK_SHARE = 0.25  # of the depth, by which a photo moves back to tell from where it shows what it looks at
STEEPEST = math.radians(80)  # above or below the centre, from which a turntable looks at it
TURNS = 2  # of a spiral, in which it comes closer and moves away once
# Least and greatest half width of a spiral, as a share of the distance to what is seen.
SPIRAL_SHARE = (0.02, 0.12)


@dataclass(frozen=True, eq=False)
class SceneCentre:
    """The place that a scene's photos look at, and where they stand around it."""

    centre: np.ndarray  # [3] f64, world
    radius: float  # median distance of the photos' cameras from it, scene units, above 0
    depth: float  # median depth of what the photos have in their middle, scene units
    up: np.ndarray  # [3] f64 unit, world


def scene_centre(scene: Scene) -> SceneCentre:
    """Return the point that most photos look at, and how far from it they were taken.

    The middle of a photo is a ray, and the points that it sees there are at some depth along it. The centre lies as
    near as possible to all these rays and, much less strictly, to what is at those depths: where rays meet, as around
    an object, they decide; where they are parallel, as before a facade, the depths do. Photos that look elsewhere than
    most count less.

    **Source** the point nearest to lines; weights 1 / (1 + (r/s)²) as in iteratively reweighted least squares (Cauchy).
    """
    chosen = evenly_spaced(len(scene.photos), MAX_PHOTOS)
    camera_to_world = np.linalg.inv(np.stack([scene.photos[i].world_to_camera for i in chosen]))
    origins, forward = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    depths = np.array([photo_depth(scene, i) for i in chosen])
    seen = origins + depths[:, None] * forward
    along = forward[:, :, None] * forward[:, None, :]
    # A deviation across a ray counts as an angle: it is divided by the depth.
    strictness = (np.eye(3) - (1 - DEPTH_WEIGHT) * along) / depths[:, None, None] ** 2
    centre = np.median(seen, axis=0)
    for _ in range(ROUNDS):
        residual = np.einsum("ni,nij,nj->n", seen - centre, strictness, seen - centre)
        weights = 1 / (1 + residual / max(float(np.median(residual)), 1e-12))
        weighted = weights[:, None, None] * strictness
        centre = np.linalg.solve(weighted.sum(0), np.einsum("nij,nj->i", weighted, seen))
    radius = float(np.median(np.linalg.norm(origins - centre, axis=1)))
    depth = float(np.median(depths))
    return SceneCentre(centre, max(radius, LEAST_RADIUS * depth), depth, scene_up(scene))


def scene_up(scene: Scene) -> np.ndarray:
    """Return the up direction [3] of a scene, unit length; the photos' own one where it contradicts the scene's."""
    own = np.asarray(scene.up_vector, np.float64)
    own = own / max(float(np.linalg.norm(own)), 1e-12)
    ups = -np.stack([photo.world_to_camera[1, :3] for photo in scene.photos])
    mean = ups.mean(0)
    # The up directions of cameras that look straight down from a flight cancel out and say nothing.
    if np.linalg.norm(mean) > 0.5 and own @ mean / np.linalg.norm(mean) < math.cos(MAX_TILT):
        return mean / np.linalg.norm(mean)
    return own


def photo_depth(scene: Scene, photo: int) -> float:
    """Return the depth of the surface in the middle of a photo, as `depth_ahead`."""
    lens, pose = scene.lenses[scene.photos[photo].lens], scene.photos[photo].world_to_camera
    return depth_ahead(scene, pose, np.array([lens.width, lens.height]) / 2 / lens.intrinsics[:2])


def path_depth(scene: Scene, path: CameraPath) -> float:
    """Return the median over the frames of a path of the depth of the surface in their middle, scene units."""
    chosen = (path.frames[i] for i in evenly_spaced(len(path.frames), MAX_KEY_CAMERAS))
    sides = np.array([path.width / path.height, 1.0]) / 2
    return float(
        np.median([depth_ahead(scene, frame.world_to_camera, sides / frame.focal) for frame in chosen])
    )


def depth_ahead(scene: Scene, world_to_camera: np.ndarray, tangents: np.ndarray) -> float:
    """Return the depth (camera z, scene units) of the surface in the middle of a view; 1 where it sees no point.

    This is a low quantile of the depths of the points there, since points behind the front surface are hidden.

    Args:
        world_to_camera: [4, 4].
        tangents: [2] half the width and half the height of the view at depth 1.
    """
    xyz = scene.points.xyz[:: max(1, len(scene.points.xyz) // SAMPLE_POINTS)]
    local = xyz @ world_to_camera[:3, :3].T + world_to_camera[:3, 3]
    ahead = local[:, 2] > 1e-9
    reach = MIDDLE_SHARE * tangents
    inside = ahead & (np.abs(local[:, :2]) < reach * np.maximum(local[:, 2:], 1e-9)).all(1)
    chosen = inside if inside.sum() >= MIN_POINTS else ahead
    if not chosen.any():
        return 1.0
    depth = np.sort(local[chosen, 2])
    share = np.cumsum(1 / depth**2)  # a far surface has more points per pixel, so its points count less
    return float(depth[np.searchsorted(share, FRONT_SHARE * share[-1])])


def turntable(scene: Scene, frames: int, say: Callable[[str], None] = print) -> list[Frame]:
    """Return `frames` frames on a level circle about the point that the photos look at, all of them looking at it.

    Height above that point and distance from it are the photos' medians, and so is the focal length. If the photos
    leave out more than `WIDEST_GAP` of the way round, the camera swings to and fro over the part that they cover, and
    `say` says so. Played again and again, the frames loop without a jump.
    """
    place = scene_centre(scene)
    camera_to_world = np.linalg.inv(np.stack([photo.world_to_camera for photo in scene.photos]))
    offsets = camera_to_world[:, :3, 3] - place.centre
    heights = offsets @ place.up
    flat = offsets - heights[:, None] * place.up
    height, radius = float(np.median(heights)), float(np.median(np.linalg.norm(flat, axis=1)))
    radius = max(radius, abs(height) / math.tan(STEEPEST), 0.1 * place.radius)
    east = np.cross(place.up, _least_axis(place.up))
    east /= np.linalg.norm(east)
    north = np.cross(place.up, east)
    # Where a photo was taken and where it looks both say what it covers: those of a room are taken in its middle.
    seen_from = flat - LOOK_SHARE * place.depth * camera_to_world[:, :3, 2]
    first, covered = covered_arc(np.arctan2(seen_from @ north, seen_from @ east))
    turn = np.arange(frames) / frames
    if covered < 2 * math.pi:
        say(
            f"turntable: the photos cover {math.degrees(covered):.0f} of 360 degrees around what they look at, so the "
            "camera swings to and fro there"
        )
        angles = first + covered * (1 - np.cos(2 * math.pi * turn)) / 2
    else:
        angles = first + 2 * math.pi * turn
    level = np.cos(angles)[:, None] * east + np.sin(angles)[:, None] * north
    eyes = place.centre + height * place.up + radius * level
    focal = _median_focal(scene)
    return [Frame(look_at_pose(eye, place.centre, place.up), focal) for eye in eyes]


def covered_arc(azimuths: np.ndarray) -> tuple[float, float]:
    """Return the first angle and the length of the arc that azimuths [N] cover, radians.

    It is the whole circle, of length 2 pi, unless they leave a gap wider than `WIDEST_GAP`, and at least `LEAST_SWING`.
    """
    around = np.sort(azimuths % (2 * math.pi))
    gaps = np.diff(np.append(around, around[0] + 2 * math.pi))
    widest = int(np.argmax(gaps))
    first, covered = float(around[(widest + 1) % len(around)]), 2 * math.pi - float(gaps[widest])
    if gaps[widest] <= WIDEST_GAP:
        return first, 2 * math.pi
    missing = max(0.0, LEAST_SWING - covered)
    return first - missing / 2, covered + missing


def spiral(scene: Scene, frames: int) -> list[Frame]:
    """Return `frames` frames on a small loop around a mean camera, all looking at what it has in its middle.

    The mean camera is that of the photo nearest to the mean of all positions and viewing directions. The loop is as wide
    and as high as the middle half of the photos is spread, within `SPIRAL_SHARE`. The last frame leads to the first.

    Source: the path that local light field fusion (Mildenhall et al. 2019) and NeRF show of captures that face forward.
    """
    camera_to_world = np.linalg.inv(np.stack([photo.world_to_camera for photo in scene.photos]))
    origins, forward = camera_to_world[:, :3, 3], camera_to_world[:, :3, 2]
    away = np.linalg.norm(origins - origins.mean(0), axis=1)
    turned = np.linalg.norm(forward - forward.mean(0), axis=1)
    mean = int(
        np.argmin(away / max(float(np.median(away)), 1e-12) + turned / max(float(np.median(turned)), 1e-12))
    )
    depth = photo_depth(scene, mean)
    origin, focus = origins[mean], origins[mean] + depth * forward[mean]
    up = scene_up(scene)
    if abs(float(up @ forward[mean])) > math.sin(STEEPEST):  # a view from above has no up but its own
        up = -camera_to_world[mean, :3, 1]
    axes = look_at_pose(origin, focus, up)[:3, :3]
    spread = np.median(np.abs((origins - origin) @ axes.T), axis=0)
    least, greatest = SPIRAL_SHARE
    reach = np.clip(spread, least * depth, greatest * depth)
    turn = 2 * math.pi * TURNS * np.arange(frames) / frames
    steps = np.stack([np.cos(turn), np.sin(turn), np.sin(turn / TURNS)], axis=1) * reach
    focal = _median_focal(scene)
    return [Frame(look_at_pose(eye, focus, up), focal) for eye in origin + steps @ axes]


def _median_focal(scene: Scene) -> float:
    return float(np.median([focal_of(lens) for lens, _ in scene.views]))


def _least_axis(direction: np.ndarray) -> np.ndarray:
    """Return the coordinate axis [3] that is farthest from a direction [3]."""
    return np.eye(3)[int(np.argmin(np.abs(direction)))]
