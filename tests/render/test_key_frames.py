"""Key frames: interpolation, and nerfstudio's camera path JSON."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest

from adop.errors import UserError
from adop.geometry.rigid_motion import look_at_pose
from adop.render.camera_path import Frame
from adop.render.key_frames import KeyFrame, KeyPath, interpolate, key_path_json, load_key_path, save_key_path
from adop.render.nerfstudio_path import load_path


def keys() -> tuple[KeyFrame, ...]:
    """Return three key frames on a unit circle, with different times, focal lengths and exposures."""
    poses = [look_at_pose((math.cos(a), math.sin(a), 0.3), (0, 0, 0), (0, 0, 1)) for a in (0, 0.8, 2.0)]
    values = [(0.0, 0.8, 0.0), (1.0, 1.6, -1.0), (3.0, 1.6, 2.0)]
    return tuple(KeyFrame(t, Frame(p, f, e)) for p, (t, f, e) in zip(poses, values, strict=True))


def test_a_path_passes_through_its_key_frames_smoothly():
    path = KeyPath(keys()[::-1], 320, 180, 50)
    frames = path.sampled().frames
    assert len(frames) == 151 and path.seconds == 3
    for number, key in zip((0, 50, 150), keys(), strict=True):
        assert np.allclose(frames[number].world_to_camera, key.frame.world_to_camera, atol=1e-9)
        assert frames[number].focal == pytest.approx(key.frame.focal)
        assert frames[number].exposure == pytest.approx(key.frame.exposure)
    centres = np.stack([np.linalg.inv(f.world_to_camera)[:3, 3] for f in frames])
    velocity = np.diff(centres, axis=0) * 50
    assert np.linalg.norm(np.diff(velocity, axis=0), axis=1).max() < 0.15  # no kink at the keys
    # The focal length does not overshoot between two equal values.
    assert max(frame.focal for frame in frames) <= 1.6 + 1e-9


def test_one_key_frame_makes_one_frame_and_impossible_paths_are_rejected():
    assert len(KeyPath(keys()[:1]).sampled().frames) == 1
    with pytest.raises(UserError, match="no key frame"):
        interpolate((), np.zeros(1))
    with pytest.raises(UserError, match="same time"):
        KeyPath((keys()[0], keys()[0]))
    with pytest.raises(UserError, match="pixels a side"):
        KeyPath(keys(), 4, 4)


def test_a_key_path_is_saved_as_nerfstudios_json(tmp_path: Path):
    path = KeyPath(keys(), 320, 180, 10)
    save_key_path(tmp_path / "p.json", path)
    back = load_key_path(tmp_path / "p.json")
    assert dataclasses.replace(back, keys=()) == dataclasses.replace(path, keys=())
    for a, b in zip(path.keys, back.keys, strict=True):
        assert a.time == b.time and np.allclose(a.frame.world_to_camera, b.frame.world_to_camera)
        assert (a.frame.focal, a.frame.exposure) == pytest.approx((b.frame.focal, b.frame.exposure))
    # `adop render --cameras` reads every frame of the same file.
    every = load_path(tmp_path / "p.json")
    assert (len(every.frames), every.size, every.rate) == (31, (320, 180), 10)
    assert every.frames[10].exposure == pytest.approx(-1.0)


def test_key_frames_written_by_nerfstudio_are_read(tmp_path: Path):
    content = key_path_json(KeyPath(keys(), 320, 180, 10))
    for key in content["keyframes"]:
        del key["time"], key["exposure"]
    content["seconds"] = 8.0
    (tmp_path / "new.json").write_text(json.dumps(content))
    assert [key.time for key in load_key_path(tmp_path / "new.json").keys] == [0, 4, 8]
    for key in content["keyframes"]:  # older versions write a JSON text, column by column
        key["matrix"] = json.dumps(np.reshape(key["matrix"], (4, 4)).T.flatten().tolist())
    (tmp_path / "old.json").write_text(json.dumps(content))
    loaded = load_key_path(tmp_path / "old.json")
    assert np.allclose(loaded.keys[1].frame.world_to_camera, keys()[1].frame.world_to_camera)
    del content["keyframes"]
    (tmp_path / "bare.json").write_text(json.dumps(content))
    assert len(load_key_path(tmp_path / "bare.json").keys) == 24
    content["keyframes"] = [{"matrix": "nonsense", "fov": 50}]
    (tmp_path / "bad.json").write_text(json.dumps(content))
    with pytest.raises(UserError, match="16 numbers"):
        load_key_path(tmp_path / "bad.json")
