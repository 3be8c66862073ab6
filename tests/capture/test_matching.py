"""Features and matches of the demo scene's photos, and runs that are interrupted."""

import shutil
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from PIL import Image

from adop.capture.cameras import group_cameras
from adop.capture.capture_config import CaptureConfig
from adop.capture.matching import find_features, match_descriptors, match_photos
from adop.capture.sources.photo_files import collect_photos
from adop.errors import UserError
from adop.scene.scene import demo_scene_folder

pycolmap = pytest.importorskip("pycolmap")

PROGRAM = """
import sys
sys.path.insert(0, sys.argv[3])
from test_matching import compute
compute(sys.argv[1], sys.argv[2])
"""


def silent(_):
    """Report nothing."""


def compute(source, work, **options):
    """Find and match the features of a folder, and return the photos."""
    config = CaptureConfig(**options)
    photos = collect_photos(source, work, config, silent)
    find_features(photos, group_cameras(photos, config), work, config, silent)
    match_photos(photos, work, config, silent)
    return photos


def contents(work):
    """Return all keypoints, descriptors, matches and geometries of a database."""
    with pycolmap.Database.open(work / "database.db") as database:
        count = database.num_images()
        features = [database.read_keypoints(i + 1).tolist() for i in range(count)]
        features += [database.read_descriptors(i + 1).data.tolist() for i in range(count)]
        pairs, matches = database.read_all_matches()
        found = sorted(zip(pairs, [match.tolist() for match in matches], strict=True))
        rows = zip(*database.read_two_view_geometries(), strict=True)
        geometries = [
            (pair, int(g.config), g.inlier_matches.tolist(), str(g.F), str(g.E)) for pair, g in rows
        ]
    return features, found, sorted(geometries)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    folder = tmp_path_factory.mktemp("photos")
    for index in (0, 1, 2, 3, 20):
        name = f"square_{index:03d}.jpg"
        shutil.copy(demo_scene_folder() / "images" / name, folder / name)
    return folder


@pytest.fixture(scope="module")
def done(source, tmp_path_factory):
    work = tmp_path_factory.mktemp("work")
    compute(source, work)
    return work


def test_descriptors_are_matched_as_colmap_does(done):
    with pycolmap.Database.open(done / "database.db") as database:
        first, second = (database.read_descriptors(index) for index in (1, 2))
    options = pycolmap.FeatureMatchingOptions()
    matcher = pycolmap.FeatureMatcher.create(options, pycolmap.Device.cpu)
    none = pycolmap.FeatureKeypoints()
    expected = {tuple(row) for row in matcher.match(none, first, none, second).tolist()}
    found = {tuple(row) for row in match_descriptors(first.data, second.data).tolist()}
    # COLMAP compares the second nearest in both directions and so drops a few more.
    assert expected <= found and len(found) < 1.15 * len(expected) and len(expected) > 100


def test_no_descriptors_and_one_descriptor_match_nothing():
    some = np.full((5, 128), 45, np.uint8)
    for other in (some[:0], some[:1]):
        assert match_descriptors(some, other).shape == match_descriptors(other, some).shape == (0, 2)


def test_a_killed_run_continues_with_the_same_result(source, done, tmp_path):
    folder = Path(__file__).parent
    process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(source), str(tmp_path), str(folder)])
    while process.poll() is None and not _rows(tmp_path / "database.db"):
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert _rows(tmp_path / "database.db")
    compute(source, tmp_path)
    assert contents(tmp_path) == contents(done)


def _rows(path):
    """Return how many photos of a database have features."""
    if not path.is_file():
        return 0
    try:
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        try:
            return connection.execute("SELECT COUNT(*) FROM descriptors").fetchone()[0]
        finally:
            connection.close()
    except sqlite3.OperationalError:
        return 0


def test_missing_features_and_pairs_are_computed_again_alone(source, done, tmp_path):
    for name in ("database.db", "features.json", "matches.json"):
        shutil.copy(done / name, tmp_path)
    before = contents(tmp_path)
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        database.delete_two_view_geometry(1, 3)
        database.delete_matches(2, 3)
        database.delete_two_view_geometry(2, 3)
    compute(source, tmp_path)
    assert contents(tmp_path) == before


def test_masked_features_are_not_matched(source, tmp_path):
    masks = tmp_path / "masks"
    masks.mkdir()
    mask = np.zeros((360, 480), np.uint8)
    mask[:, 240:] = 255
    for file in sorted(source.iterdir())[:-1]:
        Image.fromarray(mask).save(masks / f"{file.name}.png")
    compute(source, tmp_path, masks=masks)
    with pycolmap.Database.open(tmp_path / "database.db") as database:
        xy = database.read_keypoints(1)[database.read_matches(1, 2)[:, 0], :2]
        assert len(xy) > 30 and (xy[:, 0] >= 240).all()
    with pytest.raises(UserError, match="no mask for any photo"):
        compute(source, tmp_path, masks=source / "..")


def test_retrieval_finds_the_overlapping_pairs(source, done, tmp_path):
    compute(source, tmp_path, matcher="retrieval", partners=3)
    exact = {pair: inliers for pair, _, inliers, *_ in contents(done)[2] if len(inliers) > 100}
    found = {pair: inliers for pair, _, inliers, *_ in contents(tmp_path)[2] if len(inliers) > 100}
    assert found.items() <= exact.items() and len(found) >= len(exact) - 1 > 3


def test_sequential_matching_compares_following_photos(source, tmp_path):
    compute(source, tmp_path, matcher="sequential")
    assert len(contents(tmp_path)[1]) == 10


def test_photos_that_do_not_overlap_are_refused(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(3):
        blobs = np.random.default_rng(index).integers(0, 256, (30, 40, 3), dtype=np.uint8)
        Image.fromarray(cv2.resize(blobs, (320, 240))).save(tmp_path / "in" / f"{index}.png")
    with pytest.raises(UserError, match="no two photos overlap"):
        compute(tmp_path / "in", tmp_path)


def test_blank_photos_are_reported(tmp_path):
    (tmp_path / "in").mkdir()
    for index in range(2):
        Image.new("RGB", (200, 200), (90, 90, 90)).save(tmp_path / "in" / f"{index}.png")
    sentences = []
    photos = collect_photos(tmp_path / "in", tmp_path, CaptureConfig(), silent)
    groups = group_cameras(photos, CaptureConfig())
    find_features(photos, groups, tmp_path, CaptureConfig(), sentences.append)
    assert sentences == ["0.png shows hardly any detail and cannot be placed (2 of 2 such photos)."]
