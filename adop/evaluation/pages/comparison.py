"""Runs side by side: the photos that all of them held out, their mean scores, and the settings that differ."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from adop.errors import UserError, printable
from adop.evaluation.pages.evaluated_run import EvaluatedPhoto, EvaluatedRun, Scores, read_evaluation
from adop.evaluation.pages.settings import differing, duration_text, length_text
from adop.evaluation.tables import PICTURES, SCORES, UNITS, best_runs, mean_scores, score_text
from adop.images.photo_files import open_photo

SMALL_SIDE = 16  # px, to which photos are reduced to tell whether they show the same
SAME_PHOTO = (
    0.1  # mean absolute difference of reduced photos, up to which they are one; photos range from 0 to 1
)
MAX_NAMED = 6  # photos in a sentence


@dataclass(frozen=True)
class Comparison:
    """R runs, and what can be compared of them."""

    labels: tuple[str, ...]  # [R] short names of the runs, all different
    runs: tuple[EvaluatedRun, ...]  # [R]
    photos: tuple[str, ...]  # names of those that every run held out
    left_out: tuple[str, ...]  # sentences on the photos that only some of the runs held out

    def photo(self, name: str) -> list[EvaluatedPhoto]:
        """Return a photo as each run has it."""
        return [next(photo for photo in run.photos if photo.name == name) for run in self.runs]

    def means(self) -> list[Scores]:
        """Return each run's mean scores over the photos."""
        scored = [self.photo(name) for name in self.photos]
        return [dict(mean_scores([photos[i].scores for photos in scored])) for i in range(len(self.runs))]

    def settings(self) -> list[tuple[str, list[str]]]:
        """Return the settings that differ: what they are called, and each run's."""
        runs = self.runs
        points = ["unknown" if run.points is None else f"{run.points:,}" for run in runs]
        rows = [
            ("steps taken", [length_text(run.config, run.step) for run in runs]),
            ("time of training steps", [duration_text(run.seconds) for run in runs]),
            ("points at the end", points),
            ("trained on", [run.trained_on or "unknown" for run in runs]),
        ]
        return [row for row in rows if len(set(row[1])) > 1] + differing([run.config for run in runs])


@dataclass(frozen=True)
class ScoreRow:
    """A score of every run."""

    score: str  # with its unit
    picture: str
    cells: tuple[str, ...]  # [R]
    best: tuple[int, ...]  # which runs


def compare_runs(folders: list[Path]) -> Comparison:
    """Read the evaluations of runs and find what can be compared.

    Raises: UserError where there are fewer than two runs, one was not evaluated, or they share no held-out photo.
    """
    if len(folders) < 2:
        raise UserError("name at least two runs to compare.")
    twice = [folder for folder, count in Counter(f.resolve() for f in folders).items() if count > 1]
    if twice:
        raise UserError(f"{twice[0]}: is named twice; name different runs.")
    runs = tuple(read_evaluation(folder) for folder in folders)
    names = [{photo.name for photo in run.photos} for run in runs]
    shared = set.intersection(*names)
    photos = tuple(photo.name for photo in runs[0].photos if photo.name in shared)
    comparison = Comparison(_labels(runs), runs, photos, ())
    left_out = _left_out(comparison)
    if not photos:
        raise UserError(
            f"{folders[0]}: shares no held-out photo with the others, so there is nothing to compare: "
            + " ".join(left_out)
        )
    for name in photos:
        _check_same(comparison, name)
    return Comparison(comparison.labels, runs, photos, left_out)


def score_rows(scores: list[Scores]) -> list[ScoreRow]:
    """Return a row for each score and picture, given each run's scores."""
    return [
        ScoreRow(
            f"{title}, {UNITS[name]}",
            picture_title,
            tuple(score_text(run, name, picture) for run in scores),
            tuple(best_runs(scores, name, picture)),
        )
        for name, title in SCORES.items()
        for picture, picture_title in PICTURES.items()
    ]


def comparison_table(comparison: Comparison) -> str:
    """Return the mean scores as text, a column for each run; the best of a row is marked by a star."""
    width = max(12, *(min(len(label), 30) + 2 for label in comparison.labels))
    heading = f"{len(comparison.photos)} photos that all runs held out, mean"
    lines = [f"{heading:44}" + "".join(f"{label[-30:]:>{width}}" for label in comparison.labels)]
    last = ""
    for row in score_rows(comparison.means()):
        if row.score != last:
            lines.append(row.score)
            last = row.score
        cells = (f"{'*' if i in row.best else ''}{cell}" for i, cell in enumerate(row.cells))
        lines.append(f"  {row.picture:42}" + "".join(f"{cell:>{width}}" for cell in cells))
    return "\n".join([*lines, "* is the best of its row", *comparison.left_out])


def comparison_json(comparison: Comparison) -> dict[str, Any]:
    """Return the comparison for a JSON file."""
    means = comparison.means()
    return {
        "photos": list(comparison.photos),
        "left_out": list(comparison.left_out),
        "settings": {
            name: dict(zip(comparison.labels, row, strict=True)) for name, row in comparison.settings()
        },
        "runs": [
            {
                "name": label,
                "folder": str(run.folder),
                "step": run.step,
                "seconds": run.seconds,
                "points": run.points,
                "mean": mean,
                "photos": [{"photo": name} | comparison.photo(name)[i].scores for name in comparison.photos],
            }
            for i, (label, run, mean) in enumerate(
                zip(comparison.labels, comparison.runs, means, strict=True)
            )
        ],
    }


def _labels(runs: tuple[EvaluatedRun, ...]) -> tuple[str, ...]:
    """Return the names of the runs' folders, with as many folders above them as it takes to tell them apart."""
    parts = [[printable(part) for part in run.folder.resolve().parts] for run in runs]
    for depth in range(1, max(map(len, parts)) + 1):
        labels = tuple("/".join(part[-depth:]) for part in parts)
        if len(set(labels)) == len(labels):
            break
    return labels


def _left_out(comparison: Comparison) -> tuple[str, ...]:
    """Return a sentence for each run on the photos that others held out and that it cannot be compared by."""
    union = dict.fromkeys(photo.name for run in comparison.runs for photo in run.photos)
    sentences = []
    for label, run in zip(comparison.labels, comparison.runs, strict=True):
        missing = [name for name in union if name not in {photo.name for photo in run.photos}]
        trained = [name for name in missing if name in run.trained]
        absent = [name for name in missing if name not in run.trained]
        if trained:
            sentences.append(f"Left out, because {label} was trained on {_named(trained)}.")
        if absent:
            sentences.append(f"Left out, because {label} lacks {_named(absent)}.")
    return tuple(sentences)


def _named(photos: list[str]) -> str:
    """Return how many photos there are, and the names of the first ones."""
    count = "1 photo" if len(photos) == 1 else f"{len(photos)} photos"
    more = f" and {len(photos) - MAX_NAMED} more" if len(photos) > MAX_NAMED else ""
    return f"{count}: {', '.join(map(printable, photos[:MAX_NAMED]))}{more}"


def _check_same(comparison: Comparison, name: str) -> None:
    """Raise UserError where a photo of this name differs between the runs, in size or in what it shows."""
    photos = list(zip(comparison.runs, comparison.photo(name), strict=True))
    for (run, photo), (other_run, other) in pairwise(photos):
        where = f"{run.folder} and {other_run.folder}: the photo {printable(name)}"
        if photo.size != other.size:
            sizes = " and ".join(f"{width}x{height}" for width, height in (photo.size, other.size))
            raise UserError(f"{where} has {sizes} pixels; only runs of the same photos can be compared.")
        small = [
            _small(r.folder / "eval" / p.pictures["photo"]) for r, p in ((run, photo), (other_run, other))
        ]
        if np.abs(small[0] - small[1]).mean() > SAME_PHOTO:
            raise UserError(f"{where} shows something else; only runs of the same scene can be compared.")


def _small(file: Path) -> np.ndarray:
    """Return a photo reduced to [16, 16, 3], 0 to 1."""
    with open_photo(file) as image:
        image.draft("RGB", (SMALL_SIDE, SMALL_SIDE))
        return np.asarray(image.convert("RGB").resize((SMALL_SIDE, SMALL_SIDE)), dtype=np.float32) / 255
