"""Pages of the site that other files already hold: the options of every command, and the format of a scene folder.

A hook of mkdocs (`mkdocs.yml`). In the folder, `commands.md` and `scene-folder.md` only say where their contents are.
"""

from __future__ import annotations

import contextlib
import io
import os
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[1]
HELP_COLUMNS = 100


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Put the pages in the place of those of the folder."""
    for name, text in (("commands.md", commands_page()), ("scene-folder.md", scene_page())):
        if (short := files.get_file_from_path(name)) is not None:
            files.remove(short)
        files.append(File.generated(config, name, content=text))
    return files


def commands_page() -> str:
    """Return what each command prints with --help."""
    from adop.cli.commands import COMMANDS

    parts = ["# Commands", "What `adop COMMAND --help` prints, for every command."]
    for name, command in COMMANDS.items():
        parts += [f"## adop {name}", f"```text\n{help_of(name, command)}\n```"]
    return "\n\n".join(parts) + "\n"


def help_of(name: str, command: object) -> str:
    """Return the help of a command as plain text."""
    said = io.StringIO()
    before = {key: os.environ.get(key) for key in ("COLUMNS", "NO_COLOR")}
    os.environ.update(COLUMNS=str(HELP_COLUMNS), NO_COLOR="1")
    try:
        with contextlib.redirect_stdout(said), contextlib.suppress(SystemExit):
            command(f"adop {name}", ["--help"])  # type: ignore[operator]
    finally:
        for key, value in before.items():
            os.environ.pop(key) if value is None else os.environ.update({key: value})
    return re.sub(r"\x1b\[[0-9;]*m", "", said.getvalue()).strip()


def scene_page() -> str:
    """Return the description of a scene folder."""
    text = (ROOT / "scenes" / "README.md").read_text(encoding="utf-8")
    return text.replace("# Scenes", "# The scene folder", 1)
