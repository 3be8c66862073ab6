"""Batches of random crops of the photos, at random magnification."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adop.ranks import Ranks
from adop.run.device_photos import CropTable, Window
from adop.scene.photo_cache import PhotoCache
from adop.scene.scene import Scene


@dataclass(frozen=True)
class Crops:
    """Which windows of which photos, all of one lens model, a batch shows."""

    photos: list[int]  # index of the photo
    windows: list[Window]
    side: int  # to which the windows are scaled, pixels

    def part(self, own: Ranks) -> Crops:
        """Return the crops of one of several processes."""
        chosen = slice(own.rank, None, own.count)
        return Crops(self.photos[chosen], self.windows[chosen], self.side)


@dataclass(frozen=True)
class Pixels:
    """What B crops show."""

    target: Tensor  # [B, 3, H, W] in [0, 1]
    mask: Tensor  # [B, 1, H, W] 1 where the photo is compared, 0 where it is masked

    def pinned(self) -> Pixels:
        """Return the pixels in pinned memory, from which a GPU copies without waiting."""
        return Pixels(self.target.pin_memory(), self.mask.pin_memory())


@dataclass(frozen=True)
class Batch:
    """B crops of one size, from photos of one lens model."""

    photos: Tensor  # [B] index of the photo
    crop: Tensor  # [B, 3] zoom, offset_x, offset_y: uv of the crop = zoom * uv of the photo - offset
    side: int  # pixels
    pixels: Pixels | CropTable  # a table where the photos are on the GPU, which cuts the crops in the step
    whole: int  # number of crops of all processes together


@dataclass(frozen=True)
class CropConfig:
    """Which crops a batch holds."""

    batch: int  # crops, each from another photo
    side: int  # pixels
    zoom: tuple[float, float]  # range of the random magnification


def step_generator(seed: int, step: int) -> torch.Generator:
    """Return the generator of a step, a function of seed and step alone: a resumed run draws the same numbers."""
    generator = torch.Generator()
    generator.manual_seed((seed * 0x9E3779B97F4A7C15 + step * 0xBF58476D1CE4E5B9 + 1) % 2**63)
    return generator


def sample(scene: Scene, photos: list[int], config: CropConfig, generator: torch.Generator) -> Crops:
    """Choose crops of `config.side` pixels, or of the shorter side of the smallest chosen photo, from the given photos.

    The zoom is uniform in its range. The position is uniform over the photo and half a crop around it, then moved
    inside, so that borders are drawn more often.

    Source: the crops of ADOP (Rückert et al. 2022), with an area filter where the zoom is below 1.
    """

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=generator))

    first = photos[int(torch.randint(len(photos), (), generator=generator))]
    model = scene.lenses[scene.photos[first].lens].model
    same = [i for i in photos if scene.lenses[scene.photos[i].lens].model == model]
    order = [i for i in torch.randperm(len(same), generator=generator).tolist() if same[i] != first]
    chosen = [first] + [same[i] for i in order[: config.batch - 1]]
    sizes = [
        (scene.lenses[scene.photos[i].lens].width, scene.lenses[scene.photos[i].lens].height) for i in chosen
    ]
    side = min(config.side, min(min(size) for size in sizes))
    windows = []
    for width, height in sizes:
        source = min(round(side / uniform(*config.zoom)), width, height)
        x, y = (
            round(min(max(uniform(-source / 2, size - source / 2), 0), size - source))
            for size in (width, height)
        )
        windows.append((x, y, source))
    return Crops(chosen, windows, side)


def batch_of(crops: Crops, pixels: Pixels | CropTable, whole: int) -> Batch:
    """Return the batch of crops, which are all or a part of `whole` crops."""
    side = crops.side
    crop = [(side / source, x * side / source, y * side / source) for x, y, source in crops.windows]
    return Batch(torch.tensor(crops.photos), torch.tensor(crop), side, pixels, whole)


def cut(cache: PhotoCache, crops: Crops) -> Pixels:
    """Cut crops on the CPU."""

    def one(photo: int, window: Window) -> tuple[np.ndarray, np.ndarray]:
        return cut_window(cache.get(photo), cache.mask(photo), window, crops.side)

    if len(crops.photos) == 1:
        parts = [one(crops.photos[0], crops.windows[0])]
    else:
        with ThreadPoolExecutor() as pool:
            parts = list(pool.map(one, crops.photos, crops.windows))
    target, mask = (torch.from_numpy(np.stack(part)) for part in zip(*parts, strict=True))
    return Pixels(target, mask)


def cut_window(
    photo: Tensor, counts: Tensor | None, window: Window, side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return target [3, side, side] and mask [1, side, side] of a window of a photo, by Pillow.

    It uses no torch, whose threads would compete with those that train.

    Args:
        photo: [H, W, 3] u8.
        counts: [H, W] bool, True where the photo counts; None: everywhere.
    """
    x, y, source = window
    part = np.s_[y : y + source, x : x + source]
    target = _resize(photo.numpy()[part], side).astype(np.float32) / 255
    if counts is None:
        mask = np.ones((1, side, side), np.float32)
    else:
        mask = (_resize(counts.numpy()[part].astype(np.uint8) * 255, side) > 252).astype(np.float32)[None]
    return np.ascontiguousarray(target.transpose(2, 0, 1)), mask


class BatchPrefetcher:
    """Return the batch of each step, and draw the next one in a thread meanwhile.

    Args:
        draw: returns the batch of a step. It depends on the step alone, so it does not matter when it is called.
    """

    def __init__(self, draw: Callable[[int], Batch]) -> None:
        self._draw = draw
        self._pool = ThreadPoolExecutor(1, "batches")
        self._next: tuple[int, Future[Batch]] | None = None

    def close(self) -> None:
        """End the thread and drop the batch that it has begun."""
        self._pool.shutdown(cancel_futures=True)

    def batch(self, step: int) -> Batch:
        """Return the batch of a step, and begin to draw that of the next step."""
        ready = self._next[1] if self._next and self._next[0] == step else self._pool.submit(self._draw, step)
        self._next = (step + 1, self._pool.submit(self._draw, step + 1))
        return ready.result()


def _resize(image: np.ndarray, side: int) -> np.ndarray:
    if image.shape[0] == side:
        return image
    return np.asarray(Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR))
