"""`adop densify`: dense points for a scene whose cameras are known, by multi-view stereo."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import shutil
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np

from adop.backend.choice import choose_device
from adop.errors import UserError
from adop.files import holds_other, write_atomically, write_text
from adop.ranges import check_ranges
from adop.scene.photo_cache import PhotoCache
from adop.scene.ply import RawPoints, write_ply
from adop.scene.point_cloud import PrepareConfig, save_prepared
from adop.scene.prepare import Report, prepare
from adop.scene.read import PREPARED_FILE, load_scene
from adop.scene.scene import Scene
from adop.scene.write import check_output, save_scene
from adop.stereo.colmap_stereo import check_stereo, colmap_points
from adop.stereo.depth_maps import StereoScene, find_planes
from adop.stereo.fusion import fuse
from adop.stereo.stereo_config import StereoConfig
from adop.stereo.views import find_neighbourhoods

MARKER = "made_from.json"  # in the folder of intermediate results


def densify_scene(
    folder: Path, output: Path | None = None, config: StereoConfig | None = None, report: Report = print
) -> Scene:
    """Find the points of a scene by stereo between its photos, write them, and return the scene.

    What is finished is kept beside the scene, in a folder that ends in `.stereo`, until the points are written: the same
    call goes on after an interruption.

    Args:
        folder: the scene folder.
        output: the scene folder to write; None replaces the points of `folder`.
        report: called with a sentence for each thing that the user may want to know.

    Raises: UserError where no two photos see the same points, or a photo cannot be read; then the scene is as before.
    """
    config = config or StereoConfig()
    check_ranges(config)
    check_stereo(config)
    folder = Path(folder)
    if output is not None:
        check_output(Path(output), force=False)
    scene = load_scene(folder, report)
    work = Path(f"{os.path.realpath(output or folder)}.stereo")
    _open_work_folder(work, scene, config)
    raw = stereo_points(scene, config, work, report)
    if config.keep_points:
        raw = _joined(scene, raw)
    # Several photos found each point: one far from all others is no outlier.
    points = prepare(raw, scene.views, PrepareConfig(outlier=0.0), report)
    report(f"{len(points):,} points after stereo, {len(scene.points):,} before it.")
    scene = replace(scene, points=points)
    if output is not None:
        scene = save_scene(scene, Path(output))
    else:
        ply = folder / "point_cloud.ply"
        write_atomically(
            ply,
            functools.partial(
                write_ply,
                xyz=points.xyz,
                normals=points.normals,
                colors=points.colors,
                confidence=points.confidence,
            ),
        )
        save_prepared(points, folder / PREPARED_FILE, ply)
    shutil.rmtree(work, ignore_errors=True)
    return scene


def stereo_points(scene: Scene, config: StereoConfig, work: Path, report: Report) -> RawPoints:
    """Return the points that stereo finds, keeping the results of its stages in a folder.

    Raises: UserError where no two photos see the same points, or too few photos agree on any surface.
    """
    neighbourhoods = find_neighbourhoods(scene, config.sources)
    alone = [photo.name for index, photo in enumerate(scene.photos) if index not in neighbourhoods]
    if len(alone) > len(scene.photos) - 2:
        raise UserError(
            f"{scene.folder}: no two photos see the same points, so that stereo has nothing to compare; "
            "check with `adop info` that points and cameras belong together."
        )
    if alone:
        report(
            f"{len(alone)} of {len(scene.photos)} photos share no points with others: {', '.join(alone[:5])}."
        )
    stereo = StereoScene(
        scene, PhotoCache(scene), neighbourhoods, config, work, device=choose_device(config.device)
    )
    if config.method == "colmap":
        raw = colmap_points(stereo)
    else:
        find_planes(stereo)
        raw = fuse(stereo)
    if len(raw.xyz) < 2:
        raise UserError(
            f"{scene.folder}: no {config.min_views} photos agree on any surface; "
            f"--min-views {config.min_views - 1} asks for fewer"
            + (", a lower --min-confidence for less." if config.min_confidence else ".")
        )
    return raw


def _open_work_folder(work: Path, scene: Scene, config: StereoConfig) -> None:
    """Make the folder of intermediate results; results of other photos, cameras or options in it are removed."""
    digest = hashlib.sha256(scene.points.xyz.tobytes())
    for photo in scene.photos:
        digest.update(f"{photo.name} {photo.lens} {photo.file.stat().st_size}".encode())
        digest.update(np.ascontiguousarray(photo.world_to_camera).tobytes())
    for lens in scene.lenses:
        digest.update(lens.intrinsics.tobytes() + lens.distortion.tobytes())
    key = json.dumps({"scene": digest.hexdigest(), "options": asdict(config)})
    marker = work / MARKER
    if holds_other(work, MARKER):
        raise UserError(
            f"{work}: is needed for what stereo finds meanwhile, but holds something else; move it away, or choose "
            "another output."
        )
    if marker.is_file() and marker.read_bytes() != key.encode():
        shutil.rmtree(work)
    work.mkdir(parents=True, exist_ok=True)
    write_text(marker, key)


def _joined(scene: Scene, raw: RawPoints) -> RawPoints:
    """Return the scene's own points and the new ones; the confidence of those that came without is NaN."""
    own = scene.points
    normals = np.zeros_like(own.xyz) if own.normals is None else own.normals
    colours = np.full(own.xyz.shape, 128, np.uint8) if own.colors is None else own.colors
    assert raw.normals is not None and raw.colors is not None
    parts = [part.confidence for part in (own, raw)]
    confidence = None
    if any(part is not None for part in parts):
        unknown = [np.full(len(part.xyz), np.nan, np.float32) for part in (own, raw)]
        confidence = np.concatenate([u if c is None else c for c, u in zip(parts, unknown, strict=True)])
    return RawPoints(
        np.concatenate((own.xyz.astype(np.float64), raw.xyz)),
        np.concatenate((normals, raw.normals)),
        np.concatenate((colours, raw.colors)),
        raw.source,
        confidence,
    )
