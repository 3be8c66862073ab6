"""The demo scene: its files agree with each other and with the ground truth in its folder `truth`.

The formulas of truth.json are written out again here, so that a mistake in the program that made the scene shows.
"""

import io
import json
import shutil
import sys
from pathlib import Path

import cv2
import numpy as np
import OpenEXR
import pytest
from PIL import Image

from adop.errors import UserError
from adop.scene.read import load_scene
from adop.scene.scene import demo_scene_folder

FOLDER = demo_scene_folder()
TRUTH = json.loads((FOLDER / "truth" / "truth.json").read_text())
HELD_OUT = TRUTH["held_out"]
PLY_ROW = [("xyz", "<f4", 3), ("normal", "i1", 3), ("rgb", "u1", 3)]


def lines(name: str) -> list[str]:
    return (FOLDER / name).read_text().splitlines()


def photo(index: int) -> np.ndarray:
    with Image.open(FOLDER / "images" / TRUTH["photos"][index]["file"]) as image:
        return np.asarray(image)


def truth_image(index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the true radiance [H,W,3] and depth [H,W] of a held-out photo."""
    file = FOLDER / "truth" / Path(TRUTH["photos"][index]["file"]).with_suffix(".exr")
    channels = OpenEXR.File(str(file), separate_channels=True).channels()
    radiance = np.stack([channels[c].pixels for c in "RGB"], -1).astype(np.float64)
    return radiance, channels["Z"].pixels.astype(np.float64)


def cloud() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the rows of point_cloud.ply, the true positions [N,3], and which points are outliers [N]."""
    head, body = (FOLDER / "point_cloud.ply").read_bytes().split(b"end_header\n", 1)
    rows = np.frombuffer(body, PLY_ROW)
    assert f"element vertex {len(rows)}\n".encode() in head
    with np.load(FOLDER / "truth" / "points.npz") as truth:
        return rows, rows["xyz"] + truth["offset"] * truth["unit"], truth["outlier"]


def project(xyz: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the pixels [N,2] that OpenCV computes for world points (NaN far outside the photo), and their depths [N]."""
    lens = TRUTH["lens"]
    fx, fy, cx, cy = lens["intrinsics_fx_fy_cx_cy"]
    pose = np.array(TRUTH["photos"][index]["world_to_camera"])
    local = xyz.astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    distortion = np.array(lens["distortion_k1_k2_p1_p2"])
    front = local[:, 2] > 0.1
    narrow = front & (np.hypot(local[:, 0], local[:, 1]) < 1.1 * local[:, 2])
    uv = np.full((len(xyz), 2), np.nan)
    uv[narrow] = cv2.projectPoints(local[narrow], np.zeros(3), np.zeros(3), matrix, distortion)[0][:, 0]
    return uv, local[:, 2]


def inside(uv: np.ndarray) -> np.ndarray:
    with np.errstate(invalid="ignore"):
        return (uv >= 0).all(1) & (uv < [TRUTH["lens"]["width"], TRUTH["lens"]["height"]]).all(1)


def test_files_list_every_photo_and_stay_small():
    count = len(TRUTH["photos"])
    for name in ("images.txt", "camera_indices.txt", "poses.txt", "exposure.txt"):
        assert len(lines(name)) == count
    assert lines("images.txt") == [p["file"] for p in TRUTH["photos"]]
    assert sorted(lines("images.txt")) == lines("images.txt")  # every 8th file is every 8th photo of the walk
    assert all(photo(k).shape == (TRUTH["lens"]["height"], TRUTH["lens"]["width"], 3) for k in range(count))
    assert list(range(0, count, 8)) == HELD_OUT
    rows, true, _ = cloud()
    assert len(rows) == len(true) == TRUTH["points"]["count"]
    files = [f for f in FOLDER.rglob("*") if f.is_file() and f.name != "points.safetensors"]
    assert sum(f.stat().st_size for f in files) <= 12e6


def test_the_loaded_scene_has_the_true_lens_and_poses(tmp_path):
    shutil.copytree(FOLDER, tmp_path / "demo", ignore=shutil.ignore_patterns("points.safetensors"))
    scene = load_scene(tmp_path / "demo", report=lambda _: None)
    lens = scene.lenses[0]
    assert (lens.model, lens.width, lens.height) == (
        "opencv",
        TRUTH["lens"]["width"],
        TRUTH["lens"]["height"],
    )
    np.testing.assert_allclose(lens.intrinsics, TRUTH["lens"]["intrinsics_fx_fy_cx_cy"], rtol=1e-12)
    np.testing.assert_allclose(lens.distortion, [*TRUTH["lens"]["distortion_k1_k2_p1_p2"], 0, 0, 0, 0])
    for loaded, true in zip(scene.photos, TRUTH["photos"], strict=True):
        np.testing.assert_allclose(loaded.world_to_camera, true["world_to_camera"], atol=1e-12)
        assert loaded.exposure == pytest.approx(true["exif_exposure"], abs=1e-5)
    rows, _, _ = cloud()
    positions = {row.tobytes() for row in rows["xyz"]}
    assert 0.97 * len(rows) < len(scene.points) <= len(rows)
    assert all(row.tobytes() in positions for row in scene.points.xyz[::97])  # preparing moves no point


def test_exif_agrees_with_exposure_txt_and_is_near_the_truth():
    for listed, true in zip(lines("exposure.txt"), TRUTH["photos"], strict=True):
        with Image.open(FOLDER / "images" / true["file"]) as image:
            tags = image.getexif().get_ifd(0x8769)
        time, f_number, iso = float(tags[0x829A]), float(tags[0x829D]), tags[0x8827]
        value = np.log2(f_number**2 / time) - np.log2(iso / 100)
        assert value == pytest.approx(float(listed), abs=1e-5)
        assert value == pytest.approx(true["exposure"], abs=0.175)
        assert iso == true["iso"]
    exposures = [p["exposure"] - TRUTH["scene_exposure"] for p in TRUTH["photos"]]
    assert np.ptp(exposures) > 2 and np.abs(exposures).max() <= 1.5
    assert np.mean(exposures) == pytest.approx(0, abs=1e-9)


def test_held_out_photos_lie_between_others():
    poses = np.array([p["world_to_camera"] for p in TRUTH["photos"]])
    centres = -np.einsum("nji,nj->ni", poses[:, :3, :3], poses[:, :3, 3])
    for k in HELD_OUT:
        before, after = centres[k - 1] - centres[k], centres[k + 1] - centres[k]
        assert np.linalg.norm(before) < 1.6 and np.linalg.norm(after) < 1.6
        assert before @ after < 0


def develop(radiance: np.ndarray, index: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the noise-free photo [H,W,3] (0 to 255) and its noise's standard deviation, by truth.json's formulas."""
    true, vignette, response = TRUTH["photos"][index], TRUTH["vignette"], TRUTH["response"]
    height, width = radiance.shape[:2]
    y, x = np.mgrid[:height, :width] + 0.5
    r = np.hypot(x - vignette["centre"][0], y - vignette["centre"][1]) / (np.hypot(width, height) / 2)
    falloff = 1 + vignette["a"] * r**2 + vignette["b"] * r**4 + vignette["c"] * r**6
    sensor = radiance * 2 ** -(true["exposure"] - TRUTH["scene_exposure"]) * falloff[..., None]
    sensor = sensor * true["white_balance"]
    well = TRUTH["noise"]["full_well"] * 100 / true["iso"]
    noise = np.sqrt(sensor * well + TRUTH["noise"]["read_noise"] ** 2) / well
    table = np.array(response["y"]).T

    def curve(value: np.ndarray) -> np.ndarray:
        return np.stack([np.interp(value[..., c], response["x"], table[c]) for c in range(3)], -1)

    return 255 * curve(sensor), 255 * (curve(sensor + noise) - curve(sensor))


def test_response_table_is_the_formula_and_monotonic():
    response = TRUTH["response"]
    gain, bend = np.array(response["gain"]), np.array(response["curve"])
    t = np.log1p(gain * np.array(response["x"])[:, None]) / np.log1p(gain)
    table = np.array(response["y"])
    np.testing.assert_allclose(table, t - bend * np.sin(2 * np.pi * t), atol=1e-6)
    np.testing.assert_allclose(table[[0, -1]], [[0, 0, 0], [1, 1, 1]], atol=1e-9)
    assert (np.diff(table, axis=0) > 0).all()


def jpeg_error(image: np.ndarray) -> float:
    """Return the standard deviation that JPEG coding, at the photos' quality, adds to an image [H,W,3] (0 to 255)."""
    coded, rounded = io.BytesIO(), np.rint(np.clip(image, 0, 255)).astype(np.uint8)
    Image.fromarray(rounded).save(coded, "JPEG", quality=TRUTH["noise"]["jpeg_quality"], subsampling=0)
    return float(np.std(np.asarray(Image.open(coded)) - image))


@pytest.mark.parametrize("index", HELD_OUT)
def test_developing_the_true_radiance_gives_the_photo(index):
    radiance, _ = truth_image(index)
    expected, noise = develop(radiance, index)
    again = expected + noise * np.random.default_rng(0).normal(size=noise.shape)
    error = photo(index) - expected
    scatter = np.sqrt(noise**2 + jpeg_error(again) ** 2)
    assert np.abs(error.mean((0, 1))).max() < 0.3  # of 255
    assert np.std(error / scatter) == pytest.approx(1, abs=0.12)
    assert np.mean(np.abs(error) > 5 * scatter) < 1e-3


@pytest.mark.parametrize("index", HELD_OUT)
def test_depth_agrees_with_the_true_points(index):
    _, true, outlier = cloud()
    _, depth = truth_image(index)
    uv, z = project(true[~outlier], index)
    in_photo = inside(uv)
    column, row = uv[in_photo].astype(int).T
    ratio = z[in_photo] / depth[row, column]
    assert in_photo.sum() > 30_000
    assert np.mean(np.abs(ratio - 1) < 0.02) > 0.5  # the others are occluded
    assert np.mean(ratio < 0.97) < 0.02  # a point is in front of the surface only at edges, half a pixel off
    assert np.isinf(depth).mean() > 0.03  # there is sky


def test_the_points_are_as_noisy_as_those_of_stereo():
    rows, true, outlier = cloud()
    assert outlier.mean() == pytest.approx(TRUTH["points"]["outlier_share"], rel=0.2)
    shifts = []
    for index in HELD_OUT:
        (uv, _), (moved, _) = project(true[~outlier], index), project(rows["xyz"][~outlier], index)
        shifts.append(np.linalg.norm(moved - uv, axis=1)[inside(uv)])
    assert 0.25 < np.nanmedian(np.concatenate(shifts)) < 0.8  # pixels
    assert np.allclose(np.linalg.norm(rows["normal"] / 127.0, axis=1), 1, atol=0.01)


def test_the_true_lens_follows_opencvs_model():
    from adop.scenes.simulate import make_camera

    lens = make_camera(TRUTH["seed"], 4, 480, 360).lens
    assert list(lens.intrinsics) == TRUTH["lens"]["intrinsics_fx_fy_cx_cy"]
    uv = np.random.default_rng(0).uniform(0, 1, (200, 2)) * [480, 360]
    fx, fy, cx, cy = lens.intrinsics
    rays = np.concatenate([lens.undistort(uv), np.ones((200, 1))], 1)
    matrix = np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])
    back = cv2.projectPoints(rays, np.zeros(3), np.zeros(3), matrix, np.array(lens.distortion))[0][:, 0]
    np.testing.assert_allclose(back, uv, atol=1e-9)


def test_without_open3d_the_error_says_how_to_install_it(monkeypatch):
    from adop.scenes.tracer import open3d

    monkeypatch.setitem(sys.modules, "open3d", None)
    with pytest.raises(UserError, match="pip install open3d"):
        open3d()


@pytest.mark.slow
def test_rendering_again_gives_the_true_radiance():
    """A held-out photo rendered at a quarter of its size equals the true radiance, averaged over 4×4 pixels."""
    pytest.importorskip("open3d")
    from adop.scenes.make_demo import render
    from adop.scenes.simulate import make_camera
    from adop.scenes.tracer import World

    seed, index = TRUTH["seed"], 8
    camera = make_camera(seed, len(TRUTH["photos"]), 120, 90)
    np.testing.assert_allclose(camera.world_to_camera[index], TRUTH["photos"][index]["world_to_camera"])
    small = render(World(seed, bake_rays=64), camera, index, seed)
    radiance, _ = truth_image(index)
    true = radiance.reshape(90, 4, 120, 4, 3).mean((1, 3))
    error = np.abs(small - true) / true
    assert np.median(error) < 0.04
    assert np.mean(error > 0.3) < 0.04
