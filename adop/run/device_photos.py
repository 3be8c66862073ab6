"""The photos of a run as bytes on its device, and crops that a kernel cuts from them there."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import torch
from torch import Tensor

from adop.backend.arguments import CropArguments, Values
from adop.backend.launch import Launch, launch
from adop.progress import Bar
from adop.run.run import Run

MEMORY_SHARE = (
    0.4  # of the GPU's free memory that photos and masks may take; steps and their graphs need the rest
)

Window = tuple[int, int, int]  # x, y and side of a square part of a photo, pixels


@dataclass(frozen=True)
class DevicePhotos:
    """Photos of any sizes and their masks, one after the other on one device."""

    pixels: Tensor  # [bytes] u8, of each photo [H, W, 3]
    masks: Tensor  # [bytes] u8, of each mask [H, W]: 255 where the photo counts, else 0
    # By index of the photo: where it and its mask begin (-1: no mask), and its width.
    places: Mapping[int, tuple[int, int, int]]


@dataclass(frozen=True)
class CropTable:
    """Which windows of which photos to cut, as the kernels read it."""

    photos: DevicePhotos
    windows: Tensor  # [B, 6] int64, see crops.cu; on the CPU, pinned where a GPU reads it
    longest: int  # side of the largest window, pixels
    side: int  # of the crops, pixels


def pack_photos(
    photos: Iterable[tuple[int, Tensor, Tensor | None]], pixels: int, device: torch.device
) -> DevicePhotos:
    """Copy photos and masks to a device.

    Args:
        photos: index, [H, W, 3] u8, and [H, W] bool, True where the photo counts, or None where all of it does.
        pixels: how many all photos have together.
    """
    packed = torch.empty(3 * pixels, dtype=torch.uint8, device=device)
    masks, places, begin, mask_begin = [], {}, 0, 0
    for index, photo, mask in photos:
        packed[begin : begin + photo.numel()] = photo.flatten().to(device)
        places[index] = (begin, -1 if mask is None else mask_begin, photo.shape[1])
        begin += photo.numel()
        if mask is not None:
            masks.append(mask.flatten().to(device).to(torch.uint8) * 255)
            mask_begin += mask.numel()
    return DevicePhotos(packed, torch.cat(masks) if masks else packed[:0], places)


def photos_on_gpu(run: Run, say: Callable[[str], None]) -> DevicePhotos | None:
    """Copy the photos that a run trains on to its GPU; return None where crops are to be cut on the CPU.

    Raises: UserError naming a photo that cannot be read.
    """
    if run.device.type != "cuda" or run.pipeline.backend == "reference":
        return None
    kept = torch.cuda.memory_reserved(run.device) - torch.cuda.memory_allocated(run.device)
    return photos_that_fit(run, torch.cuda.mem_get_info(run.device)[0] + kept, say)


def photos_that_fit(run: Run, free: int, say: Callable[[str], None]) -> DevicePhotos | None:
    """Copy the photos to the run's device, which has `free` bytes, or say why not and return None."""
    needed = 4 * _pixels(run)  # a byte for each channel, and one for the mask
    if needed > MEMORY_SHARE * free:
        say(
            f"training crops are cut on the CPU: the photos would take {needed / 2**30:.1f} GiB of the "
            f"{free / 2**30:.1f} GiB that the GPU has free, more than {100 * MEMORY_SHARE:.0f} %"
        )
        return None
    return load_photos(run)


def load_photos(run: Run) -> DevicePhotos:
    """Copy the photos that a run trains on to its device, and show the progress."""
    photos, cache = run.split["train"], run.cache
    with ThreadPoolExecutor() as pool:
        read = pool.map(lambda index: (index, cache.get(index), cache.mask(index)), photos)
        shown = Bar(read, "copying photos to the GPU", len(photos))
        return pack_photos(shown, _pixels(run), run.device)


def _pixels(run: Run) -> int:
    lenses = [run.scene.lenses[run.scene.photos[index].lens] for index in run.split["train"]]
    return sum(lens.width * lens.height for lens in lenses)


def crop_table(photos: DevicePhotos, chosen: list[int], windows: list[Window], side: int) -> CropTable:
    """Return the table of the crops that show a window of each chosen photo at `side` pixels."""
    rows = [(*photos.places[photo], *window) for photo, window in zip(chosen, windows, strict=True)]
    table = torch.tensor(rows, dtype=torch.int64)
    if photos.pixels.device.type == "cuda":
        table = table.pin_memory()
    return CropTable(photos, table, max(window[2] for window in windows), side)


def cut_crops(table: CropTable) -> tuple[Tensor, Tensor]:
    """Return target [B, 3, side, side] in [0, 1] and mask [B, 1, side, side] of crops, without waiting for the device.

    They equal those of Pillow bit for bit: scaled by a triangle filter, which is widened where a window shrinks. A
    pixel counts where the photo counts all around it.
    """
    pixels, views, side = table.photos.pixels, len(table.windows), table.side
    device, taps = pixels.device, 2 * math.ceil(max(table.longest / side, 1)) + 1
    target = torch.empty(views, 3, side, side, device=device)
    mask = torch.empty(views, 1, side, side, device=device)
    values: Values = {
        "photos": pixels,
        "masks": table.photos.masks,
        "windows": table.windows.to(device, non_blocking=True),
        "first": torch.empty(views, side, dtype=torch.int32, device=device),
        "weights": torch.empty(views, taps, side, dtype=torch.int32, device=device),
        "rows": torch.empty(views, 4, table.longest, side, dtype=torch.uint8, device=device),
        "target": target,
        "mask": mask,
        "views": views,
        "side": side,
        "taps": taps,
        "rows_kept": table.longest,
    }
    series = [
        Launch("crop_weights", views * side),
        Launch("crop_rows", views * table.longest * side),
        Launch("crop_columns", views * side * side),
    ]
    launch(CropArguments, series, values, target)
    return target, mask
