"""Files that are read with all their mistakes named, and written whole or not at all."""

from __future__ import annotations

import json
import os
import stat
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from adop.errors import UserError, one_line


@dataclass(frozen=True)
class Output:
    """Notes beside an option's type that it is written to, so that the command line says early where it cannot be."""

    folder: bool


MAX_DIGITS = 300  # of a whole number in JSON; longer ones are infinite, as 1e999 is

OutputFile = Annotated[Path, Output(folder=False)]
OutputFolder = Annotated[Path, Output(folder=True)]


def check_readable(path: Path) -> None:
    """Raise UserError where there is no regular file: reading a pipe or a device might never end."""
    try:
        mode = os.stat(path).st_mode
    except (OSError, ValueError) as error:
        raise UserError(f"{path}: cannot be read ({getattr(error, 'strerror', None) or error}).") from None
    if not stat.S_ISREG(mode):
        kind = "is a folder" if stat.S_ISDIR(mode) else "is a pipe or a device"
        raise UserError(f"{path}: cannot be read, because it {kind}; name a file.")


def read_text(path: Path, kind: str = "text", errors: str = "strict") -> str:
    """Return a text file in UTF-8, without its byte order mark.

    Args:
        kind: what the error says that the file is not.
        errors: "surrogateescape" keeps other bytes as `os.fsdecode` does, for files that hold names of files.

    Raises: UserError naming the file and the byte.
    """
    check_readable(path)
    try:
        return path.read_text(encoding="utf-8-sig", errors=errors)
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from None
    except UnicodeDecodeError as error:
        raise UserError(
            f"{path}: cannot be read, because it is not {kind} in UTF-8 ({error.reason} at byte {error.start})."
        ) from None


def read_json(path: Path, errors: str = "strict") -> Any:
    """Return the content of a JSON file; every number in it can be converted to a float.

    Args: errors: see `read_text`.
    Raises: UserError naming the file, the line and what is wrong.
    """
    text = read_text(path, "JSON", errors)
    try:
        return json.loads(text, parse_int=lambda digits: (int if len(digits) < MAX_DIGITS else float)(digits))
    except RecursionError:
        raise UserError(f"{path}: is not JSON that adop reads, because it is nested too deeply.") from None
    except ValueError as error:
        raise UserError(f"{path}: is not JSON ({one_line(error)}).") from None


def write_atomically(path: Path, write: Callable[[Path], object]) -> None:
    """Call `write(temporary path)` and move the result to `path`, so that no reader ever sees a half-written file."""
    start = os.fsdecode(os.fsencode(path.name)[:200])  # names have at most 255 bytes
    temporary = path.with_name(f".{start}.{os.getpid()}.tmp")
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        temporary.touch()
        mode = temporary.stat().st_mode
        write(temporary)
        temporary.chmod(mode)  # some libraries let nobody else read what they write
        with open(temporary, "rb") as handle:
            os.fsync(handle.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)


def write_text(path: Path, text: str) -> None:
    """Write a text file in UTF-8, whole or not at all."""
    write_atomically(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def append_line(path: Path, line: str) -> None:
    """Append a line to a text file, whole or not at all."""
    with open(path, "ab") as file:
        end = file.tell()
        try:
            file.write(f"{line}\n".encode())
            file.flush()
        except OSError:
            os.ftruncate(file.fileno(), end)
            raise


def check_writable(path: Path, folder: bool = False) -> None:
    """Raise UserError where a file, or a folder with files in it, cannot be made; said before the work that fills it."""
    path = path.absolute()
    wanted, other = ("folder", "file") if folder else ("file", "folder")
    if path.exists() and path.is_dir() != folder:
        raise UserError(f"{path}: is a {other}; name a {wanted}.")
    start = path if folder else path.parent
    nearest = next(parent for parent in (start, *start.parents) if os.path.lexists(parent))
    if not nearest.exists():
        raise UserError(
            f"{path}: cannot be made, because {nearest} is a link to what is not there; choose another place."
        )
    if not nearest.is_dir():
        raise UserError(f"{path}: cannot be made, because {nearest} is a file; choose another place.")
    try:
        with tempfile.TemporaryFile(dir=nearest):
            pass
    except OSError as error:
        raise UserError(f"{path}: cannot be written ({error.strerror}); choose another place.") from None


def holds_other(folder: Path, marker: str) -> bool:
    """Return whether a folder of intermediate results is something else: it holds a marker, or nothing yet."""
    is_empty = folder.is_dir() and not any(folder.iterdir())
    return os.path.lexists(folder) and not is_empty and not (folder / marker).is_file()
