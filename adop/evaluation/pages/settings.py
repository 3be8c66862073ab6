"""The settings of a run as a page shows them: the main ones in words, and the options that differ from the preset's."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any

from adop.config import TrainConfig, preset

CHOSEN_BY_MACHINE = ("bf16",)  # options that training fills in where they are not given
NOT_OPTIONS = ("scene", "preset")  # said elsewhere


@dataclass(frozen=True)
class Option:
    """An option of a run, named as on the command line, without its hyphens in front."""

    name: str
    value: str
    default: str  # the preset's


def options(config: TrainConfig) -> list[Option]:
    """Return every option of a configuration, in the order of the command line's help."""
    values, defaults = _flat(config), _flat(preset(config.preset))
    return [
        Option(name, value, value if name in CHOSEN_BY_MACHINE else defaults[name])
        for name, value in values.items()
        if name not in NOT_OPTIONS
    ]


def changed(config: TrainConfig) -> list[Option]:
    """Return the options that differ from those of the configuration's preset."""
    return [option for option in options(config) if option.value != option.default]


def differing(configs: list[TrainConfig]) -> list[tuple[str, list[str]]]:
    """Return the options in which configurations differ: the name, and each one's value."""
    all_values = [{"preset": config.preset} | _flat(config) for config in configs]
    rows = [(name, [values[name] for values in all_values]) for name in all_values[0]]
    return [(name, values) for name, values in rows if len(set(values)) > 1 and name != "scene"]


def network_text(config: TrainConfig) -> str:
    """Return which network a configuration has, in words."""
    network, levels = config.network, config.render.levels
    if network.kind == "none":
        return f"none: hole-filled points on {levels} levels"
    name = {"unet": "U-Net", "light": "light decoder"}.get(network.kind, network.kind)
    return f"{name}, {network.width} channels wide, on {levels} levels of {config.render.features} features"


def length_text(config: TrainConfig, step: int) -> str:
    """Return how long a run was trained, and how long it was meant to be."""
    if config.minutes is not None:
        return f"{step:,} in {config.minutes:g} minutes"
    return f"{step:,}" if step == config.steps else f"{step:,} of {config.steps:,}"


def duration_text(seconds: float) -> str:
    """Return a duration in words: seconds, minutes or hours."""
    if seconds < 60:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{seconds / 60:.1f} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60:02d} min"


def _flat(config: Any, stage: str = "") -> dict[str, str]:
    """Return the values of a dataclass of options as texts; those of the stages in it are named `stage.name`."""
    found: dict[str, str] = {}
    for field in dataclasses.fields(config):
        value, name = getattr(config, field.name), stage + field.name.replace("_", "-")
        if dataclasses.is_dataclass(value):
            found |= _flat(value, f"{name}.")
        else:
            found[name] = _value_text(value)
    return found


def _value_text(value: Any) -> str:
    if isinstance(value, bool):
        return "on" if value else "off"
    if isinstance(value, tuple):
        return " ".join(f"{item:g}" for item in value)
    return f"{value:.12g}" if isinstance(value, float) else str(value)
