"""`--stereo colmap`: points by COLMAP's dense stereo, which is given the photos without distortion as its workspace."""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from adop.errors import UserError, one_line
from adop.files import write_text
from adop.geometry.lens import Lens
from adop.progress import Bar
from adop.scene.ply import RawPoints, read_ply
from adop.scene.visibility import visible
from adop.stereo.depth_maps import BAR, StereoScene
from adop.stereo.stereo_config import StereoConfig

if TYPE_CHECKING:
    import pycolmap

MAX_POINTS = 5_000  # of the scene, spread evenly: from them COLMAP takes depth ranges and overlaps
OTHERWISE = "or leave --stereo colmap out: adop's own stereo needs no GPU"


def check_stereo(config: StereoConfig) -> None:
    """Raise UserError where the stereo that is asked for cannot run on this machine."""
    if config.method == "adop":
        return
    try:
        import pycolmap
    except ImportError as error:
        raise UserError(
            f"--stereo colmap needs pycolmap, which cannot be imported ({one_line(error)}): pip install "
            f"pycolmap-cuda12, {OTHERWISE}."
        ) from error
    if not pycolmap.has_cuda:
        raise UserError(
            "--stereo colmap needs a pycolmap that was built with CUDA, which this one was not: pip uninstall pycolmap, "
            f"then pip install pycolmap-cuda12, {OTHERWISE}."
        )
    if not torch.cuda.is_available():
        raise UserError(
            f"--stereo colmap needs a CUDA GPU, and torch finds none: run it elsewhere, {OTHERWISE}."
        )


def colmap_points(stereo: StereoScene) -> RawPoints:
    """Return the points of COLMAP's PatchMatch and fusion; what an earlier call finished is not repeated.

    Raises: UserError where COLMAP fails.
    """
    import pycolmap

    workspace = stereo.folder / "colmap"
    write_workspace(stereo, workspace)
    options = pycolmap.PatchMatchOptions(filter_min_num_consistent=stereo.config.min_views - 1)

    def run(token: pycolmap.CancellationToken) -> None:
        pycolmap.patch_match_stereo(workspace, options=options, cancellation_token=token)

    with Bar(total=2 * len(stereo.neighbourhoods), desc="stereo by COLMAP: ", bar_format=BAR) as bar:
        _run(run, workspace, lambda: bar.update(len(list(workspace.glob("stereo/normal_maps/*"))) - bar.n))
    return fuse_workspace(workspace, stereo.config)


def write_workspace(stereo: StereoScene, folder: Path) -> None:
    """Write the photos without distortion, their cameras, masks and neighbours as COLMAP's dense workspace.

    Photo 7 of the scene is called `00007.png` there.

    Source: https://colmap.github.io/format.html#dense-reconstruction
    """
    for part in ("images", "masks", "sparse", "stereo/depth_maps", "stereo/normal_maps"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for photo in stereo.neighbourhoods:
        view = stereo.view(photo)
        counts = torch.isfinite(view.view.image).byte()
        Image.fromarray(view.colour.numpy()).save(folder / "images" / _name(photo))
        Image.fromarray(255 * counts.numpy()).save(folder / "masks" / _name(photo))
        _remove_cut_off(folder, photo, *counts.shape)
    _sparse_model(stereo).write(folder / "sparse")
    near = stereo.neighbourhoods
    sources = (f"{_name(photo)}\n{', '.join(map(_name, near[photo].sources))}\n" for photo in near)
    write_text(folder / "stereo/patch-match.cfg", "".join(sources))
    write_text(folder / "stereo/fusion.cfg", "".join(f"{_name(photo)}\n" for photo in near))


def _remove_cut_off(folder: Path, photo: int, height: int, width: int) -> None:
    """Remove depths and normals of a photo that an interruption cut off: COLMAP would take the rest for zero."""
    for kind, channels in (("depth_maps", 1), ("normal_maps", 3)):
        size = len(f"{width}&{height}&{channels}&") + 4 * width * height * channels
        for file in (folder / "stereo" / kind).glob(f"{_name(photo)}.*"):
            if file.stat().st_size != size:
                file.unlink()


def _sparse_model(stereo: StereoScene) -> pycolmap.Reconstruction:
    """Return the cameras without distortion, and some of the scene's points with the photos that see them.

    COLMAP's stereo puts the centres of pixels at integers, unlike all else in COLMAP: its principal points are half a
    pixel less than ours.

    Source: `mvs/fusion.cc` and `mvs/patch_match_cuda.cu` of COLMAP.
    """
    import pycolmap

    xyz = stereo.scene.points.xyz
    xyz = xyz[:: max(1, len(xyz) // MAX_POINTS)]
    tracks = [pycolmap.Track() for _ in xyz]
    model = pycolmap.Reconstruction()
    for photo in stereo.neighbourhoods:
        view = stereo.view(photo).view
        height, width = view.image.shape
        intrinsics, pose = view.intrinsics.numpy()[[0, 1, 0, 1], [0, 1, 2, 2]], view.world_to_camera.numpy()
        lens = Lens("opencv", width, height, intrinsics, np.zeros(8))
        seen, _ = visible(xyz, lens, pose)
        uv, _, _ = lens.project(xyz[seen].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3])
        identity = photo + 1
        for place, point in enumerate(seen):
            tracks[point].add_element(identity, place)
        camera = pycolmap.Camera(camera_id=identity, model="PINHOLE", width=width, height=height)
        camera.params = (intrinsics - [0, 0, 0.5, 0.5]).tolist()
        image = pycolmap.Image(image_id=identity, camera_id=identity, name=_name(photo))
        image.points2D = pycolmap.Point2DList([pycolmap.Point2D(position - 0.5) for position in uv])
        model.add_camera_with_trivial_rig(camera)
        model.add_image_with_trivial_frame(image, pycolmap.Rigid3d(pose[:3]))
    for position, track in zip(xyz, tracks, strict=True):
        if track.length() > 1:
            model.add_point3D(position.astype(np.float64), track)
    return model


def fuse_workspace(folder: Path, config: StereoConfig) -> RawPoints:
    """Return the points that COLMAP's fusion makes of the depths and normals in a workspace, on the CPU.

    Raises: UserError where COLMAP fails.
    """
    import pycolmap

    output = folder / "fused.ply"
    options = pycolmap.StereoFusionOptions(
        mask_path=folder / "masks",
        min_num_pixels=config.min_views,
        max_depth_error=config.depth_tolerance,
        max_reproj_error=config.max_shift_px,
    )

    def run(token: pycolmap.CancellationToken) -> None:
        pycolmap.stereo_fusion(output, folder, options=options, output_type="ply", cancellation_token=token)

    _run(run, folder)
    return read_ply(output)


def _name(photo: int) -> str:
    return f"{photo:05d}.png"


def _run(
    work: Callable[[pycolmap.CancellationToken], None], workspace: Path, progress: Callable[[], object] = int
) -> None:
    """Run a part of COLMAP in silence, to be ended by Ctrl-C. Raises: UserError where it fails."""
    import pycolmap

    token = pycolmap.CancellationToken()
    failed: list[Exception] = []

    def run() -> None:
        try:
            work(token)
        except Exception as error:
            failed.append(error)

    before = pycolmap.logging.minloglevel
    pycolmap.logging.minloglevel = int(pycolmap.logging.FATAL)
    thread = threading.Thread(target=run)  # Ctrl-C must not be raised inside COLMAP
    thread.start()
    try:
        while thread.is_alive():
            thread.join(0.1)
            progress()
    finally:
        token.cancel()
        thread.join()
        pycolmap.logging.minloglevel = before
    if failed:
        raise UserError(
            f"COLMAP's stereo failed ({one_line(failed[0])}); delete {workspace} and try again, {OTHERWISE}."
        )
