"""EXR photos, and photos of linear values."""

import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from adop.errors import UserError
from adop.images.exif import ORIENTATION, read_exposure
from adop.images.linear import write_encoded
from adop.images.photo_files import check_photos, photo_size, read_photo, write_reduced
from adop.images.srgb import srgb_decode

cv2 = pytest.importorskip("cv2")
LINEAR = np.random.default_rng(0).random((6, 8, 3)).astype(np.float32)


def write_exr(path, channels, **header):
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage, **header}
    OpenEXR.File(header, channels).write(str(path))
    return path


def decoded(path):
    """Return the linear light [H, W, 3] of a photo that is encoded as sRGB."""
    return srgb_decode(torch.from_numpy(read_photo(path)[0]) / 255).numpy()


@pytest.mark.parametrize("kind", [np.float32, np.float16])
def test_exr_photos_are_read_as_linear_light(tmp_path, kind):
    file = write_exr(tmp_path / "a.exr", {"RGB": LINEAR.astype(kind)})
    assert photo_size(file) == (8, 6) and check_photos([file]) == [(8, 6)]
    np.testing.assert_allclose(decoded(file), LINEAR, atol=0.006)  # a step of 8 bits near white is 0.009


def test_what_exceeds_white_is_clipped_and_no_number_is_black(tmp_path):
    values = np.array([[[np.nan, -1, 0.5], [7, np.inf, -np.inf]]], np.float32).repeat(16, 0)
    pixels, opaque = read_photo(write_exr(tmp_path / "a.exr", {"RGB": values}))
    assert opaque is None and pixels[0].tolist() == [[0, 0, 188], [255, 255, 0]]


def test_alpha_and_grey_of_exr_photos(tmp_path):
    alpha = np.repeat([[0, 0, 1, 1, 1, 1, 0.2, 0.8]], 6, 0).astype(np.float32)
    parts = dict(zip("RGBA", [*np.moveaxis(LINEAR, 2, 0), alpha], strict=True))
    file = write_exr(tmp_path / "a.exr", {name: np.ascontiguousarray(part) for name, part in parts.items()})
    pixels, opaque = read_photo(file)
    np.testing.assert_array_equal(opaque, alpha > 0.5)
    np.testing.assert_array_equal(pixels, read_photo(write_exr(tmp_path / "b.exr", {"RGB": LINEAR}))[0])
    grey, _ = read_photo(write_exr(tmp_path / "c.exr", {"Y": np.ascontiguousarray(LINEAR[..., 0])}))
    np.testing.assert_array_equal(grey, np.repeat(pixels[..., :1], 3, axis=2))


def test_a_smaller_exr_is_averaged_in_linear_light(tmp_path):
    file = write_exr(tmp_path / "a.exr", {"RGB": LINEAR})
    write_reduced(file, tmp_path / "b.exr", (4, 3))
    mean = LINEAR.reshape(3, 2, 4, 2, 3).mean((1, 3))
    np.testing.assert_allclose(
        OpenEXR.File(str(tmp_path / "b.exr")).channels()["RGB"].pixels, mean, atol=1e-6
    )


def test_the_exposure_of_an_exr_comes_from_its_attributes(tmp_path):
    file = write_exr(tmp_path / "a.exr", {"RGB": LINEAR}, expTime=1 / 64, aperture=4.0, isoSpeed=200.0)
    assert read_exposure(file) == pytest.approx(4 + 6 - 1)
    assert read_exposure(write_exr(tmp_path / "b.exr", {"RGB": LINEAR})) is None


def test_damaged_exr_photos_are_one_sentence(tmp_path):
    file = write_exr(tmp_path / "a.exr", {"RGB": LINEAR})
    whole = file.read_bytes()
    for data in (b"", whole[:8], whole[:200], whole[:-60], b"\x89PNG" + whole):
        file.write_bytes(data)
        with pytest.raises(UserError, match=r"a\.exr: .*leave it out"):
            read_photo(file)
    with pytest.raises(UserError, match="channels 'Z'; a photo needs R, G and B"):
        read_photo(write_exr(file, {"Z": np.ascontiguousarray(LINEAR[..., 0])}))
    window = whole.index(b"dataWindow\0box2i\0") + len(b"dataWindow\0box2i\0") + 12
    file.write_bytes(whole[:window] + (59_999).to_bytes(4, "little") + whole[window + 4 :])
    with pytest.raises(UserError, match=r"a\.exr: "):
        read_photo(file)


@pytest.mark.parametrize("ending", ["png", "tif"])
def test_linear_photos_of_16_bits_keep_their_shadows(tmp_path, ending):
    dark = LINEAR / 64
    source, target = tmp_path / f"a.{ending}", tmp_path / "b.png"
    cv2.imwrite(str(source), np.rint(dark[..., ::-1] * 65535).astype(np.uint16))
    write_encoded(source, target)
    np.testing.assert_allclose(decoded(target), dark, atol=4e-4)  # 8 linear bits are off by up to 2e-3


def test_linear_photos_keep_their_alpha_exif_and_direction(tmp_path):
    tags = Image.Exif()
    tags[ORIENTATION] = 6
    tags.get_ifd(0x8769).update({33434: 1 / 64, 33437: 4.0, 34855: 200})
    loaded = Image.Exif()
    loaded.load(tags.tobytes())  # Pillow writes these into a TIFF file only if they were read
    source, target = tmp_path / "a.tif", tmp_path / "b.png"
    for deep in (False, True):
        grey = np.arange(96).reshape(8, 12)
        Image.fromarray((grey * 257).astype(np.uint16) if deep else grey.astype(np.uint8)).save(
            source, exif=loaded
        )
        write_encoded(source, target)
        assert read_exposure(target) == pytest.approx(4 + 6 - 1)
        assert photo_size(target) == (8, 12)
        np.testing.assert_allclose(255 * decoded(target)[0, :, 0], np.arange(84, -1, -12), atol=0.6)
    with_alpha = np.full((8, 12, 4), 30_000, np.uint16)
    with_alpha[:, :5, 3] = 65_535
    cv2.imwrite(str(tmp_path / "c.png"), with_alpha)
    write_encoded(tmp_path / "c.png", target)
    np.testing.assert_array_equal(read_photo(target)[1], with_alpha[..., 3] > 40_000)
