"""Options of a command, parsed from the words on the command line."""

from __future__ import annotations

from typing import Any, TypeVar, get_type_hints

import tyro

from adop.files import Output, check_writable
from adop.ranges import check_ranges, notes

Options = TypeVar("Options")


def parse_options(options: type[Options], name: str, words: list[str]) -> Options:
    """Return the options of the command `name`; end the program after `--help` or a mistake.

    Args:
        options: dataclass with a field and its help for each option.
        name: as the user types it, `adop train`.
        words: what follows the name on the command line.
    """
    given = tyro.cli(options, prog=name, args=words)
    check_options(given)
    return given


def check_options(options: Any) -> None:
    """Raise UserError where a number is out of its range, or an output cannot be written."""
    check_ranges(options, option_label)
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        path = getattr(options, name)
        for mark in notes(hint):
            if isinstance(mark, Output) and path is not None:
                check_writable(path, mark.folder)


def option_label(name: str) -> str:
    """Return how an option is called on the command line, given its field's name."""
    return f"--{name.replace('_', '-')}"
