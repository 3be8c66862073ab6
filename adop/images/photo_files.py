"""Photos and masks on disk: their sizes, their pixels, and smaller copies of them."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from adop.errors import UserError, one_line
from adop.images.cost import check_cost
from adop.images.exr import exr_header, exr_image, read_exr
from adop.images.writers import save_exr

# Those of Pillow's formats that photos and masks come in: others run programs (EPS), or fit any file (TGA).
FORMATS = ("JPEG", "MPO", "PNG", "TIFF", "WEBP", "BMP", "GIF", "PPM", "JPEG2000", "AVIF", "HEIF")
# Endings of photos that a folder is searched for.
ENDINGS = (".jpg", ".jpeg", ".png", ".tif", ".tiff", ".webp", ".bmp", ".exr")
# Cameras have 200 megapixels, twice Pillow's limit for a single photo; `check_cost` refuses small files of many pixels.
Image.MAX_IMAGE_PIXELS = 1 << 29
_MAX_SCANS = 200  # of a progressive JPEG; each costs the time of the whole photo
_STRIP_PIXELS = 1 << 21
_STORED_BYTES = {"1": 1, "L": 1, "I;16": 2, "I;16B": 2, "I;16L": 2}  # per pixel, in Pillow's memory; else 4


class _Bounded(io.BufferedReader):
    """A file that allocates no more than is left of it, whatever length a damaged header makes Pillow ask for."""

    def __init__(self, path: Path) -> None:
        super().__init__(io.FileIO(path))
        self._size = os.fstat(self.fileno()).st_size

    def read(self, size: int | None = -1, /) -> bytes:
        """Return up to `size` bytes."""
        left = max(0, self._size - self.tell())
        return super().read(left if size is None or size < 0 else min(size, left))


@contextmanager
def open_photo(path: Path, channels: int = 3) -> Iterator[Image.Image]:
    """Open a photo, whose pixels are not decoded yet; what fails to decode inside the `with` block is the photo's fault.

    Args: channels: bytes per pixel that the caller will take for the decoded photo.
    Raises: UserError naming the file, also where a small file would take much memory or time.
    """
    if not os.path.isfile(path):
        raise UserError(f"{path}: photo not found.")
    if is_exr(path):
        yield exr_image(path)
        return
    Image.init()
    kinds = [kind for kind in FORMATS if kind in Image.OPEN]
    try:
        with _Bounded(path) as file, Image.open(file, formats=kinds) as image:
            _check_cost(path, image, channels)
            yield image
    except UserError:
        raise
    except Exception as error:  # Pillow's decoders raise whatever they stumble over in a damaged file
        unknown = isinstance(error, UnidentifiedImageError)
        reason = f"it is none of {', '.join(kinds)}" if unknown else one_line(error)
        raise UserError(
            f"{path}: cannot be read as a photo ({reason}); replace it or leave it out."
        ) from error


def is_exr(path: Path) -> bool:
    """Return whether a photo's name says that it is an EXR file, whose values are linear light."""
    return path.suffix.lower() == ".exr"


def _check_cost(path: Path, image: Image.Image, channels: int) -> None:
    """Refuse a file whose decoding would take far more memory or time than its size suggests."""
    check_cost(path, image.size, _STORED_BYTES.get(image.mode, 4) + channels)
    if image.info.get("progressive") and Path(path).read_bytes().count(b"\xff\xda") > _MAX_SCANS:
        raise UserError(
            f"{path}: is a JPEG file of more than {_MAX_SCANS} scans; save it anew or leave it out."
        )


def photo_size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels as stored (EXIF orientation is not applied), read from the file's header."""
    if is_exr(path):
        return exr_header(path)["size"]
    with open_photo(path) as image:
        return image.size


def check_photos(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the sizes of photos after decoding them, coarsely where the format allows it, to find broken ones."""

    def check(path: Path) -> tuple[int, int]:
        with open_photo(path) as image:
            size = image.size
            image.draft(None, (max(1, size[0] // 8), max(1, size[1] // 8)))
            image.load()
            return size

    with ThreadPoolExecutor() as pool:
        return list(pool.map(check, paths))


def read_photo(path: Path, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a photo as 8-bit colour. Like COLMAP, it does not apply the EXIF orientation.

    Args: size: width and height of the photo's lens; a photo of another size is refused before it is decoded.
    Returns: pixels [H,W,3] u8, and [H,W] bool of the opaque ones, None where all are.
    Raises: UserError naming the file.
    """
    with open_photo(path) as image:
        _check_size(path, image, size)
        image.load()
        if image.mode.startswith("I") or image.mode == "F":
            return _grey_to_bytes(image), None
        if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
            pixels = _converted(image, "RGBA", 4)
            opaque = pixels[..., 3] >= 128
            return np.ascontiguousarray(pixels[..., :3]), None if opaque.all() else opaque
        return _converted(image, "RGB", 3), None


def read_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a mask [H,W] bool: True where any channel of the image is above 0 and the pixel is opaque."""
    with open_photo(path, channels=1) as image:
        _check_size(path, image, size)
        if image.mode in ("1", "L") and "transparency" not in image.info:
            image.load()
            return _converted(image, "L", 1)[..., 0] > 0
    pixels, opaque = read_photo(path, size)
    mask = np.asarray(pixels.any(axis=2))
    return mask if opaque is None else mask & opaque


def _check_size(path: Path, image: Image.Image, size: tuple[int, int] | None) -> None:
    if size is not None and image.size != tuple(size):
        raise UserError(
            f"{path}: is {image.width}x{image.height} pixels, its camera has {size[0]}x{size[1]}; "
            "use the photos that the cameras were computed from."
        )


def _strips(image: Image.Image) -> Iterator[tuple[slice, Image.Image]]:
    """Yield a few rows at a time: conversions of a whole photo would take several times its memory."""
    rows = max(1, _STRIP_PIXELS // image.width)
    for top in range(0, image.height, rows):
        bottom = min(top + rows, image.height)
        yield slice(top, bottom), image.crop((0, top, image.width, bottom))


def _converted(image: Image.Image, mode: str, channels: int) -> np.ndarray:
    """Return a photo [H,W,channels] u8 in one of Pillow's modes."""
    pixels = np.empty((image.height, image.width, channels), np.uint8)
    for rows, strip in _strips(image):
        pixels[rows] = np.asarray(strip.convert(mode)).reshape(-1, image.width, channels)
    return pixels


def write_reduced(source: Path, target: Path, size: tuple[int, int]) -> None:
    """Write a smaller copy (width, height) of a photo in its own format, with its EXIF data; JPEG at quality 95.

    EXR photos are averaged in linear light; their copies have the pixels only.

    Raises: UserError for a photo that cannot be read, or that has more than 8 bits, which the copy would lose; OSError
        where the copy cannot be written.
    """
    if is_exr(source):
        _write_reduced_exr(source, target, size)
        return
    with open_photo(source) as image:
        if image.mode.startswith("I") or image.mode == "F":
            raise UserError(
                f"{source}: has more than 8 bits, which a smaller copy would lose; resize it before the import, "
                "or leave --longest-side out."
            )
        palette = image.mode in ("P", "1")
        full = image.convert("RGBA" if "transparency" in image.info else "RGB") if palette else image
        kept = {key: image.info[key] for key in ("exif", "icc_profile") if image.info.get(key)}
        reduced, kind = full.resize(size, Image.Resampling.LANCZOS), image.format
    reduced.save(target, format=kind, quality=95, **kept)


def _write_reduced_exr(source: Path, target: Path, size: tuple[int, int]) -> None:
    pixels = read_exr(source)
    parts = (Image.fromarray(pixels[..., i]) for i in range(pixels.shape[2]))
    reduced = np.stack([np.asarray(part.resize(size, Image.Resampling.BOX)) for part in parts], axis=2)
    save_exr(target, {"RGBA" if pixels.shape[2] == 4 else "RGB": reduced})


def write_reduced_mask(source: Path, target: Path, size: tuple[int, int]) -> None:
    """Write a smaller copy of a mask as PNG: a pixel counts only where every pixel that it covers does."""
    mask = Image.fromarray(read_mask(source).astype(np.uint8) * 255)
    write_mask(np.asarray(mask.resize(size, Image.Resampling.BOX)) == 255, target)


def write_mask(mask: np.ndarray, target: Path) -> None:
    """Write a mask [H,W] bool as PNG, white where it is true. Raises: OSError where the file cannot be written."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(target, format="PNG")


def _grey_to_bytes(image: Image.Image) -> np.ndarray:
    """Return one channel [H,W] as [H,W,3] bytes: 16 or 32 bits times 1/257, floats times 255 unless some exceed 1."""
    largest = 65535.0
    if image.mode == "F":
        highest = max(np.nan_to_num(np.asarray(strip)).max(initial=0) for _, strip in _strips(image))
        largest = 255.0 if highest > 1 else 1.0
    pixels = np.empty((image.height, image.width, 3), np.uint8)
    for rows, strip in _strips(image):
        values = np.nan_to_num(np.asarray(strip).astype(np.float64)) * (255.0 / largest)
        pixels[rows] = np.clip(np.rint(values), 0, 255).astype(np.uint8)[..., None]
    return pixels
