import dataclasses
import threading

import numpy as np
import pytest
import torch
from PIL import Image
from support.small_scene import small_scene

from adop.errors import UserError
from adop.scene.photo_cache import PhotoCache, check_photos, photo_size, read_mask, read_photo

RANDOM = np.random.default_rng(0)
PIXELS = RANDOM.integers(0, 256, (6, 8, 3), dtype=np.uint8)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_colour_grey_palette_and_bits(tmp_path):
    pixels, opaque = read_photo(save(tmp_path / "rgb.png", PIXELS), (8, 6))
    np.testing.assert_array_equal(pixels, PIXELS)
    assert opaque is None and pixels.dtype == np.uint8
    grey, _ = read_photo(save(tmp_path / "grey.png", PIXELS[..., 0]))
    np.testing.assert_array_equal(grey, np.repeat(PIXELS[..., :1], 3, axis=2))
    deep, _ = read_photo(save(tmp_path / "deep.png", PIXELS[..., 0].astype(np.uint16) * 257))
    np.testing.assert_array_equal(deep, grey)
    one, _ = read_photo(save(tmp_path / "bit.png", PIXELS[..., 0] > 127))
    np.testing.assert_array_equal(one[..., 0], np.where(PIXELS[..., 0] > 127, 255, 0))
    Image.fromarray(PIXELS).quantize(256).save(tmp_path / "palette.png")
    palette, _ = read_photo(tmp_path / "palette.png")
    np.testing.assert_array_equal(palette, PIXELS)
    save(tmp_path / "float.tiff", PIXELS[..., 0].astype(np.float32) / 255)
    np.testing.assert_array_equal(read_photo(tmp_path / "float.tiff")[0], grey)


def test_sixteen_bit_colour_written_by_opencv(tmp_path):
    cv2 = pytest.importorskip("cv2")
    cv2.imwrite(str(tmp_path / "deep.png"), PIXELS[..., ::-1].astype(np.uint16) * 257)
    np.testing.assert_array_equal(read_photo(tmp_path / "deep.png")[0], PIXELS)


def test_alpha_becomes_a_mask(tmp_path):
    alpha = np.full((6, 8, 1), 255, np.uint8)
    _, opaque = read_photo(save(tmp_path / "full.png", np.concatenate([PIXELS, alpha], axis=2)))
    assert opaque is None
    alpha[:3] = 0
    pixels, opaque = read_photo(save(tmp_path / "half.png", np.concatenate([PIXELS, alpha], axis=2)))
    np.testing.assert_array_equal(pixels, PIXELS)
    np.testing.assert_array_equal(opaque, alpha[..., 0] > 0)


def test_orientation_is_not_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    save(tmp_path / "a.png", PIXELS, exif=exif)
    assert photo_size(tmp_path / "a.png") == (8, 6)
    np.testing.assert_array_equal(read_photo(tmp_path / "a.png")[0], PIXELS)


def test_errors_name_the_file(tmp_path):
    path = save(tmp_path / "a.jpg", np.repeat(np.repeat(PIXELS, 40, 0), 40, 1))
    with pytest.raises(UserError, match=r"a\.jpg: is 320x240 pixels, its camera has 100x100"):
        read_photo(path, (100, 100))
    path.write_bytes(path.read_bytes()[:2000])
    for read in (read_photo, read_mask, lambda p: check_photos([p])):
        with pytest.raises(UserError, match=r"a\.jpg: cannot be read as a photo"):
            read(path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read"):
        photo_size(path)
    with pytest.raises(UserError, match="not found"):
        photo_size(tmp_path / "none.jpg")


def test_masks(tmp_path):
    mask = read_mask(save(tmp_path / "m.png", np.array([[0, 1], [255, 0]], np.uint8)))
    np.testing.assert_array_equal(mask, [[False, True], [True, False]])


def test_cache_reads_forgets_and_combines_masks(tmp_path):
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
    assert cache.get(0) is not first  # forgotten, and read again
    assert cache._bytes <= 3 * one + 36 * 48
    assert PhotoCache(scene, max_bytes=0).get(2).shape == (36, 48, 3)


def test_reduced_photos_are_means_and_kept(tmp_path):
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
    assert mask[..., :6].min() == 1 and mask[..., 6:].max() == 0  # a pixel that is half outside is outside
    kept = cache._bytes
    again = cache.reduced(0, 4, device)
    assert cache._bytes == kept and torch.equal(again[0], image) and torch.equal(again[1], mask)
    alike, all_of_it = cache.reduced(1, 1, device)
    np.testing.assert_array_equal((255 * alike[0]).round().byte().permute(1, 2, 0), cache.get(1))
    assert all_of_it.shape == (1, 1, 36, 48) and all_of_it.min() == 1


def test_cache_is_shared_by_threads(tmp_path):
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
