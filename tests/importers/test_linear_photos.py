"""Importing photos of linear values, and EXR photos."""

from dataclasses import replace

import numpy as np
import OpenEXR
import pytest
import torch

from adop.errors import UserError
from adop.images.photo_files import read_photo
from adop.images.srgb import srgb_decode
from adop.importers.import_scene import import_colmap
from adop.scene.read import load_scene
from support.imports import PLAIN, silent
from support.small_scene import HEIGHT, WIDTH, write_colmap

cv2 = pytest.importorskip("cv2")
NAMES = ["a.png", "a.tif", "b/c.TIF", "d.png", "e.exr", "f.tif"]


@pytest.fixture
def linear(tmp_path):
    """Return dark photos [H, W, 3] of linear light by name; their files and a COLMAP model are in the folder."""
    random, photos = np.random.default_rng(0), {}
    (tmp_path / "images" / "b").mkdir(parents=True)
    for name in NAMES:
        photos[name] = (random.random((HEIGHT, WIDTH, 3)) / 20).astype(np.float32)
        file = str(tmp_path / "images" / name)
        if name.endswith(".exr"):
            OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": photos[name]}).write(file)
        else:
            cv2.imwrite(file, np.rint(photos[name][..., ::-1] * 65535).astype(np.uint16))
    write_colmap(tmp_path / "sparse", names=NAMES)
    return photos


def imported(folder, **options):
    config = replace(PLAIN, **options)
    return import_colmap(folder / "sparse", folder / "images", None, folder / "scene", config, silent)


def test_linear_photos_are_encoded_and_keep_their_masks(tmp_path, linear):
    mask = np.arange(WIDTH) > np.zeros((HEIGHT, 1)) + 10
    cv2.imwrite(str(tmp_path / "images" / "a.tif.png"), mask.astype(np.uint8) * 255)
    imported(tmp_path, input_linear=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["images", "scene", "sparse"]  # no copies left
    scene = load_scene(tmp_path / "scene", silent)
    names = [photo.name for photo in scene.photos]
    assert names == ["a.png", "a.tif.png", "b/c.png", "d.png", "e.exr", "f.png"]
    for photo, original in zip(scene.photos, linear, strict=True):
        found = srgb_decode(torch.from_numpy(read_photo(photo.file)[0]) / 255)
        np.testing.assert_allclose(found, linear[original], atol=1e-3)
    assert [photo.mask is not None for photo in scene.photos] == [False, True, *[False] * 4]


def test_without_the_option_only_exr_photos_are_taken_as_linear(tmp_path, linear):
    scene = imported(tmp_path)
    assert [photo.name for photo in scene.photos] == NAMES
    for photo in scene.photos:
        pixels = torch.from_numpy(read_photo(photo.file)[0]) / 255
        found = srgb_decode(pixels) if photo.name == "e.exr" else pixels
        np.testing.assert_allclose(found, linear[photo.name], atol=4e-3)


def test_encoded_photos_cannot_be_links(tmp_path, linear):
    with pytest.raises(UserError, match="--link and --input-linear"):
        imported(tmp_path, input_linear=True, link=True)
    assert not (tmp_path / "scene").exists()
