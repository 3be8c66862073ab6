"""`adop capture` and `adop densify`: a scene of photos, and dense points for a scene whose cameras are known."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from adop.capture.capture_config import CaptureConfig
from adop.cli.parse import parse_options
from adop.errors import UserError
from adop.files import OutputFolder
from adop.stereo.stereo_config import StereoConfig


@dataclass(frozen=True)
class CaptureOptions:
    """Make a scene of a folder of photos, or of a video: cameras by structure from motion, points by stereo.

    The scene's folder capture/ holds a report: report.txt, report.json and index.html. An interrupted capture goes on
    when the same command is given again.
    """

    source: tyro.conf.Positional[Path]
    """Folder of photos, with folders in it or without, or a video."""
    output: OutputFolder
    """Scene folder to make."""
    capture: Annotated[CaptureConfig, tyro.conf.arg(name="")] = field(default_factory=CaptureConfig)
    stereo: StereoConfig = field(default_factory=StereoConfig)


def capture_command(name: str, words: list[str]) -> int:
    """Run `adop capture` and return the exit status."""
    options = parse_options(CaptureOptions, name, words)
    from adop.capture.capture_scene import capture_scene

    with _explained(options.output):
        capture_scene(options.source, options.output, options.capture, options.stereo)
    print(f"next: adop train {options.output} --output runs/{options.output.name}")
    return 0


@dataclass(frozen=True)
class DensifyOptions:
    """Find dense points for a scene whose cameras are known, by stereo between its photos."""

    scene: tyro.conf.Positional[Path]
    """Scene folder."""
    output: OutputFolder | None = None
    """Scene folder to make. None: replace the points of the scene."""
    stereo: Annotated[StereoConfig, tyro.conf.arg(name="")] = field(default_factory=StereoConfig)


def densify_command(name: str, words: list[str]) -> int:
    """Run `adop densify` and return the exit status."""
    options = parse_options(DensifyOptions, name, words)
    from adop.stereo.densify_scene import densify_scene

    with _explained(options.output or options.scene):
        densify_scene(options.scene, options.output, options.stereo)
    return 0


@contextmanager
def _explained(output: Path) -> Iterator[None]:
    """Say after an interruption how to go on, and end in a sentence where nothing can be written."""
    try:
        yield
    except KeyboardInterrupt:
        print("\nInterrupted. The same command goes on where this one stopped.", file=sys.stderr)
        raise
    except OSError as error:
        raise UserError(
            f"{error.filename or output}: {error.strerror or error}. Make room, or choose another output; the same "
            "command goes on where this one stopped."
        ) from error
