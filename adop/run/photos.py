"""The photos of a run: which are trained on, what their EXIF says of exposure, and how they are found by name."""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from adop.errors import UserError
from adop.scene.scene import Scene


def split_photos(count: int, test_every: int) -> dict[str, list[int]]:
    """Return the indices of the photos to train on and of the held-out photos.

    Args: test_every: photos 0, test_every, 2 test_every ... are held out; 0: none are.
    Raises: UserError where fewer than two photos remain to train on.
    """
    held_out = [i for i in range(count) if test_every > 0 and i % test_every == 0]
    train = [i for i in range(count) if i not in set(held_out)]
    if len(train) < 2:
        raise UserError(
            f"the scene has {count} photos, of which {len(held_out)} are held out: training needs at least 2"
        )
    return {"train": train, "held_out": held_out}


def known_exposures(scene: Scene) -> Tensor | None:
    """Return [P] EV of the photos relative to their mean, or None where the exposure of any photo is unknown."""
    values = [photo.exposure for photo in scene.photos]
    if any(value is None for value in values):
        return None
    exposure = torch.tensor(values, dtype=torch.float64)
    return (exposure - exposure.mean()).float()


def find_photo(scene: Scene, name: str) -> int:
    """Return the index of a photo.

    Args: name: as in the scene, without its folders, without its ending, or the photo's index.
    Raises: UserError where no photo or several photos match.
    """
    names = [photo.name for photo in scene.photos]
    matches = [i for i, n in enumerate(names) if name in (n, Path(n).name, Path(n).stem)]
    if len(matches) == 1:
        return matches[0]
    if not matches and name.isdigit() and int(name) < len(names):
        return int(name)
    problem = "is not in the scene" if not matches else f"matches {len(matches)} photos"
    raise UserError(
        f"photo {name!r} {problem}; `adop info {scene.folder}` lists the photos, the first is {names[0]}"
    )
