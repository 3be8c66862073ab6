"""Photos and masks on disk: their sizes, their pixels, and smaller copies of them."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from PIL import Image

from adop.errors import UserError

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def photo_size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels as stored (EXIF orientation is not applied), read from the file's header."""
    try:
        with Image.open(path) as image:
            return image.size
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def check_photos(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Return the sizes of photos after decoding them, coarsely where the format allows it, to find broken ones."""

    def check(path: Path) -> tuple[int, int]:
        try:
            with Image.open(path) as image:
                size = image.size
                image.draft(None, (max(1, size[0] // 8), max(1, size[1] // 8)))
                image.load()
                return size
        except _BROKEN as error:
            raise _unreadable(path, error) from error

    with ThreadPoolExecutor() as pool:
        return list(pool.map(check, paths))


def read_photo(path: Path, size: tuple[int, int] | None = None) -> tuple[np.ndarray, np.ndarray | None]:
    """Read a photo as 8-bit colour. Like COLMAP, it does not apply the EXIF orientation.

    Args: size: width and height of the photo's lens; a photo of another size is refused before it is decoded.
    Returns: pixels [H,W,3] u8, and [H,W] bool of the opaque ones, None where all are.
    Raises: UserError naming the file.
    """
    try:
        with Image.open(path) as image:
            if size is not None and image.size != tuple(size):
                raise UserError(
                    f"{path}: is {image.width}x{image.height} pixels, its camera has {size[0]}x{size[1]}; "
                    "use the photos that the cameras were computed from."
                )
            image.load()
            if image.mode.startswith("I") or image.mode == "F":
                return _grey_to_bytes(np.asarray(image)), None
            if image.mode in ("RGBA", "LA", "PA", "RGBa", "La") or "transparency" in image.info:
                pixels = np.asarray(image.convert("RGBA"))
                opaque = pixels[..., 3] >= 128
                return np.ascontiguousarray(pixels[..., :3]), None if opaque.all() else opaque
            return np.asarray(image.convert("RGB")), None
    except UserError:
        raise
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def read_mask(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Read a mask [H,W] bool: True where any channel of the image is above 0 and the pixel is opaque."""
    pixels, opaque = read_photo(path, size)
    mask = np.asarray(pixels.any(axis=2))
    return mask if opaque is None else mask & opaque


def write_reduced(source: Path, target: Path, size: tuple[int, int]) -> None:
    """Write a smaller copy (width, height) of a photo in its own format, with its EXIF data; JPEG at quality 95.

    Raises: UserError for a photo that cannot be read, or that has more than 8 bits, which the copy would lose; OSError
        where the copy cannot be written.
    """
    try:
        with Image.open(source) as image:
            if image.mode.startswith("I") or image.mode == "F":
                raise UserError(
                    f"{source}: has more than 8 bits, which a smaller copy would lose; resize it before the import, "
                    "or leave --longest-side out."
                )
            palette = image.mode in ("P", "1")
            full = image.convert("RGBA" if "transparency" in image.info else "RGB") if palette else image
            kept = {key: image.info[key] for key in ("exif", "icc_profile") if image.info.get(key)}
            reduced, kind = full.resize(size, Image.Resampling.LANCZOS), image.format
    except UserError:
        raise
    except _BROKEN as error:
        raise _unreadable(source, error) from error
    reduced.save(target, format=kind, quality=95, **kept)


def write_reduced_mask(source: Path, target: Path, size: tuple[int, int]) -> None:
    """Write a smaller copy of a mask as PNG: a pixel counts only where every pixel that it covers does."""
    mask = Image.fromarray(read_mask(source).astype(np.uint8) * 255)
    write_mask(np.asarray(mask.resize(size, Image.Resampling.BOX)) == 255, target)


def write_mask(mask: np.ndarray, target: Path) -> None:
    """Write a mask [H,W] bool as PNG, white where it is true. Raises: OSError where the file cannot be written."""
    Image.fromarray(mask.astype(np.uint8) * 255).save(target, format="PNG")


def _grey_to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Return one channel [H,W] as [H,W,3] bytes: 16 or 32 bits times 1/257, floats times 255 unless some exceed 1."""
    values = np.nan_to_num(pixels.astype(np.float64))
    largest = 255.0 if pixels.dtype.kind == "f" and values.max(initial=0) > 1 else 1.0
    largest = largest if pixels.dtype.kind == "f" else 65535.0
    values *= 255.0 / largest
    grey = np.clip(np.rint(values), 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def _unreadable(path: Path, error: Exception) -> UserError:
    if not Path(path).is_file():
        return UserError(f"{path}: photo not found.")
    return UserError(f"{path}: cannot be read as a photo ({error}); replace it or leave it out.")
