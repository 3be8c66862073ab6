"""`adop densify`: dense points for a scene."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from adop.cli.parse import parse_options
from adop.stereo.stereo_config import StereoConfig


@dataclass(frozen=True)
class DensifyOptions:
    """Find dense points for a scene whose cameras are known, by stereo between its photos."""

    scene: tyro.conf.Positional[Path]
    """Scene folder."""
    output: Path | None = None
    """Scene folder to make. None: replace the points of the scene."""
    stereo: Annotated[StereoConfig, tyro.conf.arg(name="")] = field(default_factory=StereoConfig)


def densify_command(name: str, words: list[str]) -> int:
    """Run `adop densify` and return the exit status."""
    options = parse_options(DensifyOptions, name, words)
    from adop.stereo.densify_scene import densify_scene

    densify_scene(options.scene, options.output, options.stereo)
    return 0
