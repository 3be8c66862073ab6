"""Reading photos and masks of all kinds."""

import numpy as np
import pytest
from PIL import Image

from adop.errors import UserError
from adop.images.photo_files import check_photos, photo_size, read_mask, read_photo, write_reduced

PIXELS = np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)


def save(path, array, **options):
    Image.fromarray(array).save(path, **options)
    return path


def test_colour_grey_palette_and_other_bit_depths(tmp_path):
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


def test_transparent_pixels_become_a_mask(tmp_path):
    alpha = np.full((6, 8, 1), 255, np.uint8)
    _, opaque = read_photo(save(tmp_path / "full.png", np.concatenate([PIXELS, alpha], axis=2)))
    assert opaque is None
    alpha[:3] = 0
    pixels, opaque = read_photo(save(tmp_path / "half.png", np.concatenate([PIXELS, alpha], axis=2)))
    np.testing.assert_array_equal(pixels, PIXELS)
    np.testing.assert_array_equal(opaque, alpha[..., 0] > 0)


def test_the_exif_orientation_is_not_applied(tmp_path):
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
    for read in (read_photo, read_mask, lambda path: check_photos([path])):
        with pytest.raises(UserError, match=r"a\.jpg: cannot be read as a photo"):
            read(path)
    path.write_bytes(b"nothing")
    with pytest.raises(UserError, match=r"a\.jpg: cannot be read"):
        photo_size(path)
    with pytest.raises(UserError, match="not found"):
        photo_size(tmp_path / "none.jpg")


def test_a_mask_is_true_where_it_is_not_black(tmp_path):
    mask = read_mask(save(tmp_path / "m.png", np.array([[0, 1], [255, 0]], np.uint8)))
    np.testing.assert_array_equal(mask, [[False, True], [True, False]])


def test_a_photo_of_200_megapixels_is_read_and_reduced(tmp_path):
    rows = np.random.default_rng(0).integers(0, 256, (14_200, 14_200 // 8), np.uint8)
    Image.frombytes("1", (14_200, 14_200), rows.tobytes()).save(tmp_path / "large.png", compress_level=0)
    assert photo_size(tmp_path / "large.png") == (14_200, 14_200)
    write_reduced(tmp_path / "large.png", tmp_path / "small.png", (142, 142))
    assert abs(read_photo(tmp_path / "small.png", (142, 142))[0].mean() - 127.5) < 3
