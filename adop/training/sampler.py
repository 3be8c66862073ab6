"""Batches of random crops of the photos, at random magnification."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adop.scene.photo_cache import PhotoCache
from adop.scene.scene import Scene


@dataclass(frozen=True)
class Batch:
    """B crops of one size, from photos of one lens model."""

    photos: Tensor  # [B] index of the photo
    crop: Tensor  # [B, 3] zoom, offset_x, offset_y: uv of the crop = zoom * uv of the photo - offset
    target: Tensor  # [B, 3, H, W] in [0, 1]
    mask: Tensor  # [B, 1, H, W] 1 where the photo is compared, 0 where it is masked

    def pinned(self) -> Batch:
        """Return the batch in pinned memory, from which a GPU copies without waiting."""
        return replace(self, target=self.target.pin_memory(), mask=self.mask.pin_memory())


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


def sample(
    scene: Scene, cache: PhotoCache, photos: list[int], config: CropConfig, generator: torch.Generator
) -> Batch:
    """Draw crops of `config.side` pixels, or of the shorter side of the smallest chosen photo, from the given photos.

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
    crops = torch.tensor([(side / source, x * side / source, y * side / source) for x, y, source in windows])
    if len(chosen) == 1:
        cut = [_cut(cache, chosen[0], windows[0], side)]
    else:
        with ThreadPoolExecutor() as pool:
            cut = list(pool.map(lambda photo, window: _cut(cache, photo, window, side), chosen, windows))
    targets, masks = (torch.from_numpy(np.stack(part)) for part in zip(*cut, strict=True))
    return Batch(torch.tensor(chosen), crops, targets, masks)


def _cut(
    cache: PhotoCache, photo: int, window: tuple[int, int, int], side: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return target [3, side, side] and mask [1, side, side] of a window (x, y, side) of a photo.

    It uses no torch, whose threads would compete with those that train.
    """
    x, y, source = window
    part = np.s_[y : y + source, x : x + source]
    target = _resize(cache.get(photo).numpy()[part], side).astype(np.float32) / 255
    mask = cache.mask(photo)
    if mask is None:
        counts = np.ones((1, side, side), np.float32)
    else:
        counts = (_resize(mask.numpy()[part].astype(np.uint8) * 255, side) > 252).astype(np.float32)[None]
    return np.ascontiguousarray(target.transpose(2, 0, 1)), counts


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
