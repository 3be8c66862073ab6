"""Camera paths: through their keys, smooth, and as nerfstudio writes them."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from adop.errors import UserError
from adop.render.paths import load_path, save_path, smooth_path, thin_out


def circle(count: int) -> np.ndarray:
    poses = []
    for angle in np.linspace(0, np.pi, count):
        camera_to_world = np.eye(4)
        camera_to_world[:3, :3] = Rotation.from_euler("y", angle).as_matrix()
        camera_to_world[:3, 3] = (math.sin(angle), 0, math.cos(angle))
        poses.append(np.linalg.inv(camera_to_world))
    return np.stack(poses)


def test_goes_through_its_ends_and_keeps_to_the_circle():
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


def test_two_cameras_and_cameras_at_one_place():
    assert len(smooth_path(circle(2), np.ones(2), 5)) == 5
    same = np.repeat(circle(2)[:1], 3, axis=0)
    assert all(np.isfinite(f.world_to_camera).all() for f in smooth_path(same, np.ones(3), 7))


def test_thin_out_keeps_the_ends():
    index = thin_out(circle(100), 10)
    assert index[0] == 0 and index[-1] == 99 and len(index) == 10
    assert list(thin_out(circle(3), 10)) == [0, 1, 2]


def test_file_round_trip(tmp_path: Path):
    frames = smooth_path(circle(5), np.full(5, 0.9), 6)
    save_path(tmp_path / "path.json", frames, (640, 360), 30.0)
    back, size, rate = load_path(tmp_path / "path.json")
    assert size == (640, 360) and rate == 30.0
    for a, b in zip(frames, back, strict=True):
        assert np.allclose(a.world_to_camera, b.world_to_camera, atol=1e-9)
        assert math.isclose(a.focal, b.focal, rel_tol=1e-9)


def test_file_axes_are_opengls(tmp_path: Path):
    """A camera at the origin with identity `camera_to_world` looks along -z, y up."""
    camera = {"camera_to_world": np.eye(4).flatten().tolist(), "fov": 90}
    (tmp_path / "path.json").write_text(json.dumps({"camera_path": [camera]}))
    frames, _, _ = load_path(tmp_path / "path.json")
    assert np.allclose(frames[0].world_to_camera @ [0, 0, -3, 1], [0, 0, 3, 1])
    assert np.allclose(frames[0].world_to_camera @ [0, 1, 0, 1], [0, -1, 0, 1])
    assert math.isclose(frames[0].focal, 0.5)


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("nonsense", "expected JSON"),
        ("{}", "camera_path"),
        ('{"camera_path": []}', "no camera"),
        ('{"camera_path": [{"fov": 50}]}', "camera 1 needs"),
        ('{"camera_path": [{"fov": 50, "camera_to_world": [1, 2]}]}', "camera 1 needs"),
        (json.dumps({"camera_path": [{"fov": 50, "camera_to_world": [0.0] * 16}]}), "rigid"),
        (json.dumps({"camera_path": [{"fov": 190, "camera_to_world": np.eye(4).flatten().tolist()}]}), "fov"),
    ],
)
def test_refusals(content: str, says: str, tmp_path: Path):
    (tmp_path / "path.json").write_text(content)
    with pytest.raises(UserError, match=says):
        load_path(tmp_path / "path.json")
