"""Masks are found beside photos, count with the photos' transparent pixels, and are never photos themselves."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.photo_files import collect_photos
from adop.importers.import_config import ImportConfig
from adop.importers.import_scene import import_colmap
from adop.importers.masks import masks_beside, without_masks
from adop.importers.photo_finder import find_photos
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene
from support.imports import PLAIN, assert_refused, silent
from support.small_scene import HEIGHT, WIDTH, write_colmap, write_photos

PLACES = (
    "images/photo0_mask.png", "images/photo0.mask.png", "images/photo0.png.png", "images/masks/photo0.png",
    "masks/photo0.png", "masks/photo0.png.png", "masks/photo0_mask.png", "masks/images/photo0.png",
)  # fmt: skip


def write_mask(path, size=(WIDTH, HEIGHT), left=10):
    """Write a mask whose first columns do not count."""
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(size[::-1], 255, np.uint8)
    pixels[:, :left] = 0
    Image.fromarray(pixels).save(path)


@pytest.fixture
def capture(tmp_path):
    write_photos(tmp_path / "images")
    write_colmap(tmp_path / "sparse")
    return tmp_path


def run(folder, config=PLAIN, report=silent):
    return import_colmap(folder / "sparse", folder / "images", None, folder / "scene", config, report)


@pytest.mark.parametrize("place", PLACES)
def test_a_mask_beside_a_photo_is_used_and_said(capture, place):
    write_mask(capture / place)
    said: list[str] = []
    scene = load_scene(run(capture, report=said.append).folder, silent)
    assert [photo.mask is not None for photo in scene.photos] == [True] + [False] * 5
    assert not PhotoCache(scene).mask(0)[:, :10].any() and PhotoCache(scene).mask(0)[:, 10:].all()
    start = "Masks of 1 of 6 photos were found beside them, such as "
    assert sum(text.startswith(start) and place in text for text in said) == 1


def test_masks_beside_photos_can_be_ignored_or_replaced(capture):
    write_mask(capture / "images" / "photo0_mask.png")
    write_mask(capture / "other" / "photo1.png")
    said: list[str] = []
    scene = run(capture, ImportConfig(find_masks=False, prepare=PLAIN.prepare), said.append)
    assert all(photo.mask is None for photo in scene.photos)
    scene = run(
        capture, ImportConfig(masks=capture / "other", force=True, prepare=PLAIN.prepare), said.append
    )
    assert [photo.mask is not None for photo in scene.photos] == [False, True] + [False] * 4
    assert not any("beside" in text for text in said)


def test_transparent_pixels_and_the_mask_both_do_not_count(capture):
    photo = capture / "images" / "photo0.png"
    with Image.open(photo) as image:
        alpha = np.full((HEIGHT, WIDTH), 255, np.uint8)
        alpha[:5] = 0
        image.putalpha(Image.fromarray(alpha))
        image.save(photo)
    write_mask(capture / "images" / "photo0.png.png")
    mask = PhotoCache(load_scene(run(capture).folder, silent)).mask(0)
    expected = np.ones((HEIGHT, WIDTH), bool)
    expected[:5], expected[:, :10] = False, False
    np.testing.assert_array_equal(mask.numpy(), expected)


@pytest.mark.parametrize(
    "size", [(WIDTH - 1, HEIGHT), (WIDTH // 2, HEIGHT // 2), (HEIGHT, WIDTH), (2 * WIDTH, HEIGHT)]
)
def test_masks_of_another_shape_are_refused(capture, size):
    write_mask(capture / "masks" / "photo0.png", size)
    assert_refused(
        lambda: run(capture), r"masks/photo0\.png: is \d+x\d+ pixels, but its photo 48x36", capture
    )


def test_larger_masks_are_reduced_to_the_photo(capture):
    write_mask(capture / "masks" / "photo0.png", (2 * WIDTH, 2 * HEIGHT), 21)
    mask = PhotoCache(load_scene(run(capture).folder, silent)).mask(0)
    assert not mask[:, :11].any() and mask[:, 11:].all()


def test_masks_are_no_photos(tmp_path):
    photos = write_photos(tmp_path / "a" / "images", 3)
    masks = [
        tmp_path / "a" / place
        for place in ("images/photo0_mask.png", "images/photo1.png.png", "masks/photo2.png")
    ]
    for mask in masks:
        write_mask(mask)
    lonely = tmp_path / "a" / "images" / "other_mask.png"
    write_mask(lonely)
    assert masks_beside(photos) == masks
    assert without_masks(sorted([*photos, *masks, lonely])) == sorted([*photos, lonely])
    assert find_photos(tmp_path / "a", ["photo2"], "x", silent) == [
        photos[2]
    ]  # and not the mask of that name


def test_photos_in_a_folder_called_masks_are_photos(tmp_path):
    photos = write_photos(tmp_path / "masks", 2)
    assert masks_beside(photos) == [None, None] and without_masks(photos) == photos


def test_a_folder_of_photos_with_masks_is_captured(tmp_path):
    source = tmp_path / "photos"
    write_photos(source / "left", 2, (160, 130))
    write_photos(source / "right", 2, (160, 130))
    write_mask(source / "left" / "photo0_mask.png", (160, 130))
    write_mask(source / "masks" / "right" / "photo1.png", (160, 130))
    said: list[str] = []
    photos = collect_photos(source, tmp_path / "work", CaptureConfig(), said.append)
    assert photos.names == tuple(f"{side}/photo{index}.png" for side in ("left", "right") for index in (0, 1))
    found = masks_beside(photos.files)
    assert [mask is not None for mask in found] == [True, False, False, True]
    assert found[0].resolve() == source / "left" / "photo0_mask.png"
    assert sum(text.startswith("Masks of 2 of 4 photos were found") for text in said) == 1
    named = CaptureConfig(masks=source / "masks")
    assert len(collect_photos(source, tmp_path / "work", named, said.append).names) == 4
    assert masks_beside(photos.files) == [None] * 4  # of the run before
