"""`adop capture`: from a folder of photos, or a video, to a scene."""

from __future__ import annotations

import os
import shutil
from dataclasses import replace
from pathlib import Path

from adop.capture.cameras import group_cameras
from adop.capture.capture_config import CaptureConfig
from adop.capture.mapping import Mapping, map_photos
from adop.capture.matching import check_pycolmap, find_features, match_photos
from adop.capture.report import make_report, report_lines, save_report
from adop.capture.report_page import write_page
from adop.capture.sources.photo_files import WORK_ENDING, CapturedPhotos, collect_photos
from adop.errors import UserError
from adop.files import holds_other, write_text
from adop.importers.import_config import ImportConfig
from adop.importers.import_scene import import_colmap
from adop.ranges import check_ranges
from adop.scene.point_cloud import thinned
from adop.scene.prepare import Report
from adop.scene.read import load_scene
from adop.scene.scene import Scene
from adop.scene.write import check_output, replace_folder
from adop.stereo.colmap_stereo import check_stereo
from adop.stereo.densify_scene import densify_scene
from adop.stereo.stereo_config import StereoConfig

MARKER = "adop_capture.txt"  # in the folder of intermediate results
REPORTED_POINTS = 1_000_000
BYTES_PER_PHOTO = 8_000_000  # features, matches, and the copy in the scene
BYTES_PER_STEREO_PIXEL = 80  # planes in three stages, and points


def capture_scene(
    source: Path,
    output: Path,
    config: CaptureConfig | None = None,
    stereo: StereoConfig | None = None,
    report: Report = print,
) -> Scene:
    """Find the cameras of photos by structure from motion, and points by stereo; write a scene, and return it.

    What is finished is kept in a folder beside the output, which ends in `.capture`, until the scene is written: the same
    call goes on after an interruption. The scene's folder `capture/` holds the report.

    Args:
        source: folder of photos, or a video.
        output: the scene folder to write.
        report: called with a sentence for each thing that the user may want to know.

    Raises: UserError saying which photos cannot be used, or what is missing for a scene; then no scene is written.
    """
    config, stereo = config or CaptureConfig(), stereo or StereoConfig()
    check_ranges(config)
    check_ranges(stereo)
    check_stereo(stereo)
    check_pycolmap("Structure from motion", "run COLMAP elsewhere and use `adop import colmap`")
    output = Path(os.path.realpath(output))
    check_output(output, config.force)
    work = output.with_name(output.name + WORK_ENDING)
    _open_work_folder(work)
    report("Stage 1 of 4: photos.")
    try:
        photos = collect_photos(Path(source), work, config, report)
    except UserError:
        files = (file for file in work.rglob("*") if file.is_file() and not file.is_symlink())
        if {file.name for file in files} == {MARKER}:
            shutil.rmtree(work, ignore_errors=True)  # nothing that took time to compute
        raise
    _check_space(work, photos, stereo)
    report(f"Stage 2 of 4: features and matches of {len(photos.names)} photos.")
    find_features(photos, group_cameras(photos, config), work, config, report)
    match_photos(photos, work, config, report)
    report("Stage 3 of 4: cameras.")
    mapping = map_photos(photos, work, report)
    report("Stage 4 of 4: points.")
    sparse = _sparse_scene(mapping, photos, work, config)
    scene = _dense_scene(sparse, work, stereo, report)
    report("Writing the report.")
    _write_report(photos, mapping, replace(scene, name=output.name), work, report)
    replace_folder(scene.folder, output)
    shutil.rmtree(work, ignore_errors=True)
    scene = load_scene(output, report)
    report(
        f"{output}: {len(scene.photos)} photos, {len(scene.points):,} points; report: {output}/capture/index.html"
    )
    return scene


def _open_work_folder(work: Path) -> None:
    """Make the folder of intermediate results. Raises: UserError where it holds what no capture has put there."""
    if holds_other(work, MARKER):
        raise UserError(
            f"{work}: is where the capture would keep what it finds meanwhile, but is something else; move it away, or "
            "choose another output."
        )
    write_text(work / MARKER, "adop capture keeps here what it has found, until the scene is written.\n")


def _check_space(work: Path, photos: CapturedPhotos, stereo: StereoConfig) -> None:
    """Raise UserError where the disk has too little room: COLMAP ends the program where it cannot write its database."""
    needed = BYTES_PER_PHOTO * len(photos.names)
    for width, height in photos.sizes:
        scale = min(1.0, stereo.longest_side / max(width, height))
        needed += round(BYTES_PER_STEREO_PIXEL * scale**2 * width * height)
    there = sum(file.lstat().st_size for file in work.rglob("*") if file.is_file())
    free = shutil.disk_usage(work).free
    if free + there < needed:
        raise UserError(
            f"{work.parent}: about {needed / 1e9:.2f} GB are needed, {free / 1e9:.2f} GB are free. Make room, or choose "
            "another output."
        )


def _sparse_scene(mapping: Mapping, photos: CapturedPhotos, work: Path, config: CaptureConfig) -> Path:
    """Return the scene folder with the cameras and the points of structure from motion."""
    folder = work / "sparse_scene"
    key = f"{mapping.model.stat().st_ino} {mapping.model.stat().st_mtime_ns} {config.longest_side} {config.masks}"
    if not _is_made_for(folder, key):
        shutil.rmtree(work / "scene", ignore_errors=True)
        options = ImportConfig(masks=config.masks, longest_side=config.longest_side, force=True)
        import_colmap(mapping.model, photos.folder, None, folder, options, lambda _: None)
        _mark(folder, key)
    return folder


def _dense_scene(sparse: Path, work: Path, stereo: StereoConfig, report: Report) -> Scene:
    """Return the scene with dense points, in the folder `scene`."""
    folder = work / "scene"
    if _is_made_for(folder, str(stereo)):
        return load_scene(folder, report)
    shutil.rmtree(folder, ignore_errors=True)
    scene = densify_scene(sparse, folder, stereo, report)
    _mark(folder, str(stereo))
    return scene


def _mark(folder: Path, key: str) -> None:
    """Write beside a finished folder what it was made for."""
    write_text(folder.with_suffix(".txt"), key)


def _is_made_for(folder: Path, key: str) -> bool:
    marker = folder.with_suffix(".txt")
    return folder.is_dir() and marker.is_file() and marker.read_bytes() == key.encode()


def _write_report(photos: CapturedPhotos, mapping: Mapping, scene: Scene, work: Path, report: Report) -> None:
    folder, count = scene.folder / "capture", len(scene.points)
    if count > REPORTED_POINTS:  # enough for what the report measures and shows
        scene = replace(scene, points=thinned(scene.points, REPORTED_POINTS))
    made = replace(make_report(photos, mapping, scene), points=count)
    save_report(made, folder)
    write_page(made, scene, photos.folder, folder)
    shutil.copytree(work / "sparse", folder / "sparse", dirs_exist_ok=True)
    for line in report_lines(made):
        report(line)
