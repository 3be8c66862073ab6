"""Projections: points and an environment in known directions appear where the formulas say."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from adop.geometry.rigid_motion import look_at_pose
from adop.model.pipeline import Pipeline
from adop.render.camera_path import CameraPath, Frame
from adop.render.camera_settings import CameraSettings
from adop.render.projection import Projection, levelled, render_frame, render_panorama, sized
from adop.render.views import View
from support.point_pipeline import point_pipeline
from support.small_scene import ball

LINEAR = CameraSettings(response="linear")
WHITE = np.full((1, 3), 255, np.uint8)
DARK = -12.0  # log colour of the environment


def pipeline_of(xyz: np.ndarray, folder: Path) -> Pipeline:
    """Return a pipeline that shows white points, each as a single pixel, in the dark."""
    pipeline = point_pipeline(xyz.astype(np.float32), WHITE.repeat(len(xyz), 0), folder, levels=1)
    pipeline.environment.map.data.fill_(DARK)
    return pipeline


def position(view: View, u: float, v: float, radius: int = 4) -> tuple[float, float]:
    """Return the centre (u, v) of the light within `radius` pixels of a pixel."""
    light = view.radiance.sum(0).numpy() - 3 * math.exp(DARK)
    height, width = light.shape
    rows, columns = (
        np.arange(int(v) - radius, int(v) + radius + 1),
        np.arange(int(u) - radius, int(u) + radius + 1),
    )
    patch = light[np.ix_(rows.clip(0, height - 1), columns % width)]
    assert patch.max() > 0.01, "nothing is there"
    weight = patch / patch.sum()
    return float((weight * (columns + 0.5)).sum()), float((weight * (rows[:, None] + 0.5)).sum())


@pytest.fixture(scope="module")
def directions() -> np.ndarray:
    """Return [40, 3] unit directions, well apart, over seams and corners of the cube's faces and over the wrap."""
    longitude = np.radians(np.linspace(-180, 180, 10, endpoint=False) + 4.9)
    latitude = np.radians([-61.0, -20.1, 33.3, 45.2])
    lon, lat = (values.ravel() for values in np.meshgrid(longitude, latitude))
    return np.stack([np.sin(lon) * np.cos(lat), -np.sin(lat), np.cos(lon) * np.cos(lat)], axis=1)


def test_points_appear_in_a_panorama_at_their_longitude_and_latitude(directions: np.ndarray, tmp_path: Path):
    distance = np.linspace(2, 9, len(directions))
    pose = look_at_pose((1.0, -2.0, 0.5), (4.0, 0.0, 1.5), (0.1, -1.0, 0.2))
    world = directions * distance[:, None] @ pose[:3, :3] - pose[:3, :3].T @ pose[:3, 3]
    view = render_panorama(pipeline_of(world, tmp_path), pose, 512, LINEAR)
    assert view.panorama and view.image.shape == (3, 256, 512)
    for direction in directions:
        u = (math.atan2(direction[0], direction[2]) / (2 * math.pi) + 0.5) * 512
        v = (0.5 + math.asin(direction[1]) / math.pi) * 256
        seen = position(view, u, v)
        stretch = 1 / math.hypot(direction[0], direction[2])  # of longitudes away from the equator
        assert abs(seen[0] - u) < 0.75 * stretch and abs(seen[1] - v) < 0.75


def test_the_depth_of_a_panorama_is_the_distance(tmp_path: Path):
    view = render_panorama(pipeline_of(5 * ball(200_000), tmp_path), np.eye(4), 128, LINEAR)
    # A pixel of a face is 2 degrees wide, over which camera z changes by up to 6 % near its corners.
    assert view.depth.numpy() == pytest.approx(5, rel=0.06)
    assert float(view.depth.median()) == pytest.approx(5, rel=0.02)
    assert float(view.image.min()) > 0.99


def test_a_panorama_shows_the_environment_without_seams(tmp_path: Path):
    pipeline = point_pipeline(np.array([[0.0, 0.0, 1e4]], np.float32), WHITE, tmp_path, 1, 128)
    rows, columns = np.meshgrid((np.arange(128) + 0.5) / 128, (np.arange(256) + 0.5) / 256, indexing="ij")

    def light(longitude: np.ndarray, latitude: np.ndarray) -> np.ndarray:
        """Return log light [3, ...], smooth over the sphere and different in every direction."""
        x, y, z = np.sin(longitude) * np.cos(latitude), np.sin(latitude), np.cos(longitude) * np.cos(latitude)
        return np.stack([x + 0.5 * y, y - z * x, 0.7 * z])

    # The map has world y downwards, from -90 degrees in its first row.
    values = light(2 * np.pi * (columns - 0.5), np.pi * (rows - 0.5))
    pipeline.environment.map.data[0, :3] = torch.from_numpy(values).float()
    view = render_panorama(pipeline, np.eye(4), 256, LINEAR)
    expected = np.exp(light(2 * np.pi * (columns - 0.5), np.pi * (rows - 0.5)))
    ratio = view.radiance.numpy() / expected
    ratio[:, 60:69, 124:133] = 1  # the one point
    assert np.abs(ratio - 1).max() < 0.02


def test_a_fisheye_image_is_equidistant(tmp_path: Path):
    angles = np.radians([0.0, 20, 45, 70, 88, 100])
    turns = np.radians([0.0, 30, 130, 200, 290, 340])
    flat = np.stack([np.cos(turns), np.sin(turns), np.zeros(6)], axis=1)
    xyz = 3 * (np.sin(angles)[:, None] * flat + np.cos(angles)[:, None] * np.array([0.0, 0, 1]))
    projection = Projection("fisheye", math.radians(220))
    view = render_frame(pipeline_of(xyz, tmp_path), Frame(np.eye(4), 1.0), (300, 300), LINEAR, projection)
    for angle, turn in zip(angles, turns, strict=True):
        reach = 150 * angle / math.radians(110)
        u, v = 150 + reach * math.cos(turn), 150 + reach * math.sin(turn)
        assert position(view, u, v) == pytest.approx((u, v), abs=0.51)
        assert float(view.depth[int(v), int(u)]) == pytest.approx(3, rel=1e-4)  # the distance, not z
    column, row = np.meshgrid(np.arange(300) + 0.5 - 150, np.arange(300) + 0.5 - 150)
    outside = torch.from_numpy(np.hypot(column, row) > 150)
    assert not view.image[:, outside].any() and bool(torch.isinf(view.depth[outside]).all())
    assert bool((view.radiance[:, ~outside] > 0).all())


@pytest.mark.parametrize("kind", ["perspective", "fisheye"])
def test_the_eyes_of_a_stereo_pair_differ_by_the_disparity(kind: str, tmp_path: Path):
    depths = np.array([2.0, 5.0, 40.0])
    xyz = np.stack([np.zeros(3), np.array([-0.2, 0.0, 0.2]) * depths, depths], axis=1)
    projection = Projection(kind, math.pi, baseline=0.3, screen=5.0)  # type: ignore[arg-type]
    frame, size = Frame(np.eye(4), 1.0), (320, 240)
    view = render_frame(pipeline_of(xyz, tmp_path), frame, size, LINEAR, projection)
    assert view.image.shape == (3, 240, 640) and view.depth.shape == (240, 640)
    for y, depth in zip(xyz[:, 1], depths, strict=True):
        if kind == "perspective":
            half, v = 240 * 0.15 * (1 / depth - 1 / 5), 120 + 240 * y / depth
        else:
            off = math.atan2(math.hypot(0.15, y), depth) * 240 / math.pi
            half, v = off * 0.15 / math.hypot(0.15, y), 120 + off * y / math.hypot(0.15, y)
        left, right = position(view, 160 + half, v)[0], position(view, 480 - half, v)[0]
        assert left == pytest.approx(160 + half, abs=0.51) and right == pytest.approx(480 - half, abs=0.51)
        assert left - (right - 320) == pytest.approx(2 * half, abs=1.01)


def test_a_level_pose_keeps_place_and_heading():
    up = np.array([0.0, 0.0, 1.0])
    for tilt, roll in ((-30, 10), (50, -80), (-89, 0), (89, 0)):
        turn = Rotation.from_euler("ZXZ", (-40, tilt - 90, roll), degrees=True)  # heading to the right of +y
        pose = np.eye(4)
        pose[:3, :3] = turn.inv().as_matrix()
        pose[:3, 3] = -pose[:3, :3] @ [1.0, 2.0, 3.0]
        level = levelled(pose, up)
        assert -level[:3, :3].T @ level[:3, 3] == pytest.approx([1, 2, 3])
        assert -level[1, :3] == pytest.approx(up)
        assert level[2, :3] == pytest.approx(
            [math.sin(math.radians(40)), math.cos(math.radians(40)), 0], abs=1e-6
        )


def test_sizes_follow_the_resolution_of_the_photos_or_the_width_asked_for():
    path = CameraPath([Frame(np.eye(4), 1.5)], 640, 400, 24)
    assert sized(path, Projection(), 99) == path
    panorama = sized(path, Projection("equirectangular"), None)
    assert panorama.width == 3768 and panorama.height == 1884  # 2 pi * 600 px
    assert (sized(path, Projection("equirectangular"), 103).width) == 100
    fisheye = sized(path, Projection("fisheye", math.pi), None)
    assert fisheye.width == fisheye.height == 1884
    assert sized(path, Projection("fisheye"), 101).height == 100
