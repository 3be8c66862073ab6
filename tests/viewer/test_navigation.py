"""Navigation: orbiting, panning, dollying, flying, and the first viewpoint of a scene."""

import math
from pathlib import Path

import numpy as np
import pytest

from adop.geometry.rigid_motion import look_at_pose
from adop.viewer.session import navigation
from adop.viewer.session.navigation import Viewpoint
from support.small_scene import small_scene


def start() -> Viewpoint:
    """Return a viewpoint 4 behind and 1 above its pivot, which is the origin; z is up."""
    pose = look_at_pose((0, -4, 1), (0, 0, 0), (0, 0, 1))
    return Viewpoint(np.linalg.inv(pose), np.zeros(3), 1.0, np.array([0.0, 0, 1]), 2.0)


def forward(view: Viewpoint) -> np.ndarray:
    return view.camera_to_world[:3, 2]


def roll(view: Viewpoint) -> float:
    return float(view.camera_to_world[:3, 0] @ view.up)


def test_orbiting_keeps_the_distance_the_horizon_and_the_pivot_in_the_centre():
    view = start()
    for right, down in ((0.2, 0.1), (-0.7, 0.05), (0.1, -0.3)):
        view = navigation.orbit(view, right, down)
        assert view.distance == pytest.approx(start().distance)
        assert forward(view) == pytest.approx(-view.position / view.distance)
        assert abs(roll(view)) < 1e-9
    assert np.allclose(view.camera_to_world[:3, :3].T @ view.camera_to_world[:3, :3], np.eye(3))


def test_the_scene_follows_a_drag():
    moved = navigation.orbit(start(), 0.1, 0.0)
    near = np.array([0.0, -1.0, 0.0])  # in front of the pivot
    local = np.linalg.inv(moved.camera_to_world) @ np.append(near, 1)
    assert local[0] > 0.1
    # A drag down raises the camera.
    assert navigation.orbit(start(), 0.0, 0.1).position[2] > start().position[2]


def test_orbiting_stops_short_of_straight_up_and_down():
    top, bottom = navigation.orbit(start(), 0, 3), navigation.orbit(start(), 0, -3)
    assert top.position[2] == pytest.approx(start().distance * math.cos(math.radians(3)), rel=1e-6)
    assert bottom.position[2] == pytest.approx(-top.position[2], rel=1e-6)
    assert top.camera_to_world[:3, 1] @ top.up < 0  # never upside down


def test_the_pivot_follows_a_pan():
    moved = navigation.pan(start(), 0.25, -0.1)
    local = np.linalg.inv(moved.camera_to_world) @ np.array([0, 0, 0, 1.0])
    assert moved.focal * local[:2] / local[2] == pytest.approx([0.25, -0.1])
    assert moved.distance == pytest.approx(start().distance)


def test_dollying_flying_turning_and_zooming():
    assert navigation.dolly(start(), 0.5).distance == pytest.approx(start().distance * math.exp(-0.5))
    assert navigation.dolly(start(), 100).distance == pytest.approx(navigation.MIN_DISTANCE * 2)
    flown = navigation.fly(start(), 0, 0, 0.5)
    assert flown.position == pytest.approx(start().position + forward(start()) * 1.0)
    turned = navigation.turn(start(), 0.2, 0.0)
    assert turned.position == pytest.approx(start().position) and forward(turned)[0] > 0.1
    assert turned.distance == pytest.approx(start().distance)
    assert navigation.zoom(start(), 1e9).focal == navigation.MAX_FOCAL


def test_a_scene_starts_at_a_photo_with_the_photos_up_direction(tmp_path: Path):
    small = small_scene(tmp_path)
    view = navigation.start_viewpoint(small, 0)
    centres = [np.linalg.inv(photo.world_to_camera)[:3, 3] for photo in small.photos]
    assert min(np.linalg.norm(centre - view.position) for centre in centres) < 1e-9
    assert view.up == pytest.approx([0, -1, 0])
    assert 2.9 < view.distance < 4  # the cameras are 4 from the centre of a ball of radius 1
    jumped = navigation.at_photo(small, 1, view)
    assert jumped.focal == pytest.approx(small.lenses[0].intrinsics[1] / small.lenses[0].height)
    photos = list(range(len(small.photos)))
    even = np.zeros(len(photos))
    best = navigation.start_photo(small, photos, even)
    assert navigation.start_photo(small, [0, 2], even) in (0, 2)
    even[best] = 3  # three stops darker than the others
    assert navigation.start_photo(small, photos, even) != best
