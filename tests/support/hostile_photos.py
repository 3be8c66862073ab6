"""Photos of every kind, for damage to be done to."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
from PIL import Image

from adop.images.exif import read_exposure
from adop.images.linear import write_encoded
from adop.images.photo_files import check_photos, photo_size, read_mask, read_photo
from adop.images.writers import save_exr
from support.small_scene import write_photos


def make_photos(folder: Path) -> None:
    """Write a photo of each kind."""
    (source,) = write_photos(folder, 1)
    exif = Image.Exif()
    exif.get_ifd(0x8769).update({33434: 0.01, 33437: 2.8, 34855: 100})
    with Image.open(source) as image:
        image.save(folder / "photo0.png", exif=exif)
        image.save(folder / "a.jpg", exif=exif, quality=60)
        image.save(folder / "progressive.jpg", exif=exif, progressive=True)
        image.save(folder / "a.tif", compression="tiff_lzw")
        image.save(folder / "raw.tif", exif=exif)
        for name in ("a.webp", "a.bmp", "a.gif", "a.ppm", "a.jp2"):
            image.save(folder / name)
        image.convert("LA").save(folder / "alpha.png")
        image.convert("I;16").save(folder / "deep.png")
        image.convert("F").save(folder / "float.tif")
        image.convert("1").save(folder / "mask.png")
        image.quantize(16).save(folder / "palette.png", transparency=3)
    pixels = np.linspace(0, 1.5, 48 * 36 * 3, dtype=np.float32).reshape(36, 48, 3)
    save_exr(folder / "a.exr", {"RGB": pixels})
    for name in ("linear.png", "linear.tif"):
        cv2.imwrite(str(folder / name), (pixels * 40_000).astype(np.uint16))


PHOTOS = (
    "photo0.png", "a.jpg", "progressive.jpg", "a.tif", "raw.tif", "a.webp", "a.bmp", "a.gif", "a.ppm", "a.jp2",
    "alpha.png", "deep.png", "float.tif", "mask.png", "palette.png", "a.exr",
    "linear.png", "linear.tif",
)  # fmt: skip


def read_photos_of(folder: Path, name: str) -> None:
    """Read one of the photos in every way."""
    file = folder / name
    read_exposure(file)
    photo_size(file)
    read_photo(file)
    read_mask(file, (48, 36))
    check_photos([file])
    if name.startswith("linear"):
        write_encoded(file, folder / "encoded.png")
