"""Rendering from a run: any camera, the view of one of its photos, and paths that its photos suggest."""

from __future__ import annotations

from dataclasses import replace

import torch

from adop.geometry.camera import Camera
from adop.render.camera_path import CameraPath, Frame, focal_of, sized_path
from adop.render.camera_settings import CameraSettings
from adop.render.views import View, Views, render_photo_view, render_views
from adop.run.run import Run
from adop.scene.scene import Scene


def render_cameras(
    run: Run, camera: Camera, settings: CameraSettings | None = None, lens: list[int] | None = None
) -> Views:
    """Render B cameras of one size.

    Each view is rendered by itself, so its pixels do not depend on the other cameras of the batch.

    Args:
        settings: how the views are developed; None: at the mean exposure of the training photos.
        lens: [B] the scene's lens that each camera has, so that its cached rays are used; None: unknown.
    """
    return render_views(run.pipeline, camera, settings, lens)


def render_camera(
    run: Run,
    camera: Camera,
    exposure: float = 0.0,
    white_balance: tuple[float, float, float] = (1.0, 1.0, 1.0),
    lens: int = 0,
) -> View:
    """Render one camera (B = 1) with the learned response of a lens and without vignette.

    Args:
        exposure: EV relative to the mean of the training photos; larger is darker.
        white_balance: gains of red, green and blue.
        lens: index of the scene's lens whose response is used.
    """
    return render_cameras(run, camera, CameraSettings(exposure, white_balance, lens=lens))[0]


def render_photo(run: Run, photo: int, width: int | None = None) -> View:
    """Render the view of a photo's camera, with the exposure, white balance, vignette and response of the photo.

    Exposure and white balance of a held-out photo are predicted; see `adop.run.exposure`.

    Args: width: of the image in pixels; None: the photo's. The height keeps the photo's proportions.
    """
    return render_photo_view(run.pipeline, photo, width)


def refined_scene(run: Run) -> Scene:
    """Return the run's scene with the poses and lenses to which training has refined them."""
    cameras, scene = run.pipeline.cameras, run.scene
    poses = cameras.world_to_camera(torch.arange(len(cameras))).detach().cpu().numpy()
    lenses = []
    for index, lens in enumerate(scene.lenses):
        values = cameras.lens_values(index).numpy()
        lenses.append(replace(lens, intrinsics=values[:4], distortion=values[4:], poly_cam2world=None))
    photos = [replace(photo, world_to_camera=pose) for photo, pose in zip(scene.photos, poses, strict=True)]
    return replace(scene, lenses=tuple(lenses), photos=tuple(photos))


def photo_frame(run: Run, photo: int, width: int | None = None) -> CameraPath:
    """Return a path of one frame: a pinhole at the place of a photo's camera, with the photo's field of view.

    Args: width: in pixels; None: the photo's.
    """
    scene = refined_scene(run)
    lens = scene.lenses[scene.photos[photo].lens]
    frame = Frame(scene.photos[photo].world_to_camera, focal_of(lens))
    return sized_path([frame], lens, 1.0, width)
