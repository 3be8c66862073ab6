"""`adop import colmap` and `adop import nerfstudio`: make a scene folder of another program's output."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from adop.cli.parse import parse_options
from adop.importers.import_config import ImportConfig


@dataclass(frozen=True)
class ColmapOptions:
    """Make a scene folder of a COLMAP model, its photos and a point cloud."""

    sparse: tyro.conf.Positional[Path]
    """Folder with cameras, images and points3D, each .bin or .txt."""
    images: Path
    """Folder of the photos."""
    output: Path
    """Scene folder to make."""
    points: Path | None = None
    """PLY file of the dense cloud. None: use the sparse points of the model."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_colmap_command(name: str, words: list[str]) -> int:
    """Run `adop import colmap` and return the exit status."""
    options = parse_options(ColmapOptions, name, words)
    from adop.importers.import_scene import import_colmap

    scene = import_colmap(options.sparse, options.images, options.points, options.output, options.options)
    print(f"{options.output}: {len(scene.photos)} photos, {len(scene.points):,} points")
    return 0


@dataclass(frozen=True)
class NerfstudioOptions:
    """Make a scene folder of a nerfstudio transforms.json."""

    transforms: tyro.conf.Positional[Path]
    """The transforms.json, or its folder."""
    output: Path
    """Scene folder to make."""
    images: Path | None = None
    """Folder that the photos' paths are relative to. None: the folder of the file."""
    points: Path | None = None
    """PLY file of the points. None: the one that the file names."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_nerfstudio_command(name: str, words: list[str]) -> int:
    """Run `adop import nerfstudio` and return the exit status."""
    options = parse_options(NerfstudioOptions, name, words)
    from adop.importers.import_scene import import_nerfstudio

    scene = import_nerfstudio(
        options.transforms, options.points, options.output, options.images, options.options
    )
    print(f"{options.output}: {len(scene.photos)} photos, {len(scene.points):,} points")
    return 0
