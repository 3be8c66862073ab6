"""Importing captures: other programs' cameras, with photos and points, become a scene folder."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from adop.errors import UserError, quoted
from adop.geometry.colmap_lens import colmap_lens, colmap_pose
from adop.geometry.lens import Lens
from adop.importers.import_config import ImportConfig
from adop.importers.photo_finder import find_photos, keep_present
from adop.importers.programs.bundler import read_bundler
from adop.importers.programs.colmap import ColmapModel, has_points3d, read_colmap, read_points3d
from adop.importers.programs.metashape import read_metashape
from adop.importers.programs.nerfstudio import read_transforms
from adop.importers.programs.reality_capture import read_reality_capture
from adop.importers.read_points import read_points
from adop.importers.write_capture import Capture, MakePoints, write_scene
from adop.ranges import check_ranges
from adop.scene.ply import RawPoints
from adop.scene.prepare import Report
from adop.scene.scene import Photo, Scene
from adop.scene.write import check_output


def import_colmap(
    sparse: Path,
    images: Path,
    points: Path | MakePoints | None,
    output: Path,
    config: ImportConfig | None = None,
    report: Report = print,
) -> Scene:
    """Import a COLMAP model, write it as a scene folder, and return that scene.

    Args:
        sparse: folder of cameras, images (and points3D), binary or text.
        images: folder of the photos.
        points: PLY, LAS or LAZ file of a dense cloud; None takes the model's own sparse points, and so does a function,
            which is called if the model has none.
        output: the scene folder to write.
        report: called with a sentence for each thing that the user may want to know.

    Raises: UserError naming the file and what is wrong in it; then nothing is written.
    """
    config = _checked(config, output)
    model = read_colmap(Path(sparse))
    lenses, photos = _colmap_photos(model, Path(images), config.skip_missing, report)
    capture = Capture(lenses, photos, _colmap_points(model, points, report))
    return write_scene(capture, Path(output), config, report)


def import_nerfstudio(
    transforms: Path,
    points: Path | MakePoints | None,
    output: Path,
    images: Path | None = None,
    config: ImportConfig | None = None,
    report: Report = print,
) -> Scene:
    """Import a transforms.json of nerfstudio, instant-ngp or Blender; write it as a scene folder and return that scene.

    Args:
        transforms: the file or its folder, which may hold transforms_train.json and others instead.
        points: PLY, LAS or LAZ file in the same coordinates; None takes the one that the JSON names, and so does a
            function, which is called if the JSON names none.
        output: the scene folder to write.
        images: the folder that the photos' paths are relative to, by default the JSON's.
        report: called with a sentence for each thing that the user may want to know.

    Raises: UserError naming the file and what is wrong in it; then nothing is written.
    """
    config = _checked(config, output)
    folder = None if images is None else Path(images)
    own_split = config.split is None
    lenses, photos, ply = read_transforms(Path(transforms), folder, config.skip_missing, own_split, report)
    source = ply if points is None or (callable(points) and ply is not None) else points
    if source is None:
        raise UserError(f"{transforms}: names no point cloud (ply_file_path); name one with --points.")
    raw = source if callable(source) else read_points(Path(source))
    return write_scene(Capture(lenses, _without_common_folder(photos), raw), Path(output), config, report)


def import_metashape(
    cameras: Path,
    images: Path,
    points: Path | MakePoints,
    output: Path,
    config: ImportConfig | None = None,
    report: Report = print,
) -> Scene:
    """Import the cameras of Agisoft Metashape, write them as a scene folder, and return that scene.

    Args:
        cameras: the XML file that File > Export > Export Cameras writes.
        images: folder of the photos, which the cameras' labels name with their ending or without.
        points: PLY, LAS or LAZ file of the points in the chunk's coordinate system, or a function that makes some.
        output: the scene folder to write.
        report: called with a sentence for each thing that the user may want to know.

    Raises: UserError naming the file and what is wrong in it; then nothing is written.
    """
    config = _checked(config, output)
    lenses, photos = read_metashape(Path(cameras), Path(images), config.skip_missing, report)
    return write_scene(Capture(lenses, photos, _points(points)), Path(output), config, report)


def import_realityscan(
    table: Path,
    images: Path,
    points: Path | MakePoints,
    output: Path,
    config: ImportConfig | None = None,
    report: Report = print,
) -> Scene:
    """Import the cameras of RealityScan or RealityCapture, write them as a scene folder, and return that scene.

    Args:
        table: the CSV file of the export format Internal/External Camera Parameters.
        images: folder of the photos.
        points: PLY, LAS or LAZ file of the points in the coordinate system of the table, or a function that makes some.
        output: the scene folder to write.
        report: called with a sentence for each thing that the user may want to know.

    Raises: UserError naming the file and what is wrong in it; then nothing is written.
    """
    config = _checked(config, output)
    lenses, photos = read_reality_capture(Path(table), Path(images), config.skip_missing, report)
    return write_scene(Capture(lenses, photos, _points(points)), Path(output), config, report)


def import_bundler(
    bundle: Path | tuple[Path, Path],
    images: Path,
    points: Path | MakePoints | None,
    output: Path,
    config: ImportConfig | None = None,
    report: Report = print,
) -> Scene:
    """Import a reconstruction of Bundler, write it as a scene folder, and return that scene.

    Args:
        bundle: the file bundle.out, or that and the list of photos; by default the list is list.txt beside the file or in
            the folder above it.
        images: folder of the photos.
        points: PLY, LAS or LAZ file of a dense cloud; None takes the sparse points, and so does a function, which
            is called if there are none.
        output: the scene folder to write.
        report: called with a sentence for each thing that the user may want to know.

    Raises: UserError naming the file and what is wrong in it; then nothing is written.
    """
    config = _checked(config, output)
    file, photo_list = bundle if isinstance(bundle, tuple) else (bundle, None)
    names = None if photo_list is None else Path(photo_list)
    lenses, photos, sparse = read_bundler(Path(file), names, Path(images), config.skip_missing, report)
    raw = _points_or_sparse(points, sparse, "the", report)
    return write_scene(Capture(lenses, photos, raw), Path(output), config, report)


def _checked(config: ImportConfig | None, output: Path) -> ImportConfig:
    """Return the options, by default those of the command line, after checking them and the output."""
    config = config or ImportConfig()
    check_ranges(config)
    check_output(Path(output), config.force)
    return config


def _points(points: Path | MakePoints) -> RawPoints | MakePoints:
    return points if callable(points) else read_points(Path(points))


def _points_or_sparse(
    points: Path | MakePoints | None, sparse: RawPoints, whose: str, report: Report
) -> RawPoints | MakePoints:
    """Return a dense cloud if one was named, else the sparse points, or what makes some if there are none."""
    if points is not None and (not callable(points) or not len(sparse.xyz)):
        return _points(points)
    report(f"No --points: using {whose} {len(sparse.xyz)} sparse points; a dense cloud gives better results.")
    return sparse


def _without_common_folder(photos: list[Photo]) -> list[Photo]:
    """Shorten names like `images/a.jpg` to `a.jpg` where all photos lie in the same folder."""
    firsts = {photo.name.split("/")[0] for photo in photos}
    if len(firsts) > 1 or any("/" not in photo.name for photo in photos):
        return photos
    return _without_common_folder([replace(photo, name=photo.name.split("/", 1)[1]) for photo in photos])


def _colmap_photos(
    model: ColmapModel, images: Path, skip_missing: bool, report: Report
) -> tuple[list[Lens], list[Photo]]:
    used = sorted({image.camera for image in model.images})
    lenses = []
    for key in used:
        camera = model.cameras[key]
        where = f"{model.folder}: camera {key}"
        lenses.append(colmap_lens(camera.model, camera.width, camera.height, camera.params, where))
    files = find_photos(images, [image.name for image in model.images], str(model.folder), report)
    photos = []
    for image, file in zip(model.images, files, strict=True):
        where = f"{model.folder}: photo {quoted(image.name)}"
        if not np.isfinite([*image.rotation, *image.translation]).all():
            raise UserError(f"{where}: its pose is not finite; remove the photo from the model.")
        pose = colmap_pose(image.rotation, image.translation, where)
        photos.append(Photo(file, used.index(image.camera), pose, name=file.relative_to(images).as_posix()))
    hint = "the names in the model are relative to the folder that --images names"
    kept = [photos[index] for index in keep_present(files, skip_missing, hint, report)]
    numbers = sorted({photo.lens for photo in kept})
    kept = [replace(photo, lens=numbers.index(photo.lens)) for photo in kept]
    return [lenses[number] for number in numbers], sorted(kept, key=lambda photo: photo.name)


def _colmap_points(
    model: ColmapModel, points: Path | MakePoints | None, report: Report
) -> RawPoints | MakePoints:
    if points is not None and (not callable(points) or not has_points3d(model.folder)):
        return _points(points)
    xyz, colors = read_points3d(model.folder)
    sparse = RawPoints(xyz, None, colors, str(model.folder))
    return _points_or_sparse(points, sparse, "the model's", report)
