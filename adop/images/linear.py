"""Photos whose values are linear light, from raw converters: copies that are encoded like other photos."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from adop.errors import UserError, one_line
from adop.images.exif import ORIENTATION, kept_exif
from adop.images.photo_files import open_photo, read_photo
from adop.images.srgb import srgb_bytes

_CODECS = {"PNG": "png", "TIFF": "tiff"}  # FFmpeg's: Pillow reads only the upper 8 bits of 16-bit colours


def write_encoded(source: Path, target: Path) -> None:
    """Write a copy of a photo with linear values as a PNG file, encoded as sRGB with 8 bits, with its EXIF data.

    The largest value of the source's type is white.

    Raises: UserError for a photo that cannot be read; OSError where the copy cannot be written.
    """
    with open_photo(source) as image:
        exif, kind, orientation = kept_exif(image), str(image.format), image.getexif().get(ORIENTATION)
    pixels = _read_16_bits(source, _CODECS[kind]) if kind in _CODECS else None
    if pixels is not None:
        encoded = _encoded(pixels[..., :3] / np.float32(65535), pixels[..., 3] >= 1 << 15)
        if kind == "TIFF" and orientation is not None:  # Pillow turns these upright as it reads them
            encoded.getexif()[ORIENTATION] = orientation
            encoded = ImageOps.exif_transpose(encoded)
    else:
        colours, opaque = read_photo(source)
        encoded = _encoded(colours / np.float32(255), opaque)
    encoded.save(target, format="PNG", compress_level=3, exif=exif)


def _encoded(linear: np.ndarray, opaque: np.ndarray | None) -> Image.Image:
    """Return linear light [H, W, 3] as sRGB, with an alpha channel where some pixels are not opaque, [H, W] bool."""
    colours = srgb_bytes(linear)
    if opaque is None or opaque.all():
        return Image.fromarray(colours)
    return Image.fromarray(np.dstack((colours, 255 * opaque.astype(np.uint8))))


def _read_16_bits(path: Path, codec: str) -> np.ndarray | None:
    """Return a photo [H, W, 4] uint16, red, green, blue and alpha; None for one of 8 bits."""
    import av

    try:
        context = av.CodecContext.create(codec, "r")
        frames = [*context.decode(av.Packet(path.read_bytes())), *context.decode(None)]  # type: ignore[attr-defined]
        if not frames or max(part.bits for part in frames[0].format.components) <= 8:
            return None
        return frames[0].to_ndarray(format="rgba64le")
    except (av.error.FFmpegError, ValueError) as error:
        raise UserError(
            f"{path}: cannot be read as a photo of 16 bits ({one_line(error)}); save it anew or leave it out."
        ) from error
