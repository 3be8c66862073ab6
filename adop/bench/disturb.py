"""Known errors of a scene's cameras and points: add them, and measure how much of them remains."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adop.geometry.camera import Camera
from adop.geometry.rigid_motion import se3_log, so3_exp
from adop.model.pipeline import Pipeline
from adop.ops import Points
from adop.refine.alignment_equations import pixel_shift, project_points
from adop.refine.photo_set import photo_distance, pixel_size, render_points
from adop.refine.point_groups import bounding_side, group_by_voxel

MEASURED_PHOTOS = 8  # photos in which the points' errors are measured
MEASURED_POINTS = 5000  # about this many points in each of those photos


@dataclass(frozen=True)
class Geometry:
    """Cameras and points at one time."""

    poses: Tensor  # [P, 4, 4] float64 world to camera
    motion: Tensor  # [P, 6] float64, see adop.geometry.rolling_shutter
    intrinsics: list[Tensor]  # [4] of each lens
    distortion: list[Tensor]  # [D] of each lens
    xyz: Tensor  # [N, 3] of the points that the scene came with; nan for those that were removed
    normals: Tensor | None  # [N, 3]


@dataclass(frozen=True)
class GeometryErrors:
    """How far cameras and points are from the truth; lists have one number for each photo or measured point."""

    rotation_deg: list[float]
    translation_rel: list[float]  # relative to the median depth that the photo sees
    reprojection_px: list[float]  # median over the photo's pixels
    rolling_shutter_px: list[float]  # the same, of the error of the motion alone
    focal_rel: float  # largest relative error of a lens
    k1: float  # largest error of a lens
    points_px: list[float]  # along the image plane; nan for points that were removed


def geometry(pipeline: Pipeline) -> Geometry:
    """Return a copy of the present cameras and points."""
    photos = torch.arange(len(pipeline.cameras.poses))
    own = pipeline.points.origin >= 0
    xyz = torch.full((pipeline.points.cloud_size, 3), torch.nan, device=pipeline.device)
    xyz[pipeline.points.origin[own].long()] = pipeline.points().xyz.detach()[own]
    return Geometry(
        pipeline.cameras.world_to_camera(photos).detach().clone(),
        pipeline.cameras.motion.clone(),
        [lens.detach().clone() for lens in pipeline.cameras.intrinsics],
        [lens.detach().clone() for lens in pipeline.cameras.distortion],
        xyz,
        None if pipeline.points.normals is None else pipeline.points.normals.clone(),
    )


def true_camera(pipeline: Pipeline, truth: Geometry, photo: int) -> Camera:
    """Return the true camera of a photo."""
    camera, lens = pipeline.camera(torch.tensor([photo])), pipeline.cameras.lens_of[photo]
    motion = truth.motion[photo][None].float()
    return replace(
        camera,
        world_to_camera=truth.poses[photo][None].float(),
        intrinsics=truth.intrinsics[lens][None],
        distortion=truth.distortion[lens][None],
        motion=motion if motion.any() else None,
    )


@torch.no_grad()
def disturb_poses(
    pipeline: Pipeline, photos: list[int], degrees: float, relative: float, generator: torch.Generator
) -> None:
    """Rotate each photo's camera by `degrees` about a random axis through its centre, and shift it at random.

    The shift is `relative` times the median depth that the photo sees.
    """
    for photo in photos:
        distance = photo_distance(pipeline, photo)
        pose = pipeline.cameras.poses[photo].cpu().clone()
        centre = -pose[:3, :3].T @ pose[:3, 3] + _direction(generator) * relative * distance
        pose[:3, :3] = so3_exp(_direction(generator) * math.radians(degrees)) @ pose[:3, :3]
        pose[:3, 3] = -pose[:3, :3] @ centre
        pipeline.cameras.set_pose(photo, pose)


@torch.no_grad()
def disturb_rolling_shutter(
    pipeline: Pipeline, photos: list[int], degrees: float, relative: float, generator: torch.Generator
) -> None:
    """Let each photo's camera rotate and shift at random from its first row to its last.

    It rotates by `degrees`, and shifts by `relative` times the median depth that the photo sees.
    """
    for photo in photos:
        shift = _direction(generator) * relative * photo_distance(pipeline, photo)
        rotation = _direction(generator) * math.radians(degrees)
        pipeline.cameras.set_motion(photo, torch.cat((shift, rotation)))


def _direction(generator: torch.Generator) -> Tensor:
    vector = torch.randn(3, generator=generator, dtype=torch.float64)
    return vector / vector.norm()


@torch.no_grad()
def disturb_lens(pipeline: Pipeline, focal_length: float, k1: float) -> None:
    """Increase every lens's focal lengths by the factor `1 + focal_length`, and its first radial coefficient by `k1`."""
    for lens, intrinsics in enumerate(pipeline.cameras.intrinsics):
        values = torch.cat((intrinsics, pipeline.cameras.distortion[lens]))
        values[:2] *= 1 + focal_length
        values[4] += k1
        pipeline.cameras.set_lens(lens, values)


@torch.no_grad()
def disturb_points(
    pipeline: Pipeline, photos: list[int], pixels: float, patch_size: float, generator: torch.Generator
) -> None:
    """Shift patches of points in random directions, all by the same distance.

    Args:
        photos: their pixels are meant.
        pixels: root mean square of the shift's part along an image plane, at the depth that the photos see.
        patch_size: side of a patch, relative to the scene's extent; 0 shifts every point by itself.
    """
    count = len(pipeline.points.xyz)
    of_point = torch.arange(count)
    if patch_size > 0:
        groups = group_by_voxel(pipeline.points.xyz, patch_size * bounding_side(pipeline.points.xyz))
        count, of_point = len(groups), groups.of_point
    shift = torch.randn(count, 3, generator=generator)
    shift = shift / shift.norm(dim=1, keepdim=True)
    length = pixels * math.sqrt(1.5) * pixel_size(pipeline, photos)
    pipeline.points.move((length * shift).to(pipeline.points.xyz)[of_point])


@torch.no_grad()
def measure(pipeline: Pipeline, truth: Geometry, photos: list[int]) -> GeometryErrors:
    """Compare the present cameras and points with the truth."""
    now = geometry(pipeline)
    degrees, relative, pixels, rolling = [], [], [], []
    for photo in photos:
        motion = now.poses[photo] @ torch.linalg.inv(truth.poses[photo])
        degrees.append(math.degrees(float(se3_log(motion)[3:].norm())))
        centres = [-pose[:3, :3].T @ pose[:3, 3] for pose in (now.poses[photo], truth.poses[photo])]
        camera = true_camera(pipeline, truth, photo)
        depth = render_points(pipeline, camera, torch.tensor([photo])).depth
        known = depth[torch.isfinite(depth)]
        distance = float(known.median()) if len(known) else pipeline.points.extent
        relative.append(float((centres[0] - centres[1]).norm()) / distance)
        present = pipeline.camera(torch.tensor([photo]))
        pixels.append(pixel_shift(camera, present, depth))
        rolling.append(pixel_shift(replace(present, motion=camera.motion), present, depth))
    focal = [float((n[0] / t[0] - 1).abs()) for n, t in zip(now.intrinsics, truth.intrinsics, strict=True)]
    radial = [float((n[0] - t[0]).abs()) for n, t in zip(now.distortion, truth.distortion, strict=True)]
    points = _point_errors(pipeline, now, truth, photos[:: max(1, len(photos) // MEASURED_PHOTOS)])
    return GeometryErrors(degrees, relative, pixels, rolling, max(focal), max(radial), points)


def _point_errors(pipeline: Pipeline, now: Geometry, truth: Geometry, photos: list[int]) -> list[float]:
    """Return the pixels between the true and the present position of points that the photos see."""
    errors = []
    true_points = Points(truth.xyz, torch.ones_like(truth.xyz[:, 0]), truth.normals)
    for photo in photos:
        camera = true_camera(pipeline, truth, photo)
        visible = torch.nonzero(pipeline.project(camera, true_points).visible[0])[:, 0]
        visible = visible[:: max(1, len(visible) // MEASURED_POINTS)]
        shift = project_points(camera, now.xyz[visible]) - project_points(camera, truth.xyz[visible])
        errors += shift.norm(dim=1).tolist()
    return errors
