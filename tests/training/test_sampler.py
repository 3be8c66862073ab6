"""Batches of crops: a target shows what its camera sees."""

from pathlib import Path

import pytest
import torch

from adop.errors import UserError
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene
from adop.scene.scene import Scene
from adop.training.steps.sampler import (
    Batch,
    BatchPrefetcher,
    CropConfig,
    Pixels,
    batch_of,
    cut,
    sample,
    step_generator,
)


@pytest.fixture(scope="module")
def scene(demo_folder: Path):
    return load_scene(demo_folder, report=lambda _: None)


def drawn(scene: Scene, photos: list[int], config: CropConfig, seed: int, step: int) -> tuple[Batch, Pixels]:
    """Return the batch of a step, cut on the CPU, and its pixels."""
    crops = sample(scene, photos, config, step_generator(seed, step))
    pixels = cut(PhotoCache(scene), crops)
    return batch_of(crops, pixels, len(crops.photos)), pixels


def test_a_crop_without_zoom_is_a_window_of_the_photo(scene):
    cache = PhotoCache(scene)
    batch, pixels = drawn(scene, [3], CropConfig(1, 96, (1.0, 1.0)), 0, 0)
    zoom, x, y = batch.crop[0].tolist()
    assert zoom == 1.0
    window = cache.get(3)[int(y) : int(y) + 96, int(x) : int(x) + 96].permute(2, 0, 1).float() / 255
    assert torch.equal(pixels.target[0], window)


def test_a_zoomed_crop_shows_its_window_of_the_photo(scene):
    """The crop's mean colour is the mean of the photo's window [offset / zoom, (offset + side) / zoom)."""
    cache = PhotoCache(scene)
    for step in range(5):
        batch, pixels = drawn(scene, [5], CropConfig(1, 128, (0.75, 1.5)), 1, step)
        zoom, x, y = batch.crop[0].tolist()
        left, top, side = round(x / zoom), round(y / zoom), round(128 / zoom)
        window = cache.get(5)[top : top + side, left : left + side].float() / 255
        assert window.shape[:2] == (side, side)
        assert torch.allclose(pixels.target[0].mean((1, 2)), window.mean((0, 1)), atol=0.01)


def test_the_same_step_draws_the_same_crops(scene):
    photos = list(range(10))
    first, again, other = (
        sample(scene, photos, CropConfig(2, 64, (0.75, 1.5)), step_generator(7, step)) for step in (3, 3, 4)
    )
    assert first == again and first.windows != other.windows


def test_borders_are_drawn_more_often(scene):
    config = CropConfig(1, 200, (1.0, 1.0))
    offsets = [sample(scene, [0], config, step_generator(0, i)).windows[0][0] for i in range(60)]
    at_border = sum(x in (0, 280) for x in offsets)
    assert at_border > 60 * 0.25


def test_a_photo_smaller_than_the_crop_makes_a_smaller_crop(scene):
    batch, pixels = drawn(scene, [0], CropConfig(1, 4096, (1.0, 1.0)), 0, 0)
    assert batch.side == 360 and pixels.target.shape[2:] == (360, 360)


def test_prefetched_batches_belong_to_their_steps():
    drawn: list[int] = []

    def draw(step: int) -> Batch:
        drawn.append(step)
        number = torch.tensor([step])
        return Batch(number, number, step, Pixels(number, number), 1)

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
