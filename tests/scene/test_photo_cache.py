"""Photos and masks kept in memory."""

import dataclasses
import threading

import numpy as np
import torch
from PIL import Image

from adop.scene.photo_cache import PhotoCache
from support.small_scene import small_scene


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_the_cache_drops_photos_beyond_its_limit_and_combines_masks(tmp_path):
    scene = small_scene(tmp_path)
    half = np.zeros((36, 48), np.uint8)
    half[:, :24] = 255
    photos = [
        dataclasses.replace(p, mask=save(tmp_path / "mask.png", half) if i == 1 else None)
        for i, p in enumerate(scene.photos)
    ]
    scene = dataclasses.replace(scene, photos=tuple(photos))
    one = 36 * 48 * 3
    cache = PhotoCache(scene, max_bytes=3 * one)
    first = cache.get(0)
    assert first.shape == (36, 48, 3) and first.dtype == torch.uint8
    np.testing.assert_array_equal(first.numpy(), np.asarray(Image.open(scene.photos[0].file)))
    assert cache.mask(0) is None and cache.get(0) is first
    mask = cache.mask(1)
    assert mask.dtype == torch.bool and mask.sum() == 36 * 24
    for index in range(6):
        cache.get(index)
    assert cache.get(0) is not first  # dropped, and read again
    assert cache.bytes <= 3 * one + 36 * 48
    hidden = torch.zeros(36, 48, dtype=torch.bool)
    hidden[:9] = True
    cache.leave_out(0, hidden)
    cache.leave_out(1, hidden)
    assert torch.equal(cache.mask(0), ~hidden) and cache.mask(1).sum() == 27 * 24
    assert cache.bytes <= 3 * one + 36 * 48
    assert PhotoCache(scene, max_bytes=0).get(2).shape == (36, 48, 3)


def test_reduced_photos_are_means_and_stay_in_the_cache(tmp_path):
    scene = small_scene(tmp_path)
    half = np.zeros((36, 48), np.uint8)
    half[:, :25] = 255
    photo = dataclasses.replace(scene.photos[0], mask=save(tmp_path / "mask.png", half))
    scene = dataclasses.replace(scene, photos=(photo, *scene.photos[1:]))
    cache, device = PhotoCache(scene), torch.device("cpu")
    image, mask = cache.reduced(0, 4, device)
    whole = cache.get(0).numpy().reshape(9, 4, 12, 4, 3).mean((1, 3)).transpose(2, 0, 1)
    np.testing.assert_allclose(image[0].numpy(), whole / 255, atol=2.5e-4)
    assert image.dtype == torch.float32 and mask.shape == (1, 1, 9, 12)
    assert mask[..., :6].min() == 1 and mask[..., 6:].max() == 0  # partly masked pixels do not count
    kept = cache.bytes
    again = cache.reduced(0, 4, device)
    assert cache.bytes == kept and torch.equal(again[0], image) and torch.equal(again[1], mask)
    unreduced, whole_mask = cache.reduced(1, 1, device)
    np.testing.assert_array_equal((255 * unreduced[0]).round().byte().permute(1, 2, 0), cache.get(1))
    assert whole_mask.shape == (1, 1, 36, 48) and whole_mask.min() == 1


def test_threads_may_share_the_cache(tmp_path):
    scene = small_scene(tmp_path)
    cache = PhotoCache(scene, max_bytes=20000)
    seen = []

    def work(seed):
        for index in np.random.default_rng(seed).integers(0, 6, 30):
            seen.append(torch.equal(cache.get(int(index)), PhotoCache(scene).get(int(index))))

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 120 and all(seen)
