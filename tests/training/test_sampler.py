"""Batches of crops: a target shows what its camera sees."""

from pathlib import Path

import pytest
import torch

from adop.errors import UserError
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene
from adop.training.sampler import Batch, BatchPrefetcher, CropConfig, sample, step_generator


@pytest.fixture(scope="module")
def scene(demo_folder: Path):
    return load_scene(demo_folder, report=lambda _: None)


def test_a_crop_without_zoom_is_a_window_of_the_photo(scene):
    cache = PhotoCache(scene)
    batch = sample(scene, cache, [3], CropConfig(1, 96, (1.0, 1.0)), step_generator(0, 0))
    zoom, x, y = batch.crop[0].tolist()
    assert zoom == 1.0
    window = cache.get(3)[int(y) : int(y) + 96, int(x) : int(x) + 96].permute(2, 0, 1).float() / 255
    assert torch.equal(batch.target[0], window)


def test_a_zoomed_crop_shows_its_window_of_the_photo(scene):
    """The crop's mean colour is the mean of the photo's window [offset / zoom, (offset + side) / zoom)."""
    cache = PhotoCache(scene)
    for step in range(5):
        batch = sample(scene, cache, [5], CropConfig(1, 128, (0.75, 1.5)), step_generator(1, step))
        zoom, x, y = batch.crop[0].tolist()
        left, top, side = round(x / zoom), round(y / zoom), round(128 / zoom)
        window = cache.get(5)[top : top + side, left : left + side].float() / 255
        assert window.shape[:2] == (side, side)
        assert torch.allclose(batch.target[0].mean((1, 2)), window.mean((0, 1)), atol=0.01)


def test_the_same_step_draws_the_same_crops(scene):
    cache = PhotoCache(scene)
    photos = list(range(10))
    first, again, other = (
        sample(scene, cache, photos, CropConfig(2, 64, (0.75, 1.5)), step_generator(7, step))
        for step in (3, 3, 4)
    )
    assert torch.equal(first.crop, again.crop) and torch.equal(first.photos, again.photos)
    assert not torch.equal(first.crop, other.crop)


def test_borders_are_drawn_more_often(scene):
    cache = PhotoCache(scene)
    offsets = [
        sample(scene, cache, [0], CropConfig(1, 200, (1.0, 1.0)), step_generator(0, i)).crop[0, 1]
        for i in range(60)
    ]
    at_border = sum(float(x) in (0.0, 280.0) for x in offsets)
    assert at_border > 60 * 0.25


def test_a_photo_smaller_than_the_crop_makes_a_smaller_crop(scene):
    batch = sample(scene, PhotoCache(scene), [0], CropConfig(1, 4096, (1.0, 1.0)), step_generator(0, 0))
    assert batch.target.shape[2:] == (360, 360)


def test_prefetched_batches_belong_to_their_steps():
    drawn: list[int] = []

    def draw(step: int) -> Batch:
        drawn.append(step)
        number = torch.tensor([step])
        return Batch(number, number, number, number)

    batches = BatchPrefetcher(draw)
    assert [int(batches.batch(step).photos) for step in (3, 4, 9, 10)] == [3, 4, 9, 10]
    batches.close()
    assert {3, 4, 9, 10} <= set(drawn) <= {3, 4, 5, 9, 10, 11}, "only the next batch is drawn ahead"


def test_errors_of_the_thread_are_raised():
    def draw(step: int) -> Batch:
        raise UserError("photo.jpg: cannot be read")

    batches = BatchPrefetcher(draw)
    with pytest.raises(UserError, match=r"photo\.jpg"):
        batches.batch(0)
    batches.close()
