"""The pixels of a scene's photos and masks, read when they are first used and kept while memory allows."""

from __future__ import annotations

import threading
from collections import OrderedDict

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.images.photo_files import read_mask, read_photo
from adop.scene.scene import Scene

CACHE_BYTES = 4 << 30  # of photos and masks that are kept in memory


def reduction(size: tuple[int, int], longest: int) -> int:
    """Return the whole factor that reduces a photo to about `longest` pixels along its longer side."""
    return max(1, round(max(size) / longest))


_Entry = tuple[Tensor, Tensor | None]  # pixels and mask


class PhotoCache:
    """Photos and masks of a scene; the least recently used are dropped first. Safe to share among threads."""

    def __init__(self, scene: Scene, max_bytes: int = CACHE_BYTES) -> None:
        """Make an empty cache that keeps up to `max_bytes` of pixels, and always the photo that was used last."""
        self._scene = scene
        self._max_bytes = max_bytes
        self._bytes = 0
        self._kept: OrderedDict[tuple[int, int], _Entry] = OrderedDict()  # by photo and scale
        self._left_out: dict[int, Tensor] = {}  # [H,W] bool by photo
        self._lock = threading.Lock()

    def get(self, index: int) -> Tensor:
        """Return the photo [H,W,3] u8, of the size of its lens. Callers must not write into it."""
        return self._fetch(index)[0]

    def image(self, index: int, device: torch.device) -> Tensor:
        """Return the photo [1,3,H,W] float32 in [0,1] on a device."""
        return self.get(index).permute(2, 0, 1)[None].float().to(device) / 255

    def mask(self, index: int) -> Tensor | None:
        """Return [H,W] bool, True where the photo counts; None where all of it does."""
        return self._fetch(index)[1]

    def reduced(self, index: int, scale: int, device: torch.device) -> tuple[Tensor, Tensor]:
        """Return the photo [1,3,h,w], averaged over scale x scale pixels, and its mask [1,1,h,w] of 0 and 1."""
        pixels, given = self._fetch(index, scale)
        image = self.image(index, device) if scale == 1 else pixels.to(device).float()
        whole = image.new_ones(image[:, :1].shape)
        return image, whole if given is None else given.reshape(whole.shape).to(image)

    def leave_out(self, index: int, hidden: Tensor) -> None:
        """Do not count the pixels of a photo where `hidden`, [H,W] bool, is true, from now on."""
        with self._lock:
            self._left_out[index] = hidden.cpu()
            for key in [key for key in self._kept if key[0] == index]:
                self._bytes -= _size(self._kept.pop(key))

    @property
    def left_out(self) -> dict[int, Tensor]:
        """[H,W] bool by photo, the pixels that `leave_out` was told of."""
        return self._left_out

    @property
    def bytes(self) -> int:
        """How much memory the kept photos and masks take."""
        return self._bytes

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
        """Return the reduced photo [1,3,h,w] in half precision, exact to 1/16 of a grey value, and its mask [h,w]."""
        pixels, mask = self._fetch(index)
        image = F.avg_pool2d(pixels.permute(2, 0, 1)[None].float(), scale).div_(255).half()
        whole = None if mask is None else F.avg_pool2d(mask[None, None].float(), scale)[0, 0] > 0.99
        return image, whole

    def _read(self, index: int) -> _Entry:
        photo = self._scene.photos[index]
        lens = self._scene.lenses[photo.lens]
        pixels, mask = read_photo(photo.file, (lens.width, lens.height))
        if photo.mask is not None:
            given = read_mask(photo.mask, (lens.width, lens.height))
            mask = given if mask is None else mask & given
        counts = None if mask is None else torch.from_numpy(mask)
        if index in self._left_out:
            shown = ~self._left_out[index]
            counts = shown if counts is None else counts & shown
        return torch.from_numpy(pixels.copy()), counts


def _size(entry: _Entry) -> int:
    return sum(tensor.nbytes for tensor in entry if tensor is not None)
