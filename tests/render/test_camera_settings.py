"""The physical camera of new views, cameras made by hand, and key frames."""

import dataclasses
import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.geometry.rigid_motion import look_at_pose
from adop.model.tonemapper import Tonemapper, srgb_encode
from adop.ops import Points, project
from adop.render.camera_settings import RESPONSES, CameraSettings, clips_at, develop, gains_of, temperature_of
from adop.render.key_frames import KeyFrame, KeyPath, interpolate, key_path_json, load_key_path, save_key_path
from adop.render.paths import Frame, load_path


@pytest.fixture
def tonemapper() -> Tonemapper:
    made = Tonemapper(torch.zeros(4), torch.zeros(4, dtype=torch.long), torch.ones(4, dtype=torch.bool))
    return made.requires_grad_(False)


def test_daylight_changes_nothing_and_warmth_is_red():
    assert gains_of(6500, 0) == (1.0, 1.0, 1.0)
    warm, cold = gains_of(9000), gains_of(4000)
    assert warm[0] > 1 > warm[2] and cold[0] < 1 < cold[2]
    magenta = gains_of(6500, 0.5)
    assert magenta[0] == magenta[2] == pytest.approx(math.sqrt(2))


@pytest.mark.parametrize("temperature", [2100, 3200, 5600, 6500, 8000, 15000])
@pytest.mark.parametrize("tint", [-0.4, 0.0, 0.3])
def test_temperature_and_tint_come_back(temperature: float, tint: float):
    back = temperature_of(gains_of(temperature, tint))
    assert back == (pytest.approx(temperature, rel=1e-4), pytest.approx(tint, abs=1e-4))


@pytest.mark.parametrize("response", RESPONSES)
def test_a_response_rises_from_black_to_white_where_it_says(response, tonemapper: Tonemapper):
    look = CameraSettings(response=response)
    white = clips_at(look)
    light = torch.linspace(0, 1.2 * white, 400)[None, None, None].expand(1, 3, 1, -1)
    value = develop(tonemapper, light, look)[0, 0, 0]
    assert value[0] == 0 and bool((value.diff() >= -1e-6).all())
    assert float(value[light[0, 0, 0] < 0.98 * white].max()) < 1
    assert float(value[light[0, 0, 0] > 1.01 * white].min()) == pytest.approx(1, abs=2e-3)


def test_exposure_white_balance_and_vignette_are_the_physical_cameras(tonemapper: Tonemapper):
    tonemapper.vignette_coefficients[0, 0] = -0.4
    radiance = torch.full((1, 3, 30, 40), 0.2)
    plain = develop(tonemapper, radiance, CameraSettings(response="linear"))
    assert torch.allclose(plain, radiance)
    darker = develop(
        tonemapper, radiance, CameraSettings(exposure=1, white_balance=(2.0, 1.0, 0.5), response="linear")
    )
    assert torch.allclose(darker[0, :, 0, 0], torch.tensor([0.2, 0.1, 0.05]))
    corner = develop(tonemapper, radiance, CameraSettings(response="linear", vignette=True))
    assert float(corner[0, 0, 15, 20]) == pytest.approx(0.2, rel=1e-3)
    assert float(corner[0, 0, 0, 0]) == pytest.approx(0.2 * 0.6, rel=0.05)
    assert torch.allclose(
        develop(tonemapper, radiance, CameraSettings(response="srgb")), srgb_encode(radiance), atol=1e-6
    )


def _see(camera: Camera, point: list[float]) -> np.ndarray:
    found = project(camera, Points(torch.tensor([point]), torch.tensor([1.0])), near=1e-3)
    assert bool(found.visible[0, 0])
    return found.uv[0, 0].numpy()


def test_look_at_sees_its_target_in_the_middle_and_up_is_up():
    camera = Camera.look_at((3, -2, 1), (0, 0, 0.5), up=(0, 0, 1), width=200, height=100, fov=40)
    assert _see(camera, [0.0, 0.0, 0.5]) == pytest.approx([100, 50], abs=1e-3)
    assert _see(camera, [0.0, 0.0, 0.7])[1] < 50
    with pytest.raises(ValueError, match="look_at"):
        look_at_pose((0, 0, 0), (0, 0, 2), (0, 0, 1))


def test_intrinsics_are_pixels_with_colmaps_centre():
    pose = np.eye(4)
    camera = Camera.from_intrinsics(80, 60, (50.0, 40.0), pose, centre=(41.0, 29.0), distortion=[0.1])
    # x/z = 0.2, y/z = -0.1, r2 = 0.05: radial factor 1.005.
    assert _see(camera, [0.4, -0.2, 2.0]) == pytest.approx([41 + 50 * 0.201, 29 - 40 * 0.1005], abs=1e-4)
    assert len(Camera.from_intrinsics(80, 60, 50.0, np.stack([pose, pose]))) == 2
    with pytest.raises(ValueError, match="rotation"):
        Camera.from_intrinsics(80, 60, 50.0, 2 * pose)
    with pytest.raises(ValueError, match="focal"):
        Camera.from_intrinsics(80, 60, -1.0)


def test_colmap_and_nerfstudio_name_the_same_camera():
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


def keys() -> tuple[KeyFrame, ...]:
    poses = [look_at_pose((math.cos(a), math.sin(a), 0.3), (0, 0, 0), (0, 0, 1)) for a in (0, 0.8, 2.0)]
    values = [(0.0, 0.8, 0.0), (1.0, 1.6, -1.0), (3.0, 1.6, 2.0)]
    return tuple(KeyFrame(t, Frame(p, f, e)) for p, (t, f, e) in zip(poses, values, strict=True))


def test_a_key_path_passes_its_keys_and_is_smooth():
    path = KeyPath(keys()[::-1], 320, 180, 50)
    frames = path.frames()
    assert len(frames) == 151 and path.seconds == 3
    for number, key in zip((0, 50, 150), keys(), strict=True):
        assert np.allclose(frames[number].world_to_camera, key.frame.world_to_camera, atol=1e-9)
        assert frames[number].focal == pytest.approx(key.frame.focal)
        assert frames[number].exposure == pytest.approx(key.frame.exposure)
    centres = np.stack([np.linalg.inv(f.world_to_camera)[:3, 3] for f in frames])
    velocity = np.diff(centres, axis=0) * 50
    assert np.linalg.norm(np.diff(velocity, axis=0), axis=1).max() < 0.15  # no kink at the keys
    # Between two equal focal lengths nothing overshoots.
    assert max(frame.focal for frame in frames) <= 1.6 + 1e-9


def test_one_key_stands_still_and_none_is_refused():
    assert len(KeyPath(keys()[:1]).frames()) == 1
    with pytest.raises(UserError, match="no key frame"):
        interpolate((), np.zeros(1))
    with pytest.raises(UserError, match="same time"):
        KeyPath((keys()[0], keys()[0]))
    with pytest.raises(UserError, match="pixels a side"):
        KeyPath(keys(), 4, 4)


def test_key_paths_are_nerfstudios_json(tmp_path: Path):
    path = KeyPath(keys(), 320, 180, 10)
    save_key_path(tmp_path / "p.json", path)
    back = load_key_path(tmp_path / "p.json")
    assert dataclasses.replace(back, keys=()) == dataclasses.replace(path, keys=())
    for a, b in zip(path.keys, back.keys, strict=True):
        assert a.time == b.time and np.allclose(a.frame.world_to_camera, b.frame.world_to_camera)
        assert (a.frame.focal, a.frame.exposure) == pytest.approx((b.frame.focal, b.frame.exposure))
    # `adop render --cameras` reads every frame of the same file.
    frames, size, rate = load_path(tmp_path / "p.json")
    assert (len(frames), size, rate) == (31, (320, 180), 10)
    assert frames[10].exposure == pytest.approx(-1.0)


def test_nerfstudios_own_key_frames_are_read(tmp_path: Path):
    content = key_path_json(KeyPath(keys(), 320, 180, 10))
    for key in content["keyframes"]:
        del key["time"], key["exposure"]
    content["seconds"] = 8.0
    (tmp_path / "new.json").write_text(json.dumps(content))
    assert [key.time for key in load_key_path(tmp_path / "new.json").keys] == [0, 4, 8]
    for key in content["keyframes"]:  # older versions: a JSON text, by columns
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
