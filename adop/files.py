"""Files that are written whole or not at all."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from adop.errors import UserError


@dataclass(frozen=True)
class Output:
    """Notes beside an option's type that it is written to, so that the command line says early where it cannot be."""

    folder: bool


OutputFile = Annotated[Path, Output(folder=False)]
OutputFolder = Annotated[Path, Output(folder=True)]


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)` and move the result to `path`, so that no reader ever sees a half-written file."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        write(temporary)
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def check_writable(path: Path, folder: bool = False) -> None:
    """Raise UserError where a file, or a folder with files in it, cannot be made; said before the work that fills it."""
    path = path.absolute()
    wanted, other = ("folder", "file") if folder else ("file", "folder")
    if path.exists() and path.is_dir() != folder:
        raise UserError(f"{path}: is a {other}; name a {wanted}.")
    nearest = next(parent for parent in (path, *path.parents) if parent.is_dir() or parent.exists())
    if not nearest.is_dir() and nearest != path:
        raise UserError(f"{path}: cannot be made, because {nearest} is a file; choose another place.")
    try:
        with tempfile.TemporaryFile(dir=nearest if nearest.is_dir() else nearest.parent):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place.") from None
