"""`adop import`: make a scene folder of another program's output."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import tyro

from adop.cli.parse import parse_options
from adop.files import OutputFolder
from adop.importers.import_config import ImportConfig

if TYPE_CHECKING:
    from adop.geometry.lens import Lens
    from adop.importers.write_capture import MakePoints
    from adop.scene.ply import RawPoints
    from adop.scene.scene import Photo, Scene


@dataclass(frozen=True)
class ColmapOptions:
    """Make a scene folder of a COLMAP model, its photos and a point cloud."""

    sparse: tyro.conf.Positional[Path]
    """Folder with cameras, images and points3D, each .bin or .txt."""
    images: Path
    """Folder of the photos."""
    output: OutputFolder
    """Scene folder to make."""
    points: Path | None = None
    """PLY file of the dense cloud. None: use the sparse points of the model; without any, find some in the photos."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_colmap_command(name: str, words: list[str]) -> int:
    """Run `adop import colmap` and return the exit status."""
    options = parse_options(ColmapOptions, name, words)
    from adop.importers.import_scene import import_colmap

    points = options.points or _triangulation(options.output)
    scene = import_colmap(options.sparse, options.images, points, options.output, options.options)
    return _made(options.output, scene)


@dataclass(frozen=True)
class NerfstudioOptions:
    """Make a scene folder of a nerfstudio transforms.json."""

    transforms: tyro.conf.Positional[Path]
    """The transforms.json, or its folder."""
    output: OutputFolder
    """Scene folder to make."""
    images: Path | None = None
    """Folder that the photos' paths are relative to. None: the folder of the file."""
    points: Path | None = None
    """PLY file of the points. None: the one that the file names; without one, find points in the photos."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_nerfstudio_command(name: str, words: list[str]) -> int:
    """Run `adop import nerfstudio` and return the exit status."""
    options = parse_options(NerfstudioOptions, name, words)
    from adop.importers.import_scene import import_nerfstudio

    points = options.points or _triangulation(options.output)
    scene = import_nerfstudio(options.transforms, points, options.output, options.images, options.options)
    return _made(options.output, scene)


@dataclass(frozen=True)
class MetashapeOptions:
    """Make a scene folder of the cameras that Agisoft Metashape exports as XML."""

    cameras: tyro.conf.Positional[Path]
    """The XML file that File > Export > Export Cameras writes."""
    images: Path
    """Folder of the photos."""
    output: OutputFolder
    """Scene folder to make."""
    points: Path | None = None
    """PLY file of the points, exported in the chunk's coordinate system. None: find points in the photos."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_metashape_command(name: str, words: list[str]) -> int:
    """Run `adop import metashape` and return the exit status."""
    options = parse_options(MetashapeOptions, name, words)
    from adop.importers.import_scene import import_metashape

    points = options.points or _triangulation(options.output)
    scene = import_metashape(options.cameras, options.images, points, options.output, options.options)
    return _made(options.output, scene)


@dataclass(frozen=True)
class RealityScanOptions:
    """Make a scene folder of the cameras that RealityScan or RealityCapture exports as CSV."""

    table: tyro.conf.Positional[Path]
    """The CSV file of the export format Internal/External Camera Parameters."""
    images: Path
    """Folder of the photos."""
    output: OutputFolder
    """Scene folder to make."""
    points: Path | None = None
    """PLY file of the points, exported in the same coordinate system. None: find points in the photos."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_realityscan_command(name: str, words: list[str]) -> int:
    """Run `adop import realityscan` and return the exit status."""
    options = parse_options(RealityScanOptions, name, words)
    from adop.importers.import_scene import import_realityscan

    points = options.points or _triangulation(options.output)
    scene = import_realityscan(options.table, options.images, points, options.output, options.options)
    return _made(options.output, scene)


@dataclass(frozen=True)
class BundlerOptions:
    """Make a scene folder of a Bundler reconstruction (bundle.out, version 0.3)."""

    bundle: tyro.conf.Positional[Path]
    """The file bundle.out."""
    images: Path
    """Folder of the photos."""
    output: OutputFolder
    """Scene folder to make."""
    photo_list: Annotated[Path | None, tyro.conf.arg(name="list")] = None
    """The list of photos. None: list.txt beside the bundle or in the folder above it."""
    points: Path | None = None
    """PLY file of a dense cloud. None: use the sparse points of the bundle; without any, find some in the photos."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_bundler_command(name: str, words: list[str]) -> int:
    """Run `adop import bundler` and return the exit status."""
    options = parse_options(BundlerOptions, name, words)
    from adop.importers.import_scene import import_bundler

    bundle = options.bundle if options.photo_list is None else (options.bundle, options.photo_list)
    points = options.points or _triangulation(options.output)
    scene = import_bundler(bundle, options.images, points, options.output, options.options)
    return _made(options.output, scene)


def _made(output: Path, scene: Scene) -> int:
    """Say what was made, and return the exit status."""
    print(f"{output}: {len(scene.photos)} photos, {len(scene.points):,} points")
    return 0


def _triangulation(output: Path) -> MakePoints:
    """Return what finds points in photos; its intermediate results lie beside the scene, and are removed."""

    def make(lenses: list[Lens], photos: list[Photo]) -> RawPoints:
        import tempfile

        from adop.capture.triangulate import triangulate_scene_points

        beside = output.absolute().parent
        folder = beside if beside.is_dir() else None
        with tempfile.TemporaryDirectory(prefix=f"{output.name}.points", dir=folder) as work:
            return triangulate_scene_points(lenses, photos, Path(work), print)

    return make
