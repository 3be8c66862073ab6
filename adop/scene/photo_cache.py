"""Pixels of photos and masks, read when they are asked for and kept while memory allows."""

from __future__ import annotations

import threading
from collections import OrderedDict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from adop.errors import UserError

if TYPE_CHECKING:
    import torch

    from adop.scene.scene import Scene

_BROKEN = (OSError, SyntaxError, ValueError, EOFError, Image.DecompressionBombError)


def photo_size(path: Path) -> tuple[int, int]:
    """Return width and height in pixels as stored (EXIF orientation is not applied), from its header."""
    try:
        with Image.open(path) as image:
            return image.size
    except _BROKEN as error:
        raise _unreadable(path, error) from error


def reduction(size: tuple[int, int], longest: int) -> int:
    """Return the whole factor by which a photo is reduced to about `longest` pixels along its longer side."""
    return max(1, round(max(size) / longest))


def check_photos(paths: Sequence[Path]) -> list[tuple[int, int]]:
    """Decode photos, coarsely where the format allows it, to find broken ones; return their sizes."""

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
    """Read a photo as stored: 8 bits, colour; EXIF orientation is not applied, as COLMAP does not.

    Args: size: the width and height that its lens has; another size is refused before anything is decoded.
    Returns: pixels [H,W,3] u8, and [H,W] bool of what is opaque, None where all is.
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
    """Read a mask [H,W] bool: True where the 8-bit picture is not 0 (any channel) and not transparent."""
    pixels, opaque = read_photo(path, size)
    mask = np.asarray(pixels.any(axis=2))
    return mask if opaque is None else mask & opaque


def write_reduced(source: Path, target: Path, size: tuple[int, int]) -> None:
    """Write a photo in a smaller size (width, height), its EXIF data kept; JPEG in quality 95.

    Raises: UserError for one that cannot be read, or has more than 8 bits, which would be lost; OSError from writing.
    """
    try:
        with Image.open(source) as image:
            if image.mode.startswith("I") or image.mode == "F":
                raise UserError(
                    f"{source}: has more than 8 bits, and is not made smaller; do it before the import, or leave "
                    "--longest-side out."
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
    """Write a mask in a smaller size, as PNG: a pixel counts where all that it stands for does."""
    mask = Image.fromarray(read_mask(source).astype(np.uint8) * 255)
    whole = np.asarray(mask.resize(size, Image.Resampling.BOX)) == 255
    Image.fromarray(whole.astype(np.uint8) * 255).save(target, format="PNG")


_Entry = tuple["torch.Tensor", "torch.Tensor | None"]


class PhotoCache:
    """Photos and masks of a scene, the least recently used forgotten first. Safe to share among threads."""

    def __init__(self, scene: Scene, max_bytes: int = 4 << 30) -> None:
        self._scene = scene
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[int, int], _Entry] = OrderedDict()  # by photo and scale
        self._lock = threading.Lock()

    def get(self, index: int) -> torch.Tensor:
        """Return the photo [H,W,3] u8, of the size of its lens. Do not write into it."""
        return self._fetch(index)[0]

    def image(self, index: int, device: torch.device) -> torch.Tensor:
        """Return the photo [1,3,H,W] float32 in [0,1] on a device."""
        return self.get(index).permute(2, 0, 1)[None].float().to(device) / 255

    def mask(self, index: int) -> torch.Tensor | None:
        """Return [H,W] bool, True where the photo counts; None where all of it does."""
        return self._fetch(index)[1]

    def reduced(self, index: int, scale: int, device: torch.device) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the photo [1,3,h,w] and its mask [1,1,h,w], 0 or 1, as means of scale x scale pixels."""
        pixels, given = self._fetch(index, scale)
        image = self.image(index, device) if scale == 1 else pixels.to(device).float()
        whole = image.new_ones(image[:, :1].shape)
        return image, whole if given is None else given.reshape(whole.shape).to(image)

    def _fetch(self, index: int, scale: int = 1) -> _Entry:
        key = index, scale
        with self._lock:
            if key in self._kept:
                self._kept.move_to_end(key)
                return self._kept[key]
        entry = self._read(index) if scale == 1 else self._reduce(index, scale)
        with self._lock:
            if key not in self._kept:
                self._kept[key] = entry
                self._bytes += _size(entry)
            while self._bytes > self._max_bytes and len(self._kept) > 1:
                self._bytes -= _size(self._kept.popitem(last=False)[1])
        return entry

    def _reduce(self, index: int, scale: int) -> _Entry:
        """Return the reduced photo [1,3,h,w] in half precision, a sixteenth of a byte exact, and its mask [h,w]."""
        import torch.nn.functional as F

        pixels, mask = self._fetch(index)
        image = F.avg_pool2d(pixels.permute(2, 0, 1)[None].float(), scale).div_(255).half()
        whole = None if mask is None else F.avg_pool2d(mask[None, None].float(), scale)[0, 0] > 0.99
        return image, whole

    def _read(self, index: int) -> tuple[torch.Tensor, torch.Tensor | None]:
        import torch

        photo = self._scene.photos[index]
        lens = self._scene.lenses[photo.lens]
        pixels, mask = read_photo(photo.file, (lens.width, lens.height))
        if photo.mask is not None:
            given = read_mask(photo.mask, (lens.width, lens.height))
            mask = given if mask is None else mask & given
        return torch.from_numpy(pixels.copy()), None if mask is None else torch.from_numpy(mask)


def _size(entry: _Entry) -> int:
    return sum(tensor.nbytes for tensor in entry if tensor is not None)


def _grey_to_bytes(pixels: np.ndarray) -> np.ndarray:
    """Turn one channel of 16 or 32 bits (by 1/257) or float (by 255 where it stays within 1) into bytes."""
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
