"""The trained photos as they are looked up from other views, and which of them a view looks up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.geometry.camera import Camera
from adop.ops import Backend, Points, project
from adop.ops.projection import CameraTensors, camera_tensors

SAMPLES = 1024  # points by which photos are chosen
MIN_ANGLE = 0.03  # radians: photos that see a point under less of an angle are equally good
# Sum of 1 / angle over the photos that are chosen already at which another one that sees a point gains half as much.
ENOUGH = 10.0
NONE = -1  # in the place of a photo that is not there


@dataclass(frozen=True)
class PhotoTable:
    """P photos of one lens model, one after the other on one device."""

    model: str
    cameras: CameraTensors  # of the P photos at the size that is kept
    pixels: Tensor  # [bytes] u8, of each photo [h, w, 3]
    surfaces: Tensor  # of each photo [ceil(h/2), ceil(w/2)] depth; 0: does not count, 1e30: infinitely far
    places: Tensor  # [P, 5] int64 where its pixels and its surfaces begin, w, h, and its lens
    samples: Tensor  # [S, 3] points of the scene
    seen: Tensor  # [P, S] bool, whether a photo sees a point
    rows: Mapping[int, int]  # from the index of a photo in the scene to its row here
    photos: Tensor  # [P] the photos' indices in the scene

    @property
    def bytes(self) -> int:
        """How much memory the table takes."""
        return self.pixels.nbytes + self.surfaces.nbytes + self.seen.nbytes


def pose_centres(world_to_camera: Tensor) -> Tensor:
    """Return the camera centres [P, 3] of poses [P, 4, 4]."""
    return -(world_to_camera[:, :3, :3].transpose(1, 2) @ world_to_camera[:, :3, 3:])[:, :, 0]


@torch.no_grad()
def choose_photos(
    table: PhotoTable, camera: Camera, count: int, own: list[int] | None = None, backend: Backend = "auto"
) -> Tensor:
    """Return [B, count] int64 rows of the photos that see most of what views see from nearly where they stand.

    They are chosen one after the other; a photo counts less for points that the ones before it already show. -1 where
    no other photo sees anything of the view. Nothing here waits for the device.

    Args:
        own: [B] index of each view's own photo, which is not chosen; None: the views are of no photo.

    Source: greedy choice by angle and coverage, as in image-based rendering (Buehler et al. 2001, unstructured
    lumigraph; Hedman et al. 2018, deep blending).
    """
    points = Points(table.samples, torch.ones_like(table.samples[:, 0]))
    inside = project(camera, points, 1e-9, backend).visible
    towards = F.normalize(table.samples - camera.centre()[:, None], dim=2)  # [B, S, 3]
    from_photos = F.normalize(table.samples - pose_centres(table.cameras.world_to_camera)[:, None], dim=2)
    cosine = torch.einsum("bsc,psc->bps", towards, from_photos)
    angle = (2 - 2 * cosine).clamp_min(0).sqrt()
    worth = (table.seen & inside[:, None]) / (angle + MIN_ANGLE)  # [B, P, S]
    if own is not None:
        others = torch.tensor([[row != table.rows.get(i) for row in range(worth.shape[1])] for i in own])
        worth = worth * others.to(worth.device, non_blocking=True)[:, :, None]
    shown = torch.full_like(worth[:, :1], ENOUGH)
    chosen = []
    for _ in range(count):
        gain = (worth / (shown + worth)).sum(2)
        best = gain.max(1)
        row = best.indices[:, None]
        chosen.append(torch.where(best.values[:, None] > 0, row, NONE))
        taken = worth.gather(1, row[:, :, None].expand(-1, -1, worth.shape[2]))
        shown = shown + taken
        worth = worth.scatter(1, row[:, :, None].expand_as(taken), 0.0)
    return torch.cat(chosen, 1)


def table_cameras(cameras: list[Camera]) -> CameraTensors:
    """Return the tensors of single cameras of one lens model, one after the other."""
    parts = [camera_tensors(camera, camera.intrinsics) for camera in cameras]
    motions = [part.shutter for part in parts]
    still = parts[0].intrinsics.new_zeros(1, 7)
    still[:, 6] = 1.0
    joined = {
        name: torch.cat([getattr(part, name) for part in parts])
        for name in CameraTensors._fields
        if name != "shutter"
    }
    moving = [still if motion is None else motion for motion in motions]
    shutter = None if all(motion is None for motion in motions) else torch.cat(moving)
    return CameraTensors(**joined, shutter=shutter)
