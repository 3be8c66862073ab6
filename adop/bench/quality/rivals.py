"""Renders of other programs, scored like those of a run."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from adop.errors import UserError
from adop.evaluation.evaluate import mean_scores, photo_mask
from adop.evaluation.picture_scores import by_name, score_pictures
from adop.images.metrics.colour_correction import correct_colours
from adop.images.photo_files import ENDINGS, photo_size, read_photo
from adop.scene.photo_cache import PhotoCache
from adop.scene.scene import Scene


@dataclass(frozen=True)
class Rival:
    """Another program's renders of the held-out photos."""

    name: str
    folder: Path  # one image for each photo, with the photo's name; or a folder for each scene
    seconds: float | None  # how long it trained; None: unknown


def parse_rivals(folders: tuple[str, ...], seconds: tuple[str, ...]) -> list[Rival]:
    """Return the rivals of the options `--rival NAME=DIR` and `--rival-seconds NAME=60`.

    Raises: UserError for another form, a folder that is not there, or seconds of an unknown rival.
    """
    named, times = (
        _pairs(words, option) for words, option in ((folders, "--rival"), (seconds, "--rival-seconds"))
    )
    for name, folder in named.items():
        if not Path(folder).is_dir():
            raise UserError(f"--rival {name}={folder}: {folder} is not a folder")
    for name in times.keys() - named.keys():
        raise UserError(f"--rival-seconds {name}={times[name]}: there is no --rival {name}=FOLDER")
    return [
        Rival(name, Path(folder), _seconds(name, times[name]) if name in times else None)
        for name, folder in named.items()
    ]


def _pairs(words: tuple[str, ...], option: str) -> dict[str, str]:
    pairs: dict[str, str] = {}
    for word in words:
        name, _, value = word.partition("=")
        if not name or not value:
            raise UserError(f"{option} {word}: expected NAME=VALUE")
        if name in pairs:
            raise UserError(f"{option} {word}: {name} is named twice")
        pairs[name] = value
    return pairs


def _seconds(name: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise UserError(f"--rival-seconds {name}={text}: expected a number of seconds above 0")
    return value


def find_renders(folder: Path, scene: Scene, photos: list[int]) -> list[Path]:
    """Return the image of each photo in a folder: with the photo's name, in its subfolder or not, and any ending.

    Raises: UserError where a photo has no image, or several, or one of another size.
    """
    files = sorted(file for file in folder.rglob("*") if file.suffix.lower() in ENDINGS)
    by_stem: dict[str, list[Path]] = {}
    for file in files:
        for stem in {file.stem, file.relative_to(folder).with_suffix("").as_posix()}:
            by_stem.setdefault(stem, []).append(file)
    found: list[Path] = []
    missing: list[str] = []
    for photo in photos:
        name = Path(scene.photos[photo].name)
        matches = by_stem.get(name.with_suffix("").as_posix()) or by_stem.get(name.stem, [])
        if len(matches) > 1:
            raise UserError(
                f"{folder}: has {len(matches)} images of photo {name}: {matches[0]}, {matches[1]}"
            )
        missing += [] if matches else [str(name)]
        found += matches
    if missing:
        raise UserError(
            f"{folder}: has no image of {len(missing)} of the {len(photos)} held-out photos; expected one with the "
            f"name of {missing[0]} and an ending such as .png"
        )
    for photo, file in zip(photos, found, strict=True):
        lens = scene.lenses[scene.photos[photo].lens]
        width, height = photo_size(file)
        if (width, height) != (lens.width, lens.height):
            raise UserError(f"{file}: is {width}x{height} pixels; the photo has {lens.width}x{lens.height}")
    return found


def score_rival(
    renders: list[Path], cache: PhotoCache, photos: list[int], names: list[str]
) -> dict[str, Any]:
    """Return the scores of renders of photos, plain and colour-corrected, as `eval.json` has those of a run.

    Args:
        renders: from `find_renders`.
        names: of the photos.
    """
    scores = []
    for file, photo, name in zip(renders, photos, names, strict=True):
        render = _read(file)
        target, mask = cache.image(photo, render.device), photo_mask(cache, photo, render.device)
        pictures = torch.cat((render, correct_colours(render, target, mask)))
        plain, corrected = score_pictures(pictures, target, mask, mask.expand(2, -1, -1, -1))
        scores.append({"photo": name} | by_name({"": plain, "_corrected": corrected}))
    return {"mean": mean_scores(scores), "photos": scores}


def _read(file: Path) -> Tensor:
    """Return an image file as [1, 3, H, W] in [0, 1]."""
    pixels, _ = read_photo(file)
    return torch.from_numpy(pixels.copy()).permute(2, 0, 1)[None].float() / 255
