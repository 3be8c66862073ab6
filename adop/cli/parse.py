"""Options of a command, parsed from the words on the command line."""

from __future__ import annotations

from typing import TypeVar

import tyro

from adop.ranges import check_ranges

Options = TypeVar("Options")


def parse_options(options: type[Options], name: str, words: list[str]) -> Options:
    """Return the options of the command `name`; end the program after `--help` or a mistake.

    Args:
        options: dataclass with a field and its help for each option.
        name: as the user types it, `adop train`.
        words: what follows the name on the command line.
    """
    given = tyro.cli(options, prog=name, args=words)
    check_ranges(given, option_label)
    return given


def option_label(name: str) -> str:
    """Return how an option is called on the command line, given its field's name."""
    return f"--{name.replace('_', '-')}"
