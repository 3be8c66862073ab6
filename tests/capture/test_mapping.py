"""Cameras recovered from photos of the demo scene, whose true poses are known, and photos that cannot be placed."""

import shutil

import cv2
import numpy as np
import pytest
from PIL import Image, ImageOps
from scipy.spatial.transform import Rotation

from adop.capture.cameras import group_cameras
from adop.capture.capture_config import CaptureConfig
from adop.capture.mapping import map_photos
from adop.capture.matching import find_features, match_photos
from adop.capture.sources.photo_files import collect_photos
from adop.errors import UserError
from adop.importers.programs.colmap import read_colmap
from adop.scene.read import load_scene
from adop.scene.scene import demo_scene_folder

pycolmap = pytest.importorskip("pycolmap")

FOCAL = 372.0


def silent(_):
    """Report nothing."""


def place(source, work, report=silent, **options):
    """Run the whole capture and return its mapping."""
    config = CaptureConfig(**options)
    photos = collect_photos(source, work, config, silent)
    find_features(photos, group_cameras(photos, config), work, config, silent)
    match_photos(photos, work, config, silent)
    return map_photos(photos, work, report)


def demo_photo(index):
    return demo_scene_folder() / "images" / f"square_{index:03d}.jpg"


@pytest.fixture(scope="module")
def mapped(tmp_path_factory):
    folder = tmp_path_factory.mktemp("demo")
    (folder / "in").mkdir()
    for index in range(10):
        shutil.copy(demo_photo(index), folder / "in")
    return folder, place(folder / "in", folder)


def test_recovered_cameras_agree_with_the_true_ones(mapped, demo_folder):
    _, mapping = mapped
    true = {photo.name: photo.world_to_camera for photo in load_scene(demo_folder, report=silent).photos}
    assert len(mapping.placed) == 10 and mapping.group_sizes == (10,)
    images = {image.name: image for image in read_colmap(mapping.model).images}
    rotations = {n: Rotation.from_quat(i.rotation, scalar_first=True).as_matrix() for n, i in images.items()}
    found = np.stack([-rotations[name].T @ np.array(images[name].translation) for name in images])
    expected = np.stack([-true[name][:3, :3].T @ true[name][:3, 3] for name in images])
    turn, error = aligned(found, expected)
    extent = np.ptp(expected, axis=0).max()
    assert error.max() < 0.01 * extent
    for name in images:
        offset = Rotation.from_matrix(rotations[name] @ turn.T @ true[name][:3, :3].T)
        # 2 px of the principal point, which ten photos leave open, are 0.3.
        assert np.degrees(offset.magnitude()) < 0.8
    assert mapping.error_px < 0.6 and abs(mapping.lenses[0].focal_after_px / FOCAL - 1) < 0.02


def aligned(found, expected):
    """Return the rotation [3,3] of the similarity that takes centres found to expected ones, and the distances left."""
    a, b = found - found.mean(axis=0), expected - expected.mean(axis=0)
    u, s, vt = np.linalg.svd(b.T @ a)
    sign = np.array([1, 1, np.sign(np.linalg.det(u @ vt))])
    turn = (u * sign) @ vt
    scale = (s * sign).sum() / (a**2).sum()
    return turn, np.linalg.norm(scale * a @ turn.T - b, axis=1)


def test_figures_of_photos_and_lens_are_told(mapped):
    _, mapping = mapped
    assert [photo.name for photo in mapping.photos] == [f"square_{index:03d}.jpg" for index in range(10)]
    for photo in mapping.photos:
        assert photo.group == 0 and photo.reason == "" and photo.pairs >= 2
        assert photo.keypoints > 300 and photo.observations > 50 and 0 < photo.error_px < 1
    assert mapping.points > 300 and mapping.track_length > 2
    (lens,) = mapping.lenses
    assert (lens.photos, lens.model, lens.known, lens.focal_before_px) == (10, "OPENCV", False, 576.0)


def test_a_finished_mapping_is_not_done_again_and_a_repeated_one_is_the_same(mapped, tmp_path):
    folder, mapping = mapped
    before = (mapping.model / "images.bin").stat().st_mtime_ns
    again = place(folder / "in", folder)
    assert again.photos == mapping.photos and (mapping.model / "images.bin").stat().st_mtime_ns == before
    for name in ("database.db", "features.json", "matches.json"):
        shutil.copy(folder / name, tmp_path)
    shutil.copytree(folder / "photos", tmp_path / "photos", symlinks=True)
    repeated = place(folder / "in", tmp_path)
    pairs = zip(read_colmap(mapping.model).images, read_colmap(repeated.model).images, strict=True)
    for one, two in pairs:
        np.testing.assert_allclose(
            [*one.rotation, *one.translation], [*two.rotation, *two.translation], atol=1e-6
        )


def test_of_two_groups_the_larger_is_used_and_the_other_is_named(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(5):
        shutil.copy(demo_photo(index), tmp_path / "in")
    for index in range(4):
        with Image.open(demo_photo(index)) as image:
            ImageOps.invert(ImageOps.mirror(image)).save(tmp_path / "in" / f"mirrored_{index}.png")
    sentences = []
    mapping = place(tmp_path / "in", tmp_path, sentences.append, camera="shared", focal_length_px=FOCAL)
    assert mapping.group_sizes == (5, 4) and (tmp_path / "sparse" / "1" / "images.bin").is_file()
    assert [photo.group for photo in mapping.photos] == [1] * 4 + [0] * 5
    assert "form 2 groups without common points (5, 4)" in sentences[1]
    assert sentences[2].startswith("mirrored_0.png is left out: it belongs to another group of photos")


def test_a_photo_of_something_else_is_left_out_with_the_reason(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(5):
        shutil.copy(demo_photo(index), tmp_path / "in")
    blobs = np.random.default_rng(0).integers(0, 256, (30, 40, 3), dtype=np.uint8)
    Image.fromarray(cv2.resize(blobs, (480, 360))).save(tmp_path / "in" / "other.png")
    Image.new("RGB", (480, 360)).save(tmp_path / "in" / "black.png")
    sentences = []
    mapping = place(tmp_path / "in", tmp_path, sentences.append, focal_length_px=FOCAL)
    assert len(mapping.placed) == 5
    assert "black.png is left out: it shows hardly any detail." in sentences
    assert "other.png is left out: it overlaps with no other photo." in sentences


@pytest.mark.parametrize("focal", [None, 2 * FOCAL])
def test_photos_turned_about_one_place_are_refused(tmp_path, focal):
    (tmp_path / "in").mkdir()
    pixels = cv2.resize(cv2.imread(str(demo_photo(0))), None, fx=2, fy=2, interpolation=cv2.INTER_CUBIC)
    wide = np.array([[2 * FOCAL, 0, 480], [0, 2 * FOCAL, 360], [0, 0, 1]])
    narrow = np.array([[2 * FOCAL, 0, 240], [0, 2 * FOCAL, 200], [0, 0, 1]])
    for index, (yaw, pitch) in enumerate([(-12, -4), (-5, 3), (4, -2), (12, 5)]):
        rotation = Rotation.from_euler("yx", [yaw, pitch], degrees=True).as_matrix()
        view = cv2.warpPerspective(pixels, narrow @ rotation @ np.linalg.inv(wide), (480, 400))
        cv2.imwrite(str(tmp_path / "in" / f"{index}.png"), view)
    with pytest.raises(UserError, match=r"all photos were taken from one place.*walk around"):
        place(tmp_path / "in", tmp_path, focal_length_px=focal)


def test_two_photos_are_too_few(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(2):
        shutil.copy(demo_photo(index), tmp_path / "in")
    with pytest.raises(UserError, match="of 2 photos could be placed; take more photos"):
        place(tmp_path / "in", tmp_path)
