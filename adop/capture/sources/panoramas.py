"""Panoramas of 360 degrees (equirectangular, twice as wide as high), and the views into which they are cut."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image
from scipy.spatial.transform import Rotation

from adop.errors import UserError
from adop.images.photo_files import open_photo

_LARGEST_VIEW_PX = 1600
_SHAPE_TOLERANCE = 0.01  # of width / height, from 2
_SEAM = 0.4  # difference of the two outermost columns, over that of columns far apart, below which edges meet
_SMALL_PX = 512  # width at which edges are compared
_XMP = re.compile(rb"ProjectionType\s*(=\s*[\"']|>)\s*equirectangular", re.IGNORECASE)
# Heading to the right and pitch upwards of each view, in degrees; a view shows 90 degrees in both directions.
_DIRECTIONS = (*((heading, 0) for heading in range(0, 360, 45)), (0, 45), (180, 45), (90, -45), (270, -45))


def view_rotations() -> list[np.ndarray]:
    """Return the rotations [3,3] from the camera axes of the first view, the panorama's middle, to those of each view."""
    return [
        Rotation.from_euler("YX", direction, degrees=True).as_matrix().T.round(15)
        for direction in _DIRECTIONS
    ]


def view_size(width: int) -> int:
    """Return the side in pixels of views with the resolution of a panorama; their focal length is half of it."""
    return min(_LARGEST_VIEW_PX, round(width / math.pi))


def cut_views(panorama: np.ndarray, size: int) -> Iterator[np.ndarray]:
    """Yield the views [size,size,3] u8 of a panorama [H,W,3] u8, sampled bilinearly."""
    import torch

    width = round(math.pi * size)
    if width < panorama.shape[1]:  # fewer pixels are averages, not samples
        smaller = Image.fromarray(panorama).resize((width, width // 2), Image.Resampling.BOX)
        panorama = np.asarray(smaller)
    height, width = panorama.shape[:2]
    wrapped = torch.from_numpy(np.pad(panorama, ((0, 0), (1, 1), (0, 0)), mode="wrap")).permute(2, 0, 1)[None]
    wrapped = wrapped.float()
    side = (torch.arange(size) + 0.5) / (0.5 * size) - 1.0
    y, x = torch.meshgrid(side, side, indexing="ij")
    rays = torch.stack([x, y, torch.ones_like(x)], dim=-1)
    for rotation in view_rotations():
        right, down, forward = (rays @ torch.from_numpy(rotation).float()).unbind(-1)
        u = (torch.atan2(right, forward) / (2 * math.pi) + 0.5) * width + 1.0
        v = (torch.atan2(down, torch.hypot(right, forward)) / math.pi + 0.5) * height
        grid = torch.stack([2 * u / (width + 2) - 1, 2 * v / height - 1], dim=-1)[None]
        view = torch.nn.functional.grid_sample(wrapped, grid, padding_mode="border", align_corners=False)
        yield view[0].permute(1, 2, 0).round().clamp(0, 255).byte().numpy()


def are_panoramas(files: Sequence[Path], choice: Literal["auto", "yes", "no"]) -> bool:
    """Return whether photos are panoramas: as chosen, else by their XMP tags, or because left and right edges meet.

    Raises: UserError where only some photos have the tags, or panoramas are not twice as wide as high.
    """
    if choice == "no":
        return False
    shaped = [_is_twice_as_wide(file) for file in files]
    tagged = [_is_tagged(file) for file in files]
    if choice == "yes" or any(tagged):
        if choice == "auto" and not all(tagged):
            raise UserError(
                f"{files[tagged.index(True)]}: is a panorama, {files[tagged.index(False)].name} is not by its tags; put "
                "panoramas and other photos into folders of their own, or use --panoramas yes or no."
            )
        if not all(shaped):
            raise UserError(
                f"{files[shaped.index(False)]}: is not twice as wide as high, as a panorama of 360 degrees is; leave it "
                "out, or use --panoramas no."
            )
        return True
    return all(shaped) and all(_edges_meet(file) for file in files)


def _is_twice_as_wide(file: Path) -> bool:
    try:
        with open_photo(file) as image:
            return abs(image.width / image.height - 2.0) < _SHAPE_TOLERANCE
    except UserError:
        return False


def _is_tagged(file: Path) -> bool:
    try:
        with open_photo(file) as image:
            tags = image.info.get("xmp") or image.info.get("XML:com.adobe.xmp") or b""
    except UserError:
        return False
    return _XMP.search(tags.encode() if isinstance(tags, str) else bytes(tags)) is not None


def _edges_meet(file: Path) -> bool:
    """Return whether a photo goes on at its left edge where it ends at the right; some phones take photos of 2:1."""
    try:
        with open_photo(file) as image:
            image.draft("L", (_SMALL_PX, _SMALL_PX // 2))
            grey = image.convert("L").resize((_SMALL_PX, _SMALL_PX // 2), Image.Resampling.BOX)
    except UserError:
        return False
    pixels = np.asarray(grey).astype(float)
    seam = np.abs(pixels[:, 0] - pixels[:, -1]).mean()
    apart = np.abs(pixels - np.roll(pixels, _SMALL_PX // 4, axis=1)).mean()
    return bool(seam < _SEAM * apart)
