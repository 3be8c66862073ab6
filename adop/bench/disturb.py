"""Known errors laid on a scene's cameras and points, and how much of them is left."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adop.geometry.camera import Camera
from adop.geometry.rigid_motion import se3_log, so3_exp
from adop.model.pipeline import Pipeline
from adop.ops import Points, project
from adop.refine.alignment_equations import pixel_shift, project_points
from adop.refine.photo_set import photo_distance, pixel_size, render_points
from adop.refine.point_groups import bounding_side, group_by_voxel

ASKED = 8  # photos in which points are measured


@dataclass(frozen=True)
class Geometry:
    """Cameras and points at one time."""

    poses: Tensor  # [P, 4, 4] float64
    motion: Tensor  # [P, 6] float64, see adop.geometry.rolling_shutter
    intrinsics: list[Tensor]  # [4] each
    distortion: list[Tensor]
    xyz: Tensor  # [N, 3] of the scene's own points; nan where they were removed
    normals: Tensor | None


@dataclass(frozen=True)
class GeometryErrors:
    """How far cameras and points are from the truth; one number a photo, or a seen point."""

    rotation_deg: list[float]
    translation_rel: list[float]  # of the distance of what the photo sees
    reprojection_px: list[float]  # median over the photo
    rolling_shutter_px: list[float]  # median over the photo, of the motion alone, at the present pose
    focal_rel: float
    k1: float
    points_px: list[float]  # shift along the image plane of every 100th seen point or so; nan where removed


def geometry(pipeline: Pipeline) -> Geometry:
    """Return a copy of the cameras and points as they are now."""
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
    """Return the camera of a photo as it truly is."""
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
    """Turn each photo's camera about itself by `degrees` and move it by `relative` of the distance it sees, at random."""
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
    """Let each photo's camera turn by `degrees` and move by `relative` of the distance it sees, at random, while its rows
    are read out."""
    for photo in photos:
        shift = _direction(generator) * relative * photo_distance(pipeline, photo)
        turn = _direction(generator) * math.radians(degrees)
        pipeline.cameras.set_motion(photo, torch.cat((shift, turn)))


def _direction(generator: torch.Generator) -> Tensor:
    vector = torch.randn(3, generator=generator, dtype=torch.float64)
    return vector / vector.norm()


@torch.no_grad()
def disturb_lens(pipeline: Pipeline, focal: float, k1: float) -> None:
    """Make every lens's focal length longer by a share, and add to its first radial coefficient."""
    for lens, intrinsics in enumerate(pipeline.cameras.intrinsics):
        values = torch.cat((intrinsics, pipeline.cameras.distortion[lens]))
        values[:2] *= 1 + focal
        values[4] += k1
        pipeline.cameras.set_lens(lens, values)


@torch.no_grad()
def disturb_points(
    pipeline: Pipeline, photos: list[int], pixels: float, patch: float, generator: torch.Generator
) -> None:
    """Displace patches of points, groups of `patch` times the scene's extent (0: each point), in random directions.

    The shift is so long that along an image plane, at the distance of what photos see, its mean square is `pixels`
    squared.
    """
    count = len(pipeline.points.xyz)
    of_point = torch.arange(count)
    if patch > 0:
        groups = group_by_voxel(pipeline.points.xyz, patch * bounding_side(pipeline.points.xyz))
        count, of_point = len(groups), groups.of_point
    shift = torch.randn(count, 3, generator=generator)
    shift = shift / shift.norm(dim=1, keepdim=True)
    length = pixels * math.sqrt(1.5) * pixel_size(pipeline, photos)
    pipeline.points.move((length * shift).to(pipeline.points.xyz)[of_point])


@torch.no_grad()
def measure(pipeline: Pipeline, truth: Geometry, photos: list[int]) -> GeometryErrors:
    """Compare cameras and points with the truth."""
    now = geometry(pipeline)
    degrees, relative, pixels, rolling, points = [], [], [], [], []
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
    for photo in photos[:: max(1, len(photos) // ASKED)]:
        camera = true_camera(pipeline, truth, photo)
        there = Points(truth.xyz, torch.ones_like(truth.xyz[:, 0]), truth.normals)
        found = project(camera, there, pipeline.raster.near)
        seen = torch.nonzero(found.visible[0])[:, 0]
        seen = seen[:: max(1, len(seen) // 5000)]
        shift = project_points(camera, now.xyz[seen]) - project_points(camera, truth.xyz[seen])
        points += shift.norm(dim=1).tolist()
    focal = [float((n[0] / t[0] - 1).abs()) for n, t in zip(now.intrinsics, truth.intrinsics, strict=True)]
    radial = [float((n[0] - t[0]).abs()) for n, t in zip(now.distortion, truth.distortion, strict=True)]
    return GeometryErrors(degrees, relative, pixels, rolling, max(focal), max(radial), points)
