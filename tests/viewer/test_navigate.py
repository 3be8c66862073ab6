"""Camera motion and the pace of pictures: pure functions."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from support.small_scene import small_scene

from adop.geometry.rigid_motion import look_at_pose
from adop.viewer.session import navigate
from adop.viewer.session.navigate import Eye
from adop.viewer.session.pace import BINS, DARKEST_STOP, LEAST_SCALE, Pace, adapt, histogram, metered


def eye(height: float = 1.0) -> Eye:
    pose = look_at_pose((0, -4, height), (0, 0, 0), (0, 0, 1))
    return Eye(np.linalg.inv(pose), np.zeros(3), 1.0, np.array([0.0, 0, 1]), 2.0)


def looks_at(view: Eye) -> np.ndarray:
    return view.camera_to_world[:3, 2]


def level(view: Eye) -> float:
    return float(view.camera_to_world[:3, 0] @ view.up)


def test_orbit_keeps_the_distance_the_horizon_and_the_pivot_in_the_middle():
    view = eye()
    for right, down in ((0.2, 0.1), (-0.7, 0.05), (0.1, -0.3)):
        view = navigate.orbit(view, right, down)
        assert view.distance == pytest.approx(eye().distance)
        assert looks_at(view) == pytest.approx(-view.position / view.distance)
        assert abs(level(view)) < 1e-9
    assert np.allclose(view.camera_to_world[:3, :3].T @ view.camera_to_world[:3, :3], np.eye(3))


def test_a_drag_to_the_right_takes_the_scene_along():
    moved = navigate.orbit(eye(), 0.1, 0.0)
    near = np.array([0.0, -1.0, 0.0])  # in front of the pivot
    local = np.linalg.inv(moved.camera_to_world) @ np.append(near, 1)
    assert local[0] > 0.1
    assert navigate.orbit(eye(), 0.0, 0.1).position[2] > eye().position[2]  # a drag down looks from higher


def test_orbit_stops_at_the_poles():
    top, bottom = navigate.orbit(eye(), 0, 3), navigate.orbit(eye(), 0, -3)
    assert top.position[2] == pytest.approx(eye().distance * math.cos(math.radians(3)), rel=1e-6)
    assert bottom.position[2] == pytest.approx(-top.position[2], rel=1e-6)
    assert top.camera_to_world[:3, 1] @ top.up < 0  # never upside down


def test_pan_makes_the_pivot_follow_the_drag():
    moved = navigate.pan(eye(), 0.25, -0.1)
    local = np.linalg.inv(moved.camera_to_world) @ np.array([0, 0, 0, 1.0])
    assert moved.focal * local[:2] / local[2] == pytest.approx([0.25, -0.1])
    assert moved.distance == pytest.approx(eye().distance)


def test_dolly_fly_turn_and_zoom():
    assert navigate.dolly(eye(), 0.5).distance == pytest.approx(eye().distance * math.exp(-0.5))
    assert navigate.dolly(eye(), 100).distance == pytest.approx(navigate.NEAREST * 2)
    flown = navigate.fly(eye(), 0, 0, 0.5)
    assert flown.position == pytest.approx(eye().position + looks_at(eye()) * 1.0)
    turned = navigate.turn(eye(), 0.2, 0.0)
    assert turned.position == pytest.approx(eye().position) and looks_at(turned)[0] > 0.1
    assert turned.distance == pytest.approx(eye().distance)
    assert navigate.zoom(eye(), 1e9).focal == navigate.LONGEST


def test_a_scene_starts_at_a_photo_with_its_own_up(tmp_path: Path):
    small = small_scene(tmp_path)
    view = navigate.start(small)
    centres = [np.linalg.inv(photo.world_to_camera)[:3, 3] for photo in small.photos]
    assert min(np.linalg.norm(centre - view.position) for centre in centres) < 1e-9
    assert view.up == pytest.approx([0, -1, 0])
    assert 2.9 < view.distance < 4  # cameras stand 4 from the middle of a ball of radius 1
    jumped = navigate.at_photo(small, 1, view)
    assert jumped.focal == pytest.approx(small.lenses[0].intrinsics[1] / small.lenses[0].height)


@pytest.mark.parametrize(("fixed", "whole"), [(0.02, 0.5), (0.005, 2.0), (0.001, 0.01)])
def test_the_pace_finds_the_scale_that_keeps_the_rate(fixed: float, whole: float):
    pace = Pace(15.0)
    for _ in range(60):
        scale = pace.scale()
        pace.note(scale, fixed + whole * scale**2)
    seconds = fixed + whole * pace.scale() ** 2
    assert seconds < 1 / 15
    assert pace.scale() == 1.0 or seconds > 0.5 / 15
    assert pace.slow == (whole > 0.4)


def test_the_pace_gives_up_pixels_no_further_than_it_may():
    pace = Pace(60.0)
    for _ in range(20):
        pace.note(pace.scale(), 2.0)
    assert pace.scale() == LEAST_SCALE


def test_the_histogram_counts_stops_and_what_is_clipped():
    light = torch.full((3, 40, 60), 0.25)
    light[:, :, 30:] = 2.0
    measured = histogram(light, 1.0)
    place = int((-2 - DARKEST_STOP) / 13 * BINS)
    assert measured["bins"][0][place] == pytest.approx(0.5) and sum(measured["bins"][1]) == pytest.approx(1)
    assert measured["clipped"] == pytest.approx(0.5) and measured["black"] == 0


def test_auto_exposure_brings_any_brightness_to_the_same_and_adapts_smoothly():
    picture = torch.rand(3, 50, 80, generator=torch.Generator().manual_seed(0)) * 0.5
    for stops in (-4, 0, 3):
        assert metered(picture * 2.0**stops) == pytest.approx(metered(picture) + stops, abs=0.05)
    exposure, steps = 0.0, []
    for _ in range(60):
        steps.append(adapt(exposure, 2.0, 0.1) - exposure)
        exposure += steps[-1]
    assert exposure == 2.0 and all(step >= 0 for step in steps) and steps[0] < 0.5
