"""Sparse points of photos whose cameras are known: matches between the photos, triangulated by COLMAP."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adop.capture.cameras import given_camera
from adop.capture.capture_config import CaptureConfig
from adop.capture.matching import SEED, check_pycolmap, find_features, match_photos, quiet
from adop.capture.sources.photo_files import CapturedPhotos, link_photos
from adop.errors import UserError
from adop.geometry.lens import Lens
from adop.scene.ply import RawPoints
from adop.scene.prepare import Report
from adop.scene.scene import Photo

if TYPE_CHECKING:
    import pycolmap


_FEWEST_POINTS = 50
_FEWEST_OBSERVATIONS = 3  # two photos can agree on a point by chance
_SMALL_ANGLE_DEG = 1.5  # between a point's rays, below which it is dropped
# Of an observation, in longer sides, but 2 px at least: a phone's poses are wrong by a fraction of a degree.
_LARGE_ERROR = 4e-3


def triangulate_scene_points(
    lenses: Sequence[Lens], photos: Sequence[Photo], work: Path, report: Report
) -> RawPoints:
    """Find points that at least three photos show where their cameras, which stay as they are, see them.

    Args:
        lenses: in the sizes of their photos.
        photos: with poses in any world; what their masks hide is ignored.
        work: empty folder for intermediate results.
        report: called with a sentence for each thing that the user may want to know.

    Returns: the points with the mean colour of their observations.
    Raises: UserError for a lens that COLMAP has no model of, and where few points are found.
    """
    check_pycolmap("Finding points in photos", "name a point cloud with --points")
    used = sorted({photo.lens for photo in photos})
    groups = [
        given_camera(lenses[lens], [index for index, photo in enumerate(photos) if photo.lens == lens])
        for lens in used
    ]
    report(f"There are no points; they are sought in the {len(photos)} photos.")
    captured = link_photos(photos, work / "photos")
    folder = os.path.commonpath([os.path.abspath(photo.file.parent) for photo in photos])
    find_features(captured, groups, work, CaptureConfig(), report)
    try:
        match_photos(captured, work, CaptureConfig(), report)
    except UserError as error:
        raise UserError(str(error).replace(str(captured.folder), folder)) from None
    model = _triangulate(captured, photos, work)
    points = [point for point in model.points3D.values() if point.track.length() >= _FEWEST_OBSERVATIONS]
    if len(points) < _FEWEST_POINTS:
        raise UserError(
            f"{folder}: the photos and their cameras do not agree: only {len(points)} points could be triangulated; "
            "check that the poses and lenses are those of these photos, or name a point cloud with --points."
        )
    report(f"{len(points):,} points were triangulated; `adop densify SCENE` finds dense ones.")
    xyz = np.array([point.xyz for point in points], np.float64)
    return RawPoints(xyz, None, np.array([point.color for point in points], np.uint8), folder)


def _triangulate(captured: CapturedPhotos, photos: Sequence[Photo], work: Path) -> pycolmap.Reconstruction:
    """Return COLMAP's model with the given cameras and the points that fit them."""
    import pycolmap

    model = pycolmap.Reconstruction()
    with pycolmap.Database.open(work / "database.db") as opened:
        for camera in opened.read_all_cameras():
            model.add_camera_with_trivial_rig(camera)
        for number, (name, photo) in enumerate(zip(captured.names, photos, strict=True), 1):
            camera_id = opened.read_image(number).camera_id
            image = pycolmap.Image(name=name, camera_id=camera_id, image_id=number)
            model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(photo.world_to_camera[:3]))
    limit = max(2.0, _LARGE_ERROR * max(max(size) for size in captured.sizes))
    options = pycolmap.IncrementalPipelineOptions()
    options.random_seed = options.mapper.random_seed = options.triangulation.random_seed = SEED
    options.mapper.filter_max_reproj_error = limit
    options.triangulation.merge_max_reproj_error = options.triangulation.complete_max_reproj_error = limit
    output = work / "triangulated"
    output.mkdir()
    with quiet():
        model = pycolmap.triangulate_points(
            model, work / "database.db", captured.folder, output, options=options
        )
        pycolmap.ObservationManager(model).filter_all_points3D(limit, _SMALL_ANGLE_DEG)
        model.extract_colors_for_all_images(captured.folder)
    return model
