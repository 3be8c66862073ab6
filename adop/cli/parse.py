"""Options of a command, parsed from the words on the command line."""

from __future__ import annotations

from typing import TypeVar

import tyro

Options = TypeVar("Options")


def parse_options(options: type[Options], name: str, words: list[str]) -> Options:
    """Return the options of the command `name`; end the program after `--help` or a mistake.

    Args:
        options: dataclass with a field and its help for each option.
        name: as the user types it, `adop train`.
        words: what follows the name on the command line.
    """
    return tyro.cli(options, prog=name, args=words)
