"""Crops cut by the kernels: bit for bit those of Pillow, from photos of several sizes in one buffer."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from adop.config import TrainConfig
from adop.run.device_photos import (
    CropTable,
    DevicePhotos,
    crop_table,
    cut_crops,
    load_photos,
    pack_photos,
    photos_on_gpu,
    photos_that_fit,
)
from adop.run.run import Run, new_run
from adop.training.steps.sampler import Pixels
from adop.training.steps.step import batch_pixels, draw_batch

DEVICES = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
SIZES = ((300, 400), (411, 290), (256, 256))  # height and width


@pytest.fixture(scope="module")
def run(small_folder: Path) -> Run:
    return new_run(small_folder, Path(), TrainConfig(crop=96, batch=3, device="cpu"), lambda _: None)


def random_photos() -> list[tuple[int, Tensor, Tensor | None]]:
    """Return photos of noise, of which the first has no mask."""
    random = np.random.default_rng(0)
    photos = [torch.from_numpy(random.integers(0, 256, (*size, 3), dtype=np.uint8)) for size in SIZES]
    masks = [torch.from_numpy(random.random(size) > 0.02) for size in SIZES]
    return [(10 * i, photo, masks[i] if i else None) for i, photo in enumerate(photos)]


def packed_on(device: str) -> DevicePhotos:
    return pack_photos(random_photos(), sum(height * width for height, width in SIZES), torch.device(device))


def resized(image: np.ndarray, window: tuple[int, int, int], side: int) -> np.ndarray:
    x, y, source = window
    cut = Image.fromarray(image).crop((x, y, x + source, y + source))
    return np.asarray(cut.resize((side, side), Image.Resampling.BILINEAR))


@pytest.mark.parametrize("device", DEVICES)
def test_crops_equal_pillows(device: str) -> None:
    packed, random = packed_on(device), np.random.default_rng(1)
    photos = random_photos()
    for side in (1, 7, 64, 150, 256, *random.integers(2, 200, 10).tolist()):
        windows = []
        for height, width in SIZES:
            source = int(random.integers(max(1, side // 3), min(3 * side, height, width) + 1))
            x, y = int(random.integers(width - source + 1)), int(random.integers(height - source + 1))
            windows.append((x, y, source))
        target, mask = cut_crops(crop_table(packed, [index for index, _, _ in photos], windows, side))
        for i, (_, photo, counts) in enumerate(photos):
            expected = resized(photo.numpy(), windows[i], side).astype(np.float32) / 255
            assert np.array_equal(target[i].permute(1, 2, 0).cpu().numpy(), expected), (side, windows[i])
            # A pixel counts unless a masked one contributes more than three 8-bit steps to it.
            whole = np.ones((side, side), bool)
            if counts is not None:
                whole = resized(counts.numpy().astype(np.uint8) * 255, windows[i], side) > 252
            assert np.array_equal(mask[i, 0].cpu().numpy(), whole.astype(np.float32)), (side, windows[i])


@pytest.mark.parametrize("device", DEVICES)
def test_a_window_of_the_crops_size_is_copied(device: str) -> None:
    _, photo, counts = random_photos()[1]
    target, mask = cut_crops(crop_table(packed_on(device), [10], [(33, 200, 200)], 200))
    assert counts is not None
    assert torch.equal(target[0].cpu(), photo[200:400, 33:233].permute(2, 0, 1).float() / 255)
    assert torch.equal(mask[0, 0].cpu(), counts[200:400, 33:233].float())


@pytest.mark.parametrize("device", DEVICES)
def test_photos_may_begin_beyond_two_gigabytes(device: str) -> None:
    begin = 2**31 + 7  # the memory before it is never touched
    buffer = torch.empty(begin + 3 * 50 * 40, dtype=torch.uint8, device=device)
    photo = torch.randint(256, (50, 40, 3), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    buffer[begin:] = photo.flatten().to(device)
    packed = DevicePhotos(buffer, buffer[:0], {0: (begin, -1, 40)})
    target, mask = cut_crops(crop_table(packed, [0], [(2, 12, 36)], 36))
    assert torch.equal(target[0].cpu(), photo[12:48, 2:38].permute(2, 0, 1).float() / 255)
    assert bool((mask == 1).all())


@pytest.mark.parametrize("device", DEVICES)
def test_a_step_sees_the_same_pixels_wherever_they_are_cut(small_folder: Path, device: str) -> None:
    config = TrainConfig(crop=96, batch=3, device=device)
    run = new_run(small_folder, Path(), config, lambda _: None)
    photos = load_photos(run)
    for step in range(4):
        on_cpu, later = draw_batch(run, step), draw_batch(run, step, photos)
        assert isinstance(on_cpu.pixels, Pixels) and isinstance(later.pixels, CropTable)
        assert torch.equal(on_cpu.photos, later.photos) and torch.equal(on_cpu.crop, later.crop)
        expected, found = batch_pixels(on_cpu, run.device), batch_pixels(later, run.device)
        assert found.target.device == run.device
        assert torch.equal(found.target, expected.target) and torch.equal(found.mask, expected.mask)


def test_photos_that_do_not_fit_stay_on_the_cpu(run: Run) -> None:
    said: list[str] = []
    pixels = len(run.split["train"]) * 480 * 360
    assert photos_that_fit(run, 10 * pixels - 1, said.append) is None
    assert len(said) == 1 and "training crops are cut on the CPU" in said[0] and "40 %" in said[0]
    held = photos_that_fit(run, 10 * pixels, said.append)
    assert held is not None and held.pixels.numel() == 3 * pixels and len(said) == 1
    assert set(held.places) == set(run.split["train"])


def test_on_a_cpu_no_photos_are_copied(run: Run) -> None:
    assert photos_on_gpu(run, print) is None
