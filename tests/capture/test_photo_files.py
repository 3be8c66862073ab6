"""Collecting photos: what is linked, what is converted, and which files are refused."""

import os
import shutil

import cv2
import numpy as np
import OpenEXR
import pytest
from PIL import Image

from adop.capture.capture_config import CaptureConfig
from adop.capture.sources.photo_files import collect_photos
from adop.errors import UserError
from adop.images.exif import read_exposure
from adop.images.photo_files import read_photo
from adop.scene.scene import demo_scene_folder

SIZE = (160, 130)


def silent(_):
    """Report nothing."""


def picture(seed=0, size=SIZE, depth=np.uint8):
    limit = np.iinfo(depth).max
    small = np.random.default_rng(seed).integers(0, limit, (13, 16, 3)).astype(depth)
    return cv2.resize(small, size)


def save(path, seed=0, **options):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(picture(seed)).save(path, **options)
    return path


def opened(file):
    with Image.open(file) as image:
        image.load()
        return image


def collect(source, work, **options):
    return collect_photos(source, work, CaptureConfig(**options), silent)


def test_photos_of_all_folders_are_linked_in_order_and_hidden_ones_left_out(tmp_path):
    for name in ("b.JPG", "day 2/a.jpeg", "day 2/deep/ü.png", ".hidden.jpg", ".cache/c.jpg"):
        save(tmp_path / "in" / name, format="PNG" if name.endswith("png") else "JPEG")
    (tmp_path / "in" / "notes.txt").write_text("no photo")
    photos = collect(tmp_path / "in", tmp_path / "work")
    assert photos.names == ("b.JPG", "day 2/a.jpeg", "day 2/deep/ü.png")
    assert photos.sizes == (SIZE,) * 3 and not photos.sequence
    assert all(file.is_symlink() and file.is_file() for file in photos.files)


def test_16_bit_photos_are_converted_with_their_colours_and_do_not_collide(tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    deep = picture(1, depth=np.uint16)
    cv2.imwrite(str(folder / "a.tif"), deep[..., ::-1])
    cv2.imwrite(str(folder / "b.png"), deep[..., ::-1])
    cv2.imwrite(str(folder / "c.png"), deep[..., 0])
    save(folder / "a.png", seed=2)
    photos = collect(folder, tmp_path / "work")
    assert photos.names == ("a.png", "a.tif.png", "b.png", "c.png")
    expected = deep / 257
    for name in ("a.tif.png", "b.png"):
        assert np.abs(read_photo(photos.folder / name)[0] - expected).max() <= 1
    assert np.abs(read_photo(photos.folder / "c.png")[0] - expected[..., :1]).max() <= 1
    assert opened(photos.folder / "c.png").mode == "RGB"
    np.testing.assert_array_equal(read_photo(photos.folder / "a.png")[0], picture(2))


def test_linear_photos_are_encoded_and_an_earlier_run_without_the_option_does_not_matter(tmp_path):
    (tmp_path / "in").mkdir()
    dark = picture(1, depth=np.uint16) // 20
    for name in ("a.png", "b.tif"):
        cv2.imwrite(str(tmp_path / "in" / name), dark[..., ::-1])
    collect(tmp_path / "in", tmp_path / "work")
    photos = collect(tmp_path / "in", tmp_path / "work", input_linear=True)
    assert photos.names == ("a.png", "b.png")
    value = dark / 65535
    expected = 255 * np.where(value < 0.0031308, 12.92 * value, 1.055 * value ** (1 / 2.4) - 0.055)
    for file in photos.files:
        np.testing.assert_allclose(read_photo(file)[0], expected, atol=0.6)


def test_exr_photos_are_converted(tmp_path):
    (tmp_path / "in").mkdir()
    value = (picture(1) / 255).astype(np.float32)
    for name in ("a.exr", "b.exr"):
        OpenEXR.File({"type": OpenEXR.scanlineimage}, {"RGB": value}).write(str(tmp_path / "in" / name))
    photos = collect(tmp_path / "in", tmp_path / "work")
    assert photos.names == ("a.png", "b.png")
    np.testing.assert_array_equal(read_photo(photos.files[0])[0], read_photo(tmp_path / "in" / "a.exr")[0])


@pytest.mark.parametrize("ending", ["webp", "bmp", "tiff", "cmyk.jpg"])
def test_other_formats_become_png_and_are_not_converted_again(tmp_path, ending):
    source = tmp_path / "in"
    for index in range(2):
        image = Image.fromarray(picture(index)).convert("CMYK" if "cmyk" in ending else "RGB")
        source.mkdir(exist_ok=True)
        image.save(source / f"{index}.{ending}", **({"lossless": True} if ending == "webp" else {}))
    sentences = []
    photos = collect_photos(source, tmp_path / "work", CaptureConfig(), sentences.append)
    assert [name[0] for name in photos.names] == ["0", "1"] and all(n.endswith(".png") for n in photos.names)
    assert sentences == ["2 of 2 photos were converted to 8-bit PNG or JPEG."]
    if "cmyk" not in ending:
        np.testing.assert_array_equal(read_photo(photos.files[1])[0], picture(1))
    before = [file.stat().st_mtime_ns for file in photos.files]
    again = collect(source, tmp_path / "work")
    assert again.names == photos.names and [file.stat().st_mtime_ns for file in again.files] == before


def test_alpha_and_exif_survive_a_conversion(tmp_path):
    exif = Image.Exif()
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[33434] = 0.01
    pixels = np.dstack([picture(), np.full(SIZE[::-1], 255, np.uint8)])
    pixels[:50, :, 3] = 0
    for name in ("a", "b"):
        (tmp_path / "in").mkdir(exist_ok=True)
        Image.fromarray(pixels).save(tmp_path / "in" / f"{name}.webp", lossless=True, exif=exif)
    photos = collect(tmp_path / "in", tmp_path / "work")
    opaque = read_photo(photos.files[0])[1]
    assert not opaque[:50].any() and opaque[50:].all()
    tags = opened(photos.files[0]).getexif()
    assert tags[0x010F] == "Maker" and float(tags.get_ifd(0x8769)[33434]) == 0.01


@pytest.mark.parametrize("ending", ["jpg", "png"])
def test_pycolmap_and_adop_ignore_the_orientation_alike(tmp_path, ending):
    pycolmap = pytest.importorskip("pycolmap")
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        save(tmp_path / "in" / f"{name}.{ending}", exif=exif)
    photos = collect(tmp_path / "in", tmp_path / "work")
    bitmap = pycolmap.Bitmap.read(photos.files[0], True)
    assert (bitmap.width, bitmap.height) == SIZE == photos.sizes[0]
    assert np.abs(bitmap.to_array().astype(int) - read_photo(photos.files[0])[0]).max() <= 3


def test_a_turned_tiff_is_converted_upright_and_loses_its_tag(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6
    for name in "ab":
        save(tmp_path / "in" / f"{name}.tif", exif=exif)
    photos = collect(tmp_path / "in", tmp_path / "work")
    assert photos.sizes[0] == SIZE[::-1] and 0x0112 not in opened(photos.files[0]).getexif()


def test_photos_that_were_removed_leave_the_capture(tmp_path):
    for name in "abc":
        save(tmp_path / "in" / f"{name}.png")
    collect(tmp_path / "in", tmp_path / "work")
    os.remove(tmp_path / "in" / "b.png")
    assert collect(tmp_path / "in", tmp_path / "work").names == ("a.png", "c.png")


@pytest.mark.parametrize(
    ("spoil", "sentence"),
    [
        (lambda folder: (folder / "b.jpg").write_bytes(b""), "b.jpg: cannot be read as a photo"),
        (lambda folder: (folder / "b.jpg").write_bytes(b"no photo"), "b.jpg: cannot be read as a photo"),
        (
            lambda folder: (folder / "b.tif").write_bytes(b"II*\0 no photo"),
            "b.tif: cannot be read as a photo",
        ),
        (
            lambda folder: (folder / "a.png").write_bytes((folder / "a.png").read_bytes()[:900]),
            "a.png: cannot be read as a photo",
        ),
        (lambda folder: Image.new("RGB", (100, 300)).save(folder / "s.png"), "s.png: is 100x300 pixels"),
        (lambda folder: os.remove(folder / "c.png"), "has one photo"),
        (lambda folder: shutil.rmtree(folder), "no such folder of photos"),
        (lambda folder: [os.remove(file) for file in folder.iterdir()], "has no photos"),
        (lambda folder: save(folder / "#d.png"), "rename it"),
    ],
)
def test_unusable_input_is_named(tmp_path, spoil, sentence):
    for name in "ac":
        save(tmp_path / "in" / f"{name}.png")
    spoil(tmp_path / "in")
    with pytest.raises(UserError, match=sentence):
        collect(tmp_path / "in", tmp_path / "work")


def test_photos_get_names_that_a_scene_can_list(tmp_path):
    for name in ("a", "x\ny", " d", os.fsdecode(b"caf\xe9")):
        save(tmp_path / "in" / f"{name}.png")
    photos = collect(tmp_path / "in", tmp_path / "work")
    assert photos.names == ("a.png", "café.png", "d.png", "x_y.png")


def test_several_broken_photos_are_counted(tmp_path):
    save(tmp_path / "in" / "a.png")
    for name in ("b.jpg", "c.jpg"):
        (tmp_path / "in" / name).write_bytes(b"")
    with pytest.raises(UserError, match=r"b\.jpg: .*\(2 of 3 photos are unusable\.\)"):
        collect(tmp_path / "in", tmp_path / "work")


def test_heic_photos_need_a_package_or_are_converted(tmp_path):
    (tmp_path / "in").mkdir()
    for name in "ab":
        (tmp_path / "in" / f"{name}.heic").write_bytes(b"not heic")
    try:
        import pillow_heif  # noqa: F401
    except ImportError:
        sentence = "pip install pillow-heif"
    else:
        sentence = "cannot be read as a photo"
    with pytest.raises(UserError, match=sentence):
        collect(tmp_path / "in", tmp_path / "work")


def test_heic_photos_are_converted_with_their_exposure(tmp_path):
    heif = pytest.importorskip("pillow_heif")
    (tmp_path / "in").mkdir()
    source = demo_scene_folder() / "images" / "square_003.jpg"
    with Image.open(source) as photo:
        pixels, exif = np.asarray(photo.convert("RGB")), photo.getexif()
    exif[0x0112] = 1
    for name in ("a.HEIC", "b.heif"):
        heif.from_pillow(Image.fromarray(pixels)).save(
            tmp_path / "in" / name, quality=95, exif=exif.tobytes()
        )
    found = collect_photos(tmp_path / "in", tmp_path / "work", CaptureConfig(), silent)
    assert found.names == ("a.jpg", "b.jpg") and set(found.sizes) == {(480, 360)}
    for file in found.files:
        assert abs(read_exposure(file) - read_exposure(source)) < 1e-6
        assert np.abs(np.asarray(Image.open(file)).astype(int) - pixels).mean() < 3
