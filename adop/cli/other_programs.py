"""`adop import` and `adop export`: scenes of other programs' output, and runs as other programs' files."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from adop.cli.parse import option_label, parse_options
from adop.export.export_config import ExportConfig, Kind, check_export
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
    """PLY, LAS or LAZ file of a dense cloud. None: the sparse points of the model, or some found in the photos."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_colmap_command(name: str, words: list[str]) -> int:
    """Run `adop import colmap` and return the exit status."""
    return _import(
        ColmapOptions,
        name,
        words,
        lambda to, o, points: to.import_colmap(o.sparse, o.images, points, o.output, o.options),
    )


@dataclass(frozen=True)
class NerfstudioOptions:
    """Make a scene folder of a nerfstudio transforms.json."""

    transforms: tyro.conf.Positional[Path]
    """The transforms.json, or its folder, which may hold Blender's transforms_train.json and others instead."""
    output: OutputFolder
    """Scene folder to make."""
    images: Path | None = None
    """Folder that the photos' paths are relative to. None: the folder of the file."""
    points: Path | None = None
    """PLY, LAS or LAZ file of the points. None: the one that the file names; without one, find points in the photos."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_nerfstudio_command(name: str, words: list[str]) -> int:
    """Run `adop import nerfstudio` and return the exit status."""
    return _import(
        NerfstudioOptions,
        name,
        words,
        lambda to, o, points: to.import_nerfstudio(o.transforms, points, o.output, o.images, o.options),
    )


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
    """PLY, LAS or LAZ file of the points, exported in the chunk's coordinate system. None: find points in the photos."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_metashape_command(name: str, words: list[str]) -> int:
    """Run `adop import metashape` and return the exit status."""
    return _import(
        MetashapeOptions,
        name,
        words,
        lambda to, o, points: to.import_metashape(o.cameras, o.images, points, o.output, o.options),
    )


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
    """PLY, LAS or LAZ file of the points, exported in the same coordinate system. None: find points in the photos."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_realityscan_command(name: str, words: list[str]) -> int:
    """Run `adop import realityscan` and return the exit status."""
    return _import(
        RealityScanOptions,
        name,
        words,
        lambda to, o, points: to.import_realityscan(o.table, o.images, points, o.output, o.options),
    )


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
    """PLY, LAS or LAZ file of a dense cloud. None: the sparse points of the bundle, or some found in the photos."""
    options: Annotated[ImportConfig, tyro.conf.arg(name="")] = field(default_factory=ImportConfig)


def import_bundler_command(name: str, words: list[str]) -> int:
    """Run `adop import bundler` and return the exit status."""

    def run(to: Any, o: BundlerOptions, points: Path | MakePoints) -> Scene:
        bundle = o.bundle if o.photo_list is None else (o.bundle, o.photo_list)
        return to.import_bundler(bundle, o.images, points, o.output, o.options)

    return _import(BundlerOptions, name, words, run)


def _import(kind: type, name: str, words: list[str], run: Callable[[Any, Any, Any], Scene]) -> int:
    """Parse the options of a command, import, say what was made, and return the exit status.

    Args: run: gets the module of the importers, the options, and the file of points or what finds some in the photos.
    """
    options: Any = parse_options(kind, name, words)
    from adop.importers import import_scene

    scene = run(import_scene, options, options.points or _triangulation(options.output))
    print(f"{options.output}: {len(scene.photos)} photos, {len(scene.points):,} points")
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


@dataclass(frozen=True)
class ExportOptions:
    """Write a run, or a part of it, as a file or folder that other programs read.

    ply: coloured points with normals. colmap: refined cameras and points, a COLMAP model. nerfstudio: refined cameras,
    points and photos. 3dgs: the points as small Gaussians, without the network. mesh: a coloured surface (.ply, .obj or
    .glb). lut: the learned response of a lens (.cube), from linear light to values of the photo. csv: of each photo the
    name, lens, split, learned exposure (EV relative to the scene's), EV in EXIF (at ISO 100), factors of white balance.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    to: Kind
    """What to write."""
    output: Path
    """File to write, which ends as it should; for colmap and nerfstudio a new or empty folder."""
    scene: Path | None = None
    """Scene folder. None: where it was during training."""
    options: Annotated[ExportConfig, tyro.conf.arg(name="")] = field(default_factory=ExportConfig)


def export_command(name: str, words: list[str]) -> int:
    """Run `adop export` and return the exit status."""
    options = parse_options(ExportOptions, name, words)
    check_export(options.to, options.output, options.options, option_label)
    from adop.export.export import export_run
    from adop.run.run import load

    run = load(options.run, options.scene, "cpu")
    export_run(run, options.to, options.output, options.options)
    return 0
