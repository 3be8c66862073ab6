"""Finding the masks of photos: images of the photo's size whose black pixels do not count, known by their names."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from adop.errors import UserError, printable
from adop.images.photo_files import photo_size
from adop.scene.prepare import Report

FOLDER = "masks"  # of masks, in a folder of the photos or beside it
MAX_FOLDERS = 3  # above a photo, that a folder of masks may lie in


def find_masks(names: Sequence[str], folder: Path, report: Report) -> list[Path | None]:
    """Return the mask of each photo in a folder: named like the photo, with .png added or in place of its ending.

    Raises: UserError where no photo has one.
    """
    if not folder.is_dir():
        raise UserError(f"{folder}: no such folder of masks.")
    masks = [_first(_inside(folder / name)) for name in names]
    found = sum(mask is not None for mask in masks)
    if not found:
        raise UserError(f"{folder}: no mask for any photo; a mask is named like its photo, with .png added.")
    if found < len(masks):
        report(f"Masks: {len(masks) - found} of {len(masks)} photos have none.")
    return masks


def masks_beside(files: Sequence[Path]) -> list[Path | None]:
    """Return the mask that lies beside each photo, or in a folder `masks` there or beside the photo's folder, or None.

    Beside a photo `x.jpg` it is called `x_mask.png`, `x.mask.png` or `x.jpg.png`, and in a folder of masks also `x.png`
    or `x.jpg`.
    """
    return [_first(_candidates(file)) for file in files]


def without_masks(files: Sequence[Path]) -> list[Path]:
    """Return those files that are not the masks of others of them."""
    masks = {mask for file in files for mask in _candidates(file)}
    return [file for file in files if file not in masks]


def report_masks(masks: Sequence[Path | None], report: Report) -> None:
    """Say how many photos have a mask beside them."""
    found = [mask for mask in masks if mask is not None]
    if found:
        report(
            f"Masks of {len(found)} of {len(masks)} photos were found beside them, such as {printable(found[0])}."
        )


def check_mask(mask: Path, photo: Path) -> None:
    """Raise UserError for a mask of another shape than its photo, or a smaller one."""
    (width, height), (own_width, own_height) = photo_size(photo), photo_size(mask)
    scale = own_width / width
    if scale < 1 or abs(own_height - scale * height) > 0.5 + scale:
        raise UserError(
            f"{mask}: is {own_width}x{own_height} pixels, but its photo {width}x{height}; make it the photo's size, or "
            "name another folder by --masks."
        )


def _first(files: Sequence[Path]) -> Path | None:
    return next((file for file in files if os.path.isfile(file)), None)


def _beside(photo: Path) -> list[Path]:
    return [
        photo.with_name(name)
        for name in (f"{photo.name}.png", f"{photo.stem}_mask.png", f"{photo.stem}.mask.png")
    ]


def _inside(photo: Path) -> list[Path]:
    """Return what a mask may be called in a folder of masks only."""
    return [*_beside(photo), photo.with_suffix(".png"), photo]


def _candidates(file: Path) -> list[Path]:
    """Return where a photo's mask may lie, beside it first; folders of masks may have the folders of the photos."""
    found = _beside(file)
    if file.parent.name == FOLDER:
        return found
    for folder in list(file.parents)[:MAX_FOLDERS]:
        path = file.relative_to(folder)
        found += [*_inside(folder / FOLDER / path), *_inside(folder.parent / FOLDER / path)]
    return found
