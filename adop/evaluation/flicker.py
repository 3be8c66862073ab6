"""Flicker: how much a moving view changes that should only move."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import map_coordinates
from torch import Tensor

from adop.geometry.camera import Camera
from adop.geometry.lens_model import project_lens
from adop.model.pipeline import Pipeline
from adop.progress import Bar
from adop.render.camera_path import CameraPath, evenly_spaced, photos_path
from adop.render.camera_settings import CameraSettings
from adop.render.nerfstudio_path import file_path
from adop.render.views import View, render_views
from adop.run.run import Run

DEPTH_TOLERANCE = 0.02  # relative: depths of the two frames that differ more are two surfaces
BORDER = 4  # px
FAR = 1e4  # depth of the environment, in extents of the scene
DEFAULT_SECONDS, DEFAULT_RATE, DEFAULT_WIDTH = 6.0, 24.0, 480  # of the path through the photos' cameras
DEFAULT_PAIRS = 24


@dataclass(frozen=True)
class Flicker:
    """How much consecutive frames differ where they show the same surface."""

    difference_of_255: (
        float | None
    )  # mean absolute difference of the image values, in 1/255; None: no common pixel
    pixels: int  # compared pixels of all pairs of frames
    share: float  # of all pixels of those frames
    pairs: int  # compared pairs of frames


def run_flicker(run: Run, file: Path | None) -> Flicker:
    """Return the flicker of a run along a path: that in a nerfstudio camera path file, or one through its photos.

    Without a file, pairs of frames are taken evenly from the six seconds that `adop render --path` shows, small.
    """
    if file is not None:
        return measure_flicker(run.pipeline, file_path(file, None, None))
    width = min(DEFAULT_WIDTH, run.scene.lenses[run.scene.photos[0].lens].width)
    path = photos_path(run.scene, DEFAULT_SECONDS, DEFAULT_RATE, width)
    return measure_flicker(run.pipeline, path, DEFAULT_PAIRS)


def measure_flicker(pipeline: Pipeline, path: CameraPath, pairs: int | None = None) -> Flicker:
    """Return how much consecutive frames of a path differ at the scene's exposure, after the motion is undone.

    Args: pairs: compare this many pairs of consecutive frames, evenly spaced along the path; None: all.
    """
    cameras = [camera for camera, _ in path.cameras(CameraSettings(), pipeline.device)]
    firsts = evenly_spaced(len(cameras) - 1, pairs or len(cameras)).tolist() if len(cameras) > 1 else []
    far = FAR * pipeline.points.extent
    total, pixels = 0.0, 0
    views: dict[int, View] = {}
    for i in Bar(firsts, desc="flicker"):
        first, second = (views.get(k) or render_views(pipeline, cameras[k])[0] for k in (i, i + 1))
        views = {i + 1: second}
        difference, same = frame_difference((first, cameras[i]), (second, cameras[i + 1]), far)
        total, pixels = total + float(difference[same].double().sum()), pixels + int(same.sum())
    share = pixels / max(1, len(firsts) * path.width * path.height)
    return Flicker(255 * total / pixels if pixels else None, pixels, share, len(firsts))


def frame_difference(
    first: tuple[View, Camera], second: tuple[View, Camera], far: float
) -> tuple[Tensor, Tensor]:
    """Return the absolute difference [H, W] of two frames, mean over the channels, and where they show the same, bool.

    The first frame is warped into the second by the second's depth. A pixel shows the same in both if the depths
    around it agree in the first frame: neither hidden there, nor beside an outline.

    Args:
        first, second: a frame, and its pinhole camera (B = 1).
        far: depth that stands for the environment's.
    """
    (source, source_camera), (view, camera) = first, second
    uv, z = _positions(view, camera, source_camera, far)
    size = uv.new_tensor([view.depth.shape[1], view.depth.shape[0]])
    # The spline is less exact beside the border.
    inside = ((uv >= BORDER) & (uv <= size - BORDER)).all(-1) & (z > 0)
    column, row = torch.where(inside[..., None], uv, 0).long().unbind(-1)
    depth = source.depth.nan_to_num(posinf=far)[None]
    farthest, nearest = F.max_pool2d(depth, 3, 1, 1)[0], -F.max_pool2d(-depth, 3, 1, 1)[0]
    agrees = [(around[row, column] - z).abs() <= DEPTH_TOLERANCE * z for around in (nearest, farthest)]
    difference = (_sample(source.image, uv) - view.image).abs().mean(0)
    return difference, inside & agrees[0] & agrees[1]


def _sample(image: Tensor, uv: Tensor) -> Tensor:
    """Return an image [3, H, W] at positions [h, w, 2], interpolated by cubic splines, in [0, 1]."""
    at = uv.flip(-1).permute(2, 0, 1).double().cpu().numpy() - 0.5
    channels = [map_coordinates(channel, at, order=3, mode="nearest") for channel in image.cpu().numpy()]
    return torch.from_numpy(np.stack(channels)).to(image).clamp(0, 1)


def _positions(view: View, camera: Camera, other: Camera, far: float) -> tuple[Tensor, Tensor]:
    """Return where the pixels of a view are in another camera: [H, W, 2] px, and their depth [H, W] there."""
    depth = view.depth.nan_to_num(posinf=far)
    world = camera.unproject(camera.pixel_centres(), depth.reshape(1, -1))
    local = world @ other.world_to_camera[:, :3, :3].transpose(1, 2) + other.world_to_camera[:, None, :3, 3]
    uv, z, _ = project_lens(other.model, local, other.intrinsics[:, None], other.distortion[:, None])
    return uv.reshape(*depth.shape, 2), z.reshape(depth.shape)
