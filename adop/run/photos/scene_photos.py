"""The photos of a scene: which are trained on, what their EXIF says of exposure, and how they are found by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from pathlib import Path

import torch
from torch import Tensor

from adop.config import TrainConfig
from adop.errors import UserError
from adop.initialisation.photometry import PointSamples, StartExposures, estimate_exposures, judge_exposures
from adop.model.pipeline import Pipeline
from adop.model.tonemapper import UNKNOWN_EXPOSURE_TRUST
from adop.scene.photo_cache import PhotoCache
from adop.scene.scene import Scene

WITHOUT_ALPHA = (".jpg", ".jpeg")
TEST_EVERY = 8  # where neither the configuration nor the scene says which photos are held out


def scene_split(scene: Scene, test_every: int | None) -> dict[str, list[int]]:
    """Return the indices of a scene's photos to train on and of the held-out photos.

    Args: test_every: as in `split_photos`; None: those that the scene holds out, or else every 8th.
    Raises: UserError where fewer than two photos remain to train on.
    """
    photos = scene.photos
    if test_every is not None or all(photo.held_out is None for photo in photos):
        return split_photos(len(photos), TEST_EVERY if test_every is None else test_every)
    held_out = [index for index, photo in enumerate(photos) if photo.held_out]
    return _checked(
        {"train": [i for i in range(len(photos)) if not photos[i].held_out], "held_out": held_out}
    )


def split_photos(count: int, test_every: int) -> dict[str, list[int]]:
    """Return the indices of the photos to train on and of the held-out photos.

    Args: test_every: photos 0, test_every, 2 test_every ... are held out; 0: none are.
    Raises: UserError where fewer than two photos remain to train on.
    """
    held_out = [i for i in range(count) if test_every > 0 and i % test_every == 0]
    train = [i for i in range(count) if i not in set(held_out)]
    return _checked({"train": train, "held_out": held_out})


def _checked(split: dict[str, list[int]]) -> dict[str, list[int]]:
    train, held_out = len(split["train"]), len(split["held_out"])
    if train < 2:
        raise UserError(
            f"the scene has {train + held_out} photos, of which {held_out} are held out: training needs at least 2"
        )
    return split


def check_masks(scene: Scene, cache: PhotoCache) -> None:
    """Raise UserError where photos are hidden wholly: they can neither be trained on nor scored."""
    hidden = []
    for index, photo in enumerate(scene.photos):
        if photo.mask is not None or photo.file.suffix.lower() not in WITHOUT_ALPHA:
            mask = cache.mask(index)
            if mask is not None and not mask.any():
                hidden.append(photo.name)
    if hidden:
        raise UserError(
            f"{scene.folder}: the masks of {len(hidden)} of {len(scene.photos)} photos hide all of them, the first is "
            f"{hidden[0]}; masks are black where a photo does not count, so invert them, or leave these photos out"
        )


def known_exposures(scene: Scene) -> Tensor | None:
    """Return [P] EV of the photos relative to their median, NaN where unknown, or None where no photo's is known."""
    values = [math.nan if photo.exposure is None else photo.exposure for photo in scene.photos]
    exposure = torch.tensor(values, dtype=torch.float64)
    if exposure.isnan().all():
        return None
    return (exposure - exposure.nanmedian()).float()


def start_exposures(
    scene: Scene,
    config: TrainConfig,
    pipeline: Pipeline,
    samples: dict[int, PointSamples],
    say: Callable[[str], None],
) -> None:
    """Set the exposures from which training starts, and say which are not those in EXIF, and why."""
    photos, tonemapper = scene.photos, pipeline.tonemapper
    given = known_exposures(scene) if config.exposure == "exif" else None
    if config.exposure == "none":
        found = StartExposures(torch.zeros(len(photos)), False, {})
    else:
        start = torch.full((len(photos),), torch.nan) if given is None else given
        estimated = estimate_exposures(samples, len(pipeline.points), start)
        found = judge_exposures(start, estimated, tonemapper.trained.cpu())
    tonemapper.exposure_start.copy_(found.ev)
    if not found.from_exif:
        tonemapper.exposure_trust.fill_(UNKNOWN_EXPOSURE_TRUST)
    if config.exposure == "exif":
        for sentence in _on_exposures(found, given, [photo.name for photo in photos]):
            say(f"exposure: {sentence}")


def _on_exposures(found: StartExposures, given: Tensor | None, names: list[str]) -> Iterator[str]:
    if given is None:
        yield "no photo has EXIF data, so exposures are estimated from the photos"
    elif not found.from_exif:
        error = max(found.doubted.values(), default=0.0)
        yield f"the photos do not follow their EXIF data, typically {error:.1f} EV off, so it is not used"
    else:
        lacking = int(given.isnan().sum())
        if lacking:
            yield f"{lacking} of {len(names)} photos have no EXIF data, so theirs are estimated from the others"
        if found.doubted:
            listed = ", ".join(f"{names[photo]} ({ev:+.1f} EV)" for photo, ev in found.doubted.items())
            yield f"EXIF data that other photos contradict is not used: {listed}"


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
