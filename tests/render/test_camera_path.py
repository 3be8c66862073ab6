"""Camera paths: smooth through the given cameras, and read from and written to nerfstudio's JSON."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from adop.errors import UserError
from adop.render.camera_path import CameraPath, evenly_spaced, smooth_path
from adop.render.nerfstudio_path import load_path, path_json


def circle(count: int) -> np.ndarray:
    """Return [count, 4, 4] world_to_camera of cameras on half a unit circle, facing outwards."""
    poses = []
    for angle in np.linspace(0, np.pi, count):
        camera_to_world = np.eye(4)
        camera_to_world[:3, :3] = Rotation.from_euler("y", angle).as_matrix()
        camera_to_world[:3, 3] = (math.sin(angle), 0, math.cos(angle))
        poses.append(np.linalg.inv(camera_to_world))
    return np.stack(poses)


def test_a_smooth_path_starts_and_ends_at_the_given_cameras_and_follows_the_circle():
    poses = circle(9)
    frames = smooth_path(poses, np.full(9, 1.2), 50)
    assert len(frames) == 50
    assert np.allclose(frames[0].world_to_camera, poses[0], atol=1e-9)
    assert np.allclose(frames[-1].world_to_camera, poses[-1], atol=1e-9)
    centres = np.stack([np.linalg.inv(f.world_to_camera)[:3, 3] for f in frames])
    assert np.allclose(np.linalg.norm(centres, axis=1), 1, atol=0.01)
    steps = np.linalg.norm(np.diff(centres, axis=0), axis=1)
    assert steps.max() < 1.3 * steps.min()
    assert all(math.isclose(f.focal, 1.2) for f in frames)


def test_two_cameras_and_cameras_at_one_position_make_a_path():
    assert len(smooth_path(circle(2), np.ones(2), 5)) == 5
    same = np.repeat(circle(2)[:1], 3, axis=0)
    assert all(np.isfinite(f.world_to_camera).all() for f in smooth_path(same, np.ones(3), 7))


def test_evenly_spaced_indices_include_both_ends():
    index = evenly_spaced(100, 10)
    assert index[0] == 0 and index[-1] == 99 and len(index) == 10
    assert list(evenly_spaced(3, 10)) == [0, 1, 2]


def test_a_saved_path_loads_unchanged(tmp_path: Path):
    frames = smooth_path(circle(5), np.full(5, 0.9), 6)
    (tmp_path / "path.json").write_text(json.dumps(path_json(CameraPath(frames, 640, 360, 30.0))))
    loaded = load_path(tmp_path / "path.json")
    assert loaded.size == (640, 360) and loaded.rate == 30.0
    for a, b in zip(frames, loaded.frames, strict=True):
        assert np.allclose(a.world_to_camera, b.world_to_camera, atol=1e-9)
        assert math.isclose(a.focal, b.focal, rel_tol=1e-9)


def test_cameras_in_a_file_have_opengl_axes(tmp_path: Path):
    """A camera at the origin whose `camera_to_world` is the identity looks along -z, with y up."""
    camera = {"camera_to_world": np.eye(4).flatten().tolist(), "fov": 90}
    (tmp_path / "path.json").write_text(json.dumps({"camera_path": [camera]}))
    (frame,) = load_path(tmp_path / "path.json").frames
    assert np.allclose(frame.world_to_camera @ [0, 0, -3, 1], [0, 0, 3, 1])
    assert np.allclose(frame.world_to_camera @ [0, 1, 0, 1], [0, -1, 0, 1])
    assert math.isclose(frame.focal, 0.5)


CAMERA = {"fov": 50, "camera_to_world": np.eye(4).flatten().tolist()}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("nonsense", "is not JSON"),
        ("{}", "camera_path"),
        ('{"camera_path": []}', "no camera"),
        ('{"camera_path": [{"fov": 50}]}', "camera 1 needs"),
        ('{"camera_path": [{"fov": 50, "camera_to_world": [1, 2]}]}', "camera 1 needs"),
        (json.dumps({"camera_path": [{"fov": 50, "camera_to_world": [0.0] * 16}]}), "rigid"),
        (json.dumps({"camera_path": [CAMERA], "camera_type": "fisheye"}), "only 'perspective' is rendered"),
        (json.dumps({"camera_path": [CAMERA], "render_width": 640}), "has `render_width` alone; name both"),
        (json.dumps({"camera_path": [{"fov": 190, "camera_to_world": np.eye(4).flatten().tolist()}]}), "fov"),
    ],
)
def test_a_malformed_file_is_rejected_with_a_reason(content: str, message: str, tmp_path: Path):
    (tmp_path / "path.json").write_text(content)
    with pytest.raises(UserError, match=message):
        load_path(tmp_path / "path.json")
