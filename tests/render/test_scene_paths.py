"""Paths that a scene suggests: what the photos look at, and the turntable, spiral and interpolation around it."""

import dataclasses
import math
import re
from pathlib import Path

import numpy as np
import pytest

from adop.geometry.rigid_motion import invert_rigid, look_at_pose
from adop.render.camera_path import Frame, photos_path
from adop.render.scene_paths import covered_arc, path_depth, photo_depth, scene_centre, spiral, turntable
from adop.scene.scene import Scene
from support.small_scene import small_scene


def silent(_: str) -> None:
    raise AssertionError("nothing is to be said")


def eyes_of(frames: list[Frame]) -> np.ndarray:
    """Return the camera centres [F, 3] of frames."""
    return np.stack([invert_rigid(frame.world_to_camera)[:3, 3] for frame in frames])


def with_poses(scene: Scene, poses: list[np.ndarray], xyz: np.ndarray | None = None) -> Scene:
    """Return a scene with other poses, as many photos, and other points."""
    photos = [
        dataclasses.replace(scene.photos[0], name=f"{i}", world_to_camera=pose)
        for i, pose in enumerate(poses)
    ]
    points = scene.points if xyz is None else dataclasses.replace(scene.points, xyz=xyz.astype(np.float32))
    return dataclasses.replace(scene, photos=tuple(photos), points=points)


@pytest.fixture
def facade(tmp_path: Path) -> Scene:
    """A wall 5 before cameras that all look straight at it, from a square of 2 by 1."""
    rng = np.random.default_rng(0)
    wall = np.concatenate([rng.uniform(-6, 6, (500, 2)), np.full((500, 1), 5.0)], axis=1)
    poses = [
        look_at_pose((x, y, 0), (x, y, 5), (0, -1, 0))
        for x in np.linspace(-1, 1, 5)
        for y in np.linspace(-0.5, 0.5, 3)
    ]
    return with_poses(small_scene(tmp_path), poses, wall)


def test_the_centre_of_an_orbit_is_where_its_rays_meet(tmp_path: Path):
    scene = small_scene(tmp_path)  # a ball of radius 1 at the origin, cameras around it, 4 away and 0.5 above
    place = scene_centre(scene)
    assert place.centre == pytest.approx([0, 0, 0], abs=0.02)
    assert place.radius == pytest.approx(math.hypot(4, 0.5), abs=0.02)
    assert place.up == pytest.approx([0, -1, 0])


def test_photos_taken_at_one_place_have_their_centre_there(tmp_path: Path):
    scene = small_scene(tmp_path)
    poses = [look_at_pose((1, 2, 3), (1 + math.cos(a), 2, 3 + math.sin(a)), (0, -1, 0)) for a in range(6)]
    room = with_poses(scene, poses, 5 * scene.points.xyz + np.array([1, 2, 3]))
    assert scene_centre(room).centre == pytest.approx([1, 2, 3], abs=0.3)
    eyes = eyes_of(turntable(room, 8, silent))
    assert np.linalg.norm(eyes - [1, 2, 3], axis=1).max() < 0.6


def test_a_photo_that_looks_away_hardly_moves_the_centre(tmp_path: Path):
    scene = small_scene(tmp_path)
    away = look_at_pose((0, 0, 30), (40, 3, 60), (0, -1, 0))
    poses = [photo.world_to_camera for photo in scene.photos]
    assert np.linalg.norm(scene_centre(with_poses(scene, [*poses, away])).centre) < 0.15


def test_the_centre_before_parallel_cameras_is_on_what_they_see(facade: Scene):
    place = scene_centre(facade)
    assert place.centre == pytest.approx([0, 0, 5], abs=0.05)
    assert place.radius == pytest.approx(5, rel=0.05)


def test_a_turntable_circles_level_at_equal_distance_and_looks_at_the_centre(tmp_path: Path):
    scene = small_scene(tmp_path)
    frames = turntable(scene, 24, silent)
    eyes = eyes_of(frames)
    centre, up = scene_centre(scene).centre, np.array([0.0, -1, 0])
    assert np.linalg.norm(eyes - centre, axis=1) == pytest.approx(math.hypot(4, 0.5), abs=0.05)
    assert (eyes - centre) @ up == pytest.approx(0.5, abs=0.05)
    for frame, eye in zip(frames, eyes, strict=True):
        pose = frame.world_to_camera
        assert pose[2, :3] == pytest.approx((centre - eye) / np.linalg.norm(centre - eye), abs=1e-9)
        assert pose[0, :3] @ up == pytest.approx(0, abs=1e-12)  # no roll
        assert -pose[1, :3] @ up > 0.9  # not upside down
        assert frame.focal == pytest.approx(51 / 36)
    steps = np.linalg.norm(np.diff(np.concatenate([eyes, eyes[:1]]), axis=0), axis=1)
    assert steps == pytest.approx(2 * 4 * math.sin(math.pi / 24), rel=0.02)  # the last step closes the circle


def test_a_turntable_stays_where_photos_were_taken(tmp_path: Path):
    scene = small_scene(tmp_path)
    half = with_poses(scene, [photo.world_to_camera for photo in scene.photos[:3]])  # 120 of 360 degrees
    said: list[str] = []
    eyes = eyes_of(turntable(half, 40, said.append))
    assert len(said) == 1 and re.search("1(19|20|21) of 360 degrees", said[0])
    angles = np.degrees(np.arctan2(eyes[:, 0], -eyes[:, 2]))
    assert angles.min() > -2 and angles.max() < 122 and np.ptp(angles) > 115
    around = np.append(angles, angles[0])
    assert np.abs(np.diff(around)).max() < 12  # it swings without a jump, over the end as well


@pytest.mark.parametrize(
    ("degrees", "first", "length"),
    [
        ([0, 60, 120, 180, 240, 300], None, 360),
        ([10, 90, 170, 255, 310], None, 360),
        ([350, 20, 5], 350, 30),
        ([100, 170, 250], 100, 150),
        ([40], 35, 10),
    ],
)
def test_the_arc_that_azimuths_cover(degrees: list[float], first: float | None, length: float):
    start, covered = covered_arc(np.radians(degrees))
    assert math.degrees(covered) == pytest.approx(length, abs=1e-9)
    assert first is None or math.degrees(start) == pytest.approx(first)


def test_a_spiral_loops_within_the_photos_and_looks_at_one_point(facade: Scene):
    frames = spiral(facade, 60)
    eyes = eyes_of(frames)
    assert np.abs(eyes[:, 0]).max() == pytest.approx(0.5, abs=0.02)  # the middle half of the photos' spread
    assert np.abs(eyes[:, 1]).max() < 0.51 and np.abs(eyes[:, 2]).max() < 0.2
    assert eyes.mean(0) == pytest.approx([0, 0, 0], abs=0.01)
    steps = np.linalg.norm(np.diff(np.concatenate([eyes, eyes[:1]]), axis=0), axis=1)
    assert steps.max() < 0.15
    for frame in frames:
        seen = frame.world_to_camera @ np.array([0, 0, 5, 1])
        assert abs(seen[0]) < 0.02 and abs(seen[1]) < 0.02 and seen[2] > 4.7


def test_a_path_interpolates_the_named_photos_in_their_order(tmp_path: Path):
    scene = small_scene(tmp_path)
    path = photos_path(scene, 2.0, 15, None, [4, 0, 1])
    assert len(path.frames) == 30 and (path.width, path.height) == (48, 36)
    assert path.frames[0].world_to_camera == pytest.approx(scene.photos[4].world_to_camera, abs=1e-9)
    assert path.frames[-1].world_to_camera == pytest.approx(scene.photos[1].world_to_camera, abs=1e-9)
    middle = eyes_of([Frame(scene.photos[0].world_to_camera, 1.0)])
    assert np.linalg.norm(eyes_of(path.frames) - middle, axis=1).min() < 0.2


def test_the_depth_ahead_is_that_of_the_front_surface(facade: Scene, tmp_path: Path):
    assert photo_depth(facade, 0) == pytest.approx(5)
    assert path_depth(facade, photos_path(facade, 1.0, 8, None)) == pytest.approx(5)
    ball = small_scene(tmp_path / "ball")
    assert 2.9 < photo_depth(ball, 2) < 3.4  # 4 from the middle of a ball of radius 1
