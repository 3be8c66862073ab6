"""Cameras made from a position and target, from intrinsics, and from COLMAP's and nerfstudio's parameters."""

import numpy as np
import pytest
import torch

from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.geometry.rigid_motion import look_at_pose
from adop.ops import Points, project


def pixel_of(camera: Camera, point: list[float]) -> np.ndarray:
    """Return the pixel [2] that a camera projects a world point to."""
    found = project(camera, Points(torch.tensor([point]), torch.tensor([1.0])), near=1e-3)
    assert bool(found.visible[0, 0])
    return found.uv[0, 0].numpy()


def test_look_at_centres_its_target_and_keeps_up_upwards():
    camera = Camera.look_at((3, -2, 1), (0, 0, 0.5), up=(0, 0, 1), width=200, height=100, fov=40)
    assert pixel_of(camera, [0.0, 0.0, 0.5]) == pytest.approx([100, 50], abs=1e-3)
    assert pixel_of(camera, [0.0, 0.0, 0.7])[1] < 50
    with pytest.raises(ValueError, match="look_at"):
        look_at_pose((0, 0, 0), (0, 0, 2), (0, 0, 1))


def test_from_intrinsics_takes_pixels_and_colmaps_pixel_centres():
    pose = np.eye(4)
    camera = Camera.from_intrinsics(80, 60, (50.0, 40.0), pose, centre=(41.0, 29.0), distortion=[0.1])
    # x/z = 0.2, y/z = -0.1, r2 = 0.05: radial factor 1.005.
    assert pixel_of(camera, [0.4, -0.2, 2.0]) == pytest.approx([41 + 50 * 0.201, 29 - 40 * 0.1005], abs=1e-4)
    assert len(Camera.from_intrinsics(80, 60, 50.0, np.stack([pose, pose]))) == 2
    with pytest.raises(ValueError, match="rotation"):
        Camera.from_intrinsics(80, 60, 50.0, 2 * pose)
    with pytest.raises(ValueError, match="focal"):
        Camera.from_intrinsics(80, 60, -1.0)


def test_from_colmap_and_from_nerfstudio_make_the_same_camera():
    quaternion = np.array([0.9, 0.1, -0.3, 0.2])
    quaternion /= np.linalg.norm(quaternion)
    params = [500.0, 510.0, 320.0, 240.0, 0.01, -0.02, 0.001, 0.002]
    one = Camera.from_colmap("OPENCV", 640, 480, params, quaternion, [0.1, 0.2, 0.3])
    camera_to_world = np.linalg.inv(one.world_to_camera[0].double().numpy()) @ np.diag([1.0, -1, -1, 1])
    names = dict(zip(("fl_x", "fl_y", "cx", "cy", "k1", "k2", "p1", "p2"), params, strict=True))
    other = Camera.from_nerfstudio(camera_to_world, 640, 480, **names)
    for field in ("intrinsics", "distortion", "world_to_camera"):
        assert torch.allclose(getattr(one, field), getattr(other, field), atol=1e-5), field
    with pytest.raises(UserError, match="8 parameters, got 4"):
        Camera.from_colmap("OPENCV", 640, 480, params[:4])
    with pytest.raises(UserError, match="FOV"):
        Camera.from_colmap("FOV", 640, 480, [1.0] * 5)
