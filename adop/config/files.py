"""Configurations as JSON files, those with former names of options included."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from types import UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from adop.config.learning import Schedule, Switch
from adop.config.train import TrainConfig, preset
from adop.errors import UserError, quoted
from adop.files import read_json, write_text
from adop.ranges import check_ranges

# Former names of options, below the present name of the stage that they belong to. A number is a place in a list.
RENAMED = {
    "hold_out": "test_every",
    "groups": "learn",
    "optim": "lr",
    "render.unseen_views": "extrapolation_views",
    "grow.views": "min_views",
    "grow.sources": "stereo_photos",
    "grow.tolerance": "depth_tolerance",
    "grow.side": "longest_side",
    "grow.photos": "max_photos",
    "grow.others": "neighbour_photos",
    "grow.budget": "max_points",
    "prune.views": "min_views",
    "prune.tolerance": "colour_tolerance",
    "prune.share": "min_agreement",
    "refine.every": "align_every",
    "refine.photos": "align_photos",
    "refine.until": "align_until",
    "refine.align.centre": "principal_point",
    "refine.align.side": "longest_side",
    "refine.align.rounds": "iterations",
    "refine.align.enough": "converged_px",
    "refine.align.pixels": "pixels_per_photo",
    "refine.align.gain": "min_improvement",
    "refine.align.trust_degrees": "rotation_prior_degrees",
    "refine.align.trust_distance": "translation_prior",
    "refine.align.trust_motion": "rolling_shutter_prior",
    "refine.points.cubes": "grouped",
    "refine.points.block": "sizes.0",
    "refine.points.piece": "sizes.1",
    "refine.points.grain": "sizes.2",
    "refine.points.rounds": "iterations",
    "refine.points.smooth": "smoothness",
    "refine.points.trust": "position_prior",
    "refine.points.single": "individual",
    "lr.pose": "poses",
}
# Removed options, and the values now fixed in the code.
REMOVED = {
    "grow.likeness": 0.5,
    "grow.agreement": 0.15,
    "grow.coherence": 0.7,
    "grow.depths": [1.0, 0.9, 1.1, 0.75, 1.3],
    "refine.align.sigma": 0.7,
}
# Options that runs had not yet, in the order in which they came, and the values that leave these runs as they were.
ADDED: dict[str, dict[str, Any]] = {"network": {"photos": 0, "start": "none"}}


def save_config(config: TrainConfig, path: Path) -> None:
    """Write the configuration as JSON."""
    write_text(path, json.dumps(dataclasses.asdict(config), indent=2) + "\n")


def load_config(path: Path, say: Callable[[str], None] = print) -> TrainConfig:
    """Read a configuration that `save_config` wrote, or a file with some of its values on top of a preset.

    Args:
        say: gets a sentence where the file uses former names of options, or options that were removed.

    Raises: UserError for a file that is not JSON, an unknown key, a value of the wrong type or out of range.
    """
    values = read_json(path)
    if not isinstance(values, dict):
        raise UserError(f"{path}: expected a JSON object with the keys of a training configuration")
    try:
        name = values.get("preset", "quick")
        base = preset(name if isinstance(name, str) else quoted(name), lambda text: say(f"{path}: {text}"))
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    values = _with_added(values, dataclasses.asdict(base))
    renamed: list[str] = []
    ignored: list[str] = []
    values = values | {"preset": base.preset}
    try:
        values = _with_present_names(values, dataclasses.asdict(base), "", renamed, ignored)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None
    if renamed:
        more = f" and {len(renamed) - 3} more" if len(renamed) > 3 else ""
        say(f"{path}: reads options by their former names ({', '.join(renamed[:3])}{more}; see CHANGELOG.md)")
    if ignored:
        say(f"{path}: ignores options that are constants now: {', '.join(ignored)}")
    config = _merge(base, values, str(path))
    check_ranges(config, lambda name: f"{path}: {name}")
    return config


def _with_added(values: dict[str, Any], base: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a file; where it has all other options of a stage, a run saved it before some were added."""
    result = dict(values)
    for stage, added in ADDED.items():
        given = result.get(stage)
        if not isinstance(given, dict):
            continue
        missing = set(base[stage]) - set(given)
        latest = list(added)[len(added) - len(missing) :]
        if missing == set(latest):
            result[stage] = given | {name: added[name] for name in latest}
    return result


def _with_present_names(
    values: dict[str, Any], base: dict[str, Any], stage: str, renamed: list[str], ignored: list[str]
) -> dict[str, Any]:
    """Return the values of a stage under the present names; append what was renamed, and what has no effect."""
    result: dict[str, Any] = {}
    for former, value in values.items():
        if stage + former in REMOVED:
            ignored += [stage + former] if value != REMOVED[stage + former] else []
            continue
        name, place = former, ""
        if stage + former in RENAMED:
            name, _, place = RENAMED[stage + former].partition(".")
        if name != former:
            renamed.append(f"{stage}{former} is {stage}{name}")
        if place:
            items = result.setdefault(name, list(base[name]))
            if not isinstance(items, list) or len(items) <= int(place):
                raise UserError(
                    f"{stage}{former} is a former name of a part of {stage}{name}; give only one of them"
                )
            items[int(place)] = value
        elif isinstance(value, dict) and isinstance(base.get(name), dict):
            result[name] = _with_present_names(value, base[name], f"{stage}{name}.", renamed, ignored)
        else:
            result[name] = value
    return result


def _merge(config: Any, values: dict[str, Any], where: str) -> Any:
    """Return a configuration dataclass with `values` in place of its own."""
    hints = get_type_hints(type(config))
    changed: dict[str, Any] = {}
    for key, value in values.items():
        if key not in hints:
            raise UserError(f"{where}: unknown key {quoted(key)}; known are {', '.join(hints)}")
        if dataclasses.is_dataclass(hints[key]):
            if not isinstance(value, dict):
                raise UserError(f"{where}: {key} must be an object")
            changed[key] = _merge(getattr(config, key), value, f"{where}: {key}")
        else:
            changed[key] = _checked(hints[key], value, f"{where}: {key}")
    return dataclasses.replace(config, **changed)


_KINDS = {bool: "true or false", int: "a whole number", float: "a number", str: "a text"}


def _checked(hint: Any, value: Any, where: str) -> Any:
    """Return a value of the type that `hint` names; raise UserError for any other."""
    options = get_args(hint)
    if hint == Switch:
        return _checked_schedule(value, where)
    if get_origin(hint) is tuple:
        return _checked_tuple(None if Ellipsis in options else len(options), value, where)
    if get_origin(hint) in (Union, UnionType):  # of a type and None
        return None if value is None else _checked(options[0], value, where)
    kind = str if get_origin(hint) is Literal else hint
    fits = isinstance(value, (int, float) if kind is float else kind)
    if not fits or isinstance(value, bool) != (kind is bool):
        raise UserError(f"{where} must be {_KINDS[kind]}, not {quoted(value)}")
    if kind is not hint and value not in options:
        raise UserError(f"{where} must be one of {', '.join(options)}, not {quoted(value)}")
    return kind(value)


def _checked_schedule(value: Any, where: str) -> Schedule:
    if value in ("on", "off") or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
        return value
    raise UserError(f"{where} must be on, off, or the step from which it is learned, not {quoted(value)}")


def _checked_tuple(count: int | None, value: Any, where: str) -> tuple[float, ...]:
    """Return a list of `count` numbers, or of any length, as a tuple."""
    if not isinstance(value, list) or not all(
        isinstance(v, int | float) and not isinstance(v, bool) for v in value
    ):
        raise UserError(f"{where} must be a list of {'' if count is None else f'{count} '}numbers")
    if count is not None and len(value) != count:
        raise UserError(f"{where} must have {count} numbers, not {len(value)}")
    return tuple(float(v) for v in value)
