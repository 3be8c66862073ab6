"""Which photos share a lens, and its first focal length."""

import math

import numpy as np
import pytest
from PIL import Image

from adop.capture.cameras import group_cameras
from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.photo_files import collect_photos
from adop.errors import UserError

pytest.importorskip("pycolmap")


@pytest.fixture
def photos(tmp_path):
    """Two photos of a camera, one of it zoomed, one of another camera, one without EXIF, one of another size."""
    rows = [
        ("a/1.jpg", "One", 28, (160, 130)),
        ("a/2.jpg", "One", 28, (160, 130)),
        ("a/3.jpg", "One", 50, (160, 130)),
        ("b/4.png", "Two", 28, (160, 130)),
        ("b/5.jpg", None, None, (160, 130)),
        ("b/6.jpg", "One", 28, (130, 160)),
    ]
    for name, make, focal, size in rows:
        path = tmp_path / "in" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        exif = Image.Exif()
        if make:
            exif[0x010F] = make
            exif.get_ifd(0x8769)[0xA405] = focal
        Image.fromarray(np.zeros((size[1], size[0], 3), np.uint8)).save(path, exif=exif)
    return collect_photos(tmp_path / "in", tmp_path / "work", CaptureConfig(), lambda _: None)


def test_body_focal_length_and_size_tell_lenses_apart(photos):
    groups = group_cameras(photos, CaptureConfig())
    assert [group.photos for group in groups] == [(0, 1), (2,), (3,), (4,), (5,)]
    assert groups[0].focal_length_px == pytest.approx(28 / math.hypot(36, 24) * math.hypot(160, 130))
    assert [group.known for group in groups] == [True, True, True, False, True]
    assert groups[3].focal_length_px == 1.2 * 160


def test_the_user_chooses_groups_and_focal_length(photos):
    assert len(group_cameras(photos, CaptureConfig(camera="photo"))) == 6
    groups = group_cameras(photos, CaptureConfig(focal_length_px=200.0))
    assert {group.focal_length_px for group in groups} == {200.0} and all(group.known for group in groups)


def test_photos_of_different_sizes_cannot_share_a_lens(photos):
    for camera in ("shared", "folder"):
        with pytest.raises(UserError, match=r"6\.jpg: is 130x160 pixels, .* is 160x130; use --camera auto"):
            group_cameras(photos, CaptureConfig(camera=camera))


def test_few_photos_get_a_lens_with_few_parameters(photos):
    models = [group.model for group in group_cameras(photos, CaptureConfig())]
    assert set(models) == {"SIMPLE_RADIAL"}
