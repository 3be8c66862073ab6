"""The parts of a run's photos in which something hides the scene: left out of training, kept as images in its folder."""

from __future__ import annotations

import functools
from pathlib import Path

import torch

from adop.files import write_atomically
from adop.images.photo_files import read_mask, write_mask
from adop.run.run import Run


def save_occluders(run: Run) -> None:
    """Write what is left out of each photo as `occluders/NNN_photo.png` in the run's folder, white where it is."""
    for photo, hidden in run.cache.left_out.items():
        file = _file(run, photo)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(file, functools.partial(write_mask, hidden.cpu().numpy()))


def load_occluders(run: Run) -> None:
    """Leave out of the photos what the images in the run's folder say, and do not train on photos that are all white.

    Raises: UserError naming a broken image.
    """
    for photo in list(run.split["train"]):
        file, lens = _file(run, photo), run.scene.lenses[run.scene.photos[photo].lens]
        if file.exists():
            hidden = torch.from_numpy(read_mask(file, (lens.width, lens.height)))
            run.cache.leave_out(photo, hidden)
            if bool(hidden.all()):
                run.split["train"].remove(photo)


def _file(run: Run, photo: int) -> Path:
    return run.folder / "occluders" / f"{photo:03d}_{Path(run.scene.photos[photo].name).stem}.png"
