"""Reading EXR photos: linear light, which is encoded as sRGB so that they can be used like any other photo."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adop.errors import UserError, one_line, quoted
from adop.images.cost import check_cost
from adop.images.srgb import srgb_bytes

_MAX_SIDE = 1 << 16  # pixels
_DECODED_BYTES = 16  # per pixel: red, green, blue and alpha as floats


def exr_header(path: Path) -> dict[str, Any]:
    """Return the header of an EXR file's first part.

    Raises: UserError for a damaged file, and for one whose header claims far more pixels than its size bears out.
    """
    import OpenEXR

    if not os.path.isfile(path):
        raise UserError(f"{path}: photo not found.")
    header = _read(path, lambda: OpenEXR.File(str(path), header_only=True).header())
    width, height = _read(path, lambda: _size(header))
    if not (0 < width <= _MAX_SIDE and 0 < height <= _MAX_SIDE):
        raise UserError(f"{path}: claims to be {width}x{height} pixels; save it anew or leave it out.")
    check_cost(path, (width, height), _DECODED_BYTES)
    if not ({"R", "G", "B"} <= _channels(header) or "Y" in _channels(header)):
        raise UserError(
            f"{path}: has the channels {quoted(', '.join(sorted(_channels(header))))}; a photo needs R, G and B, or Y."
        )
    return header | {"size": (width, height)}


def read_exr(path: Path) -> np.ndarray:
    """Return a photo's linear light [H, W, 3] float32, or [H, W, 4] with its alpha channel.

    Raises: UserError naming the file.
    """
    import OpenEXR

    header = exr_header(path)
    names = ["R", "G", "B"] if {"R", "G", "B"} <= _channels(header) else ["Y", "Y", "Y"]
    names += ["A"] if "A" in _channels(header) else []

    def read() -> np.ndarray:
        parts = OpenEXR.File(str(path), separate_channels=True).channels()
        return np.stack([parts[name].pixels.astype(np.float32) for name in names], axis=2)

    pixels = _read(path, read)
    if pixels.shape[:2] != header["size"][::-1]:
        raise UserError(f"{path}: its channels do not have the photo's size; save it anew or leave it out.")
    return pixels


def exr_image(path: Path) -> Image.Image:
    """Return a photo as Pillow has it, RGB or RGBA of 8 bits, encoded as sRGB. Raises: UserError naming the file."""
    pixels = read_exr(path)
    colour = srgb_bytes(pixels[..., :3])
    if pixels.shape[2] == 3:
        return Image.fromarray(colour)
    alpha = np.rint(255 * np.clip(np.nan_to_num(pixels[..., 3:]), 0, 1)).astype(np.uint8)
    return Image.fromarray(np.concatenate((colour, alpha), axis=2))


def _size(header: dict[str, Any]) -> tuple[int, int]:
    low, high = header["dataWindow"]
    return int(high[0]) - int(low[0]) + 1, int(high[1]) - int(low[1]) + 1


def _channels(header: dict[str, Any]) -> set[str]:
    return {channel.name for channel in header["channels"]}


def _read(path: Path, read: Callable[[], Any]) -> Any:
    try:
        return read()
    except Exception as error:  # OpenEXR raises RuntimeError, or whatever its Python side stumbles over
        raise UserError(
            f"{path}: cannot be read as an EXR photo ({one_line(error)}); replace it or leave it out."
        ) from error
