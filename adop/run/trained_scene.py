"""Which scene a run was trained on, kept in its folder: the photos in their order, and which points it began with."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from adop.errors import UserError, quoted
from adop.files import read_json, write_text
from adop.scene.scene import Scene

SCENE_FILE = "scene.json"  # in a run folder
COMPARED = 100_000  # points, about, by which clouds are told apart


def save_trained_scene(scene: Scene, folder: Path) -> None:
    """Write into a run folder which scene it is trained on."""
    names = [photo.name for photo in scene.photos]
    content = {"photos": names, "point_count": len(scene.points), "points": _digest(scene)}
    write_text(folder / SCENE_FILE, json.dumps(content, indent=1) + "\n")


def has_trained_points(scene: Scene, folder: Path, say: Callable[[str], None]) -> bool:
    """Return whether a scene has the points that a run began with, and say so where it has others.

    Runs from before adop kept this are taken to fit.

    Raises: UserError where the scene's photos are others than the run was trained on, or the file is damaged.
    """
    path = folder / SCENE_FILE
    if not path.exists():
        return True
    content = read_json(path)
    before = content.get("photos") if isinstance(content, dict) else None
    if not isinstance(before, list) or not all(isinstance(name, str) for name in before):
        raise UserError(
            f"{path}: lists no photos; restore the file, or delete it if the scene is the one of the run"
        )
    now = [photo.name for photo in scene.photos]
    if before != now:
        raise UserError(
            f"{folder}: was trained on other photos than {scene.folder} has: {_difference(before, now)}"
        )
    if content.get("points") == _digest(scene):
        return True
    say(
        f"{scene.folder}: has other points than the run began with ({content.get('point_count')} then, "
        f"{len(scene.points)} now); what is said of untrained points is of the present ones"
    )
    return False


def _difference(before: list[str], now: list[str]) -> str:
    if len(before) != len(now):
        return f"{len(before)} then, {len(now)} now; name the scene with --scene"
    place = next(i for i, (a, b) in enumerate(zip(before, now, strict=True)) if a != b)
    return f"the {place + 1}. was {quoted(before[place])} and is {quoted(now[place])}; name the scene with --scene"


def _digest(scene: Scene) -> str:
    step = max(1, len(scene.points) // COMPARED)
    return hashlib.sha256(f"{len(scene.points)} ".encode() + scene.points.xyz[::step].tobytes()).hexdigest()
