"""The parts of a run's photos in which something hides the scene: left out of training, kept as images in its folder."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from adop.files import write_atomically
from adop.images.photo_files import read_mask, write_mask
from adop.scene.photo_cache import PhotoCache
from adop.scene.scene import Scene


def save_occluders(folder: Path, scene: Scene, cache: PhotoCache) -> None:
    """Write what is left out of each photo as `occluders/NNN_photo.png` in a run's folder, white where it is."""
    for photo, hidden in cache.left_out.items():
        file = _file(folder, scene, photo)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, functools.partial(write_mask, hidden.cpu().numpy()))


def load_occluders(folder: Path, scene: Scene, cache: PhotoCache, photos: list[int]) -> list[int]:
    """Leave out of photos what the images in a run's folder say; return those of them that are not all white.

    Raises: UserError naming a broken image.
    """
    kept = []
    for photo in photos:
        file, lens = _file(folder, scene, photo), scene.lenses[scene.photos[photo].lens]
        hidden = None
        if file.exists():
            hidden = torch.from_numpy(read_mask(file, (lens.width, lens.height)))
            cache.leave_out(photo, hidden)
        if hidden is None or not bool(hidden.all()):
            kept.append(photo)
    return kept


def _file(folder: Path, scene: Scene, photo: int) -> Path:
    return folder / "occluders" / f"{photo:03d}_{Path(scene.photos[photo].name).stem}.png"
