"""The evaluation of a run, read from its folder: scores and pictures of the held-out photos, settings, curves."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from adop.config import TrainConfig, load_config
from adop.errors import UserError, one_line, printable, quoted
from adop.evaluation.pages.curves import Curves, read_curves
from adop.evaluation.pages.settings import duration_text, length_text, network_text
from adop.evaluation.tables import PICTURES, SCORES, groups
from adop.files import read_json
from adop.images.photo_files import open_photo
from adop.run.run import check_run_folder

Scores = dict[str, float | None]  # by name and picture, as in eval.json
PICTURE = re.compile(
    r"[A-Za-z0-9-]{1,40}/[A-Za-z0-9._-]{1,120}\.jpg"
)  # path from the folder of the evaluation
KINDS = ("photo", "render", "error")  # of pictures; the render's exposure is fitted


@dataclass(frozen=True)
class EvaluatedPhoto:
    """A held-out photo, its scores and its pictures."""

    name: str
    scores: Scores
    pictures: dict[str, str]  # of each of `KINDS`: its path from the folder of the evaluation
    size: tuple[int, int]  # width, height, px
    covered: float | None  # share of the photo in which points are drawn; None: written by an older version


@dataclass(frozen=True)
class EvaluatedRun:
    """A run as it was evaluated."""

    folder: Path
    config: TrainConfig
    means: dict[str, Scores]  # over the held-out photos, by what was scored
    photos: tuple[EvaluatedPhoto, ...]
    trained: tuple[str, ...]  # names of the photos that the run was trained on
    step: int
    seconds: float  # of training
    points: int | None  # None: written by an older version, as for the next two
    trained_on: str | None  # name of the machine
    evaluated_on: str | None
    notes: tuple[str, ...]  # sentences on how exposure was predicted
    flicker: dict[str, Any] | None
    curves: Curves

    @property
    def name(self) -> str:
        """The name of the run's folder."""
        return printable(self.folder.resolve().name)

    @property
    def scene(self) -> str:
        """The name of the scene's folder."""
        return printable(PurePosixPath(self.config.scene.replace("\\", "/")).name)

    def facts(self) -> list[tuple[str, str]]:
        """Return the main settings in words: each one's name and value."""
        config = self.config
        points = "unknown" if self.points is None else f"{self.points:,}"
        machine = ("trained on", self.trained_on) if self.trained_on else ("evaluated on", self.evaluated_on)
        return [
            ("scene", f"{self.scene}: {len(self.trained)} photos trained on, {len(self.photos)} held out"),
            ("preset", config.preset),
            ("steps", length_text(config, self.step)),
            ("crops", f"{config.batch} of {config.crop} × {config.crop} px per step"),
            ("points", points),
            ("network", network_text(config)),
            ("time", f"{duration_text(self.seconds)} of training steps"),
            (machine[0], machine[1] or "unknown"),
        ]


def read_evaluation(folder: Path) -> EvaluatedRun:
    """Read the evaluation of a run from its folder.

    Raises: UserError where the folder is no run, was not evaluated, or its evaluation lacks something.
    """
    check_run_folder(folder)
    file = folder / "eval" / "eval.json"
    if not file.is_file():
        raise UserError(f"{folder}: was not evaluated; `adop eval {folder}` does so.")
    config = load_config(folder / "config.json", lambda _: None)
    values = read_json(file)
    try:
        return _evaluated_run(folder, config, values)
    except UserError:
        raise
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise UserError(
            f"{file}: lacks something that this version writes ({one_line(error)}); `adop eval {folder}` writes it anew."
        ) from None


def known_machine(folder: Path) -> str | None:
    """Return the machine that a run was trained on, as its present evaluation says; None where it does not."""
    try:
        return read_evaluation(folder).trained_on
    except UserError:
        return None


def _evaluated_run(folder: Path, config: TrainConfig, values: dict[str, Any]) -> EvaluatedRun:
    step, seconds = int(values["step"]), _number(values["seconds"])
    photos = tuple(_photo(folder / "eval", photo) for photo in values["photos"])
    names = [photo.name for photo in photos]
    if not photos or len(set(names)) < len(names):
        raise ValueError("photos")
    points = values.get("points")
    description = values["exposure"]["description"]
    return EvaluatedRun(
        folder=folder,
        config=config,
        means={label: _scores(scores) for label, scores in groups(values).items()},
        photos=photos,
        trained=tuple(map(_text, values["protocol"]["trained"])),
        step=step,
        seconds=seconds,
        points=None if points is None else int(points),
        trained_on=_text_or_none(values.get("trained_on")),
        evaluated_on=_text_or_none(values.get("evaluated_on")),
        notes=(_text(description),),
        flicker=_flicker(values.get("flicker")),
        curves=read_curves(folder / "metrics.jsonl", step, seconds),
    )


def _photo(folder: Path, values: dict[str, Any]) -> EvaluatedPhoto:
    name = _text(values["photo"])
    pictures = {kind: _text(values["pictures"][kind]) for kind in KINDS}
    sizes = {_picture_size(folder, pictures[kind]) for kind in KINDS}
    if len(sizes) > 1:
        raise ValueError(f"pictures of one size of {name}")
    return EvaluatedPhoto(name, _scores(values), pictures, sizes.pop(), _score(values.get("covered")))


def _picture_size(folder: Path, picture: str) -> tuple[int, int]:
    """Return width and height of a picture of an evaluation, which must lie in the evaluation's folder."""
    file = folder / picture
    if not PICTURE.fullmatch(picture) or not file.is_file() or folder.resolve() not in file.resolve().parents:
        raise ValueError(f"the picture {quoted(picture)}")
    with open_photo(file) as image:
        return image.size


def _scores(values: dict[str, Any]) -> Scores:
    names = [f"{name}{picture}" for name in SCORES for picture in PICTURES]
    return {name: _score(values.get(name)) for name in names}


def _score(value: Any) -> float | None:
    """Return a score; None where there is none, or no finite one."""
    if value is None or (isinstance(value, float) and not math.isfinite(value)):
        return None
    return _number(value)


def _flicker(values: dict[str, Any] | None) -> dict[str, Any] | None:
    if values is None:
        return None
    numbers = {name: _number(values[name]) for name in ("pixels", "share", "pairs")}
    difference = values["difference_of_255"]
    return {
        "difference_of_255": None if difference is None else _number(difference),
        "share": numbers["share"],
        "pixels": int(numbers["pixels"]),
        "pairs": int(numbers["pairs"]),
    }


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"a number, not {quoted(value)}")
    return float(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"a text, not {quoted(value)}")
    return value


def _text_or_none(value: Any) -> str | None:
    return None if value is None else _text(value)
