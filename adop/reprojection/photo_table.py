"""The trained photos as they are looked up from other views, and which of them a view looks up."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.geometry.camera import Camera
from adop.geometry.lens_model import monotonic_radius
from adop.geometry.rigid_motion import pose_centres
from adop.ops import Backend, Points, project

SAMPLES = 1024  # points by which photos are chosen
MIN_ANGLE = 0.03  # radians: photos that see a point under less of an angle are equally good
# Sum of 1 / angle over the photos that are chosen already at which another one that sees a point gains half as much.
ENOUGH = 10.0
NONE = -1  # in the place of a photo that is not there


class PhotoCameras(NamedTuple):
    """The cameras of P photos of one lens model, as the kernels read them."""

    world_to_camera: Tensor  # [P, 4, 4]
    intrinsics: Tensor  # [P, 4]
    distortion: Tensor  # [P, D]
    crop: Tensor  # [P, 3] zoom and offset of the pixels that are kept on the photo
    limit: Tensor  # [P] the largest field radius that the lens shows
    shutter: Tensor | None  # [P, 7] motion and rows of the whole photo; None where no camera moves


@dataclass(frozen=True)
class PhotoTable:
    """P photos of one lens model, one after the other on one device."""

    model: str
    cameras: PhotoCameras
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
    others = inside.new_ones(len(camera), len(table.photos))
    if own is not None:
        lists = [[row != table.rows.get(i) for row in range(len(table.photos))] for i in own]
        others = torch.tensor(lists).to(inside.device, non_blocking=True)
    if inside.device.type != "cpu":
        return _chosen(table, camera.centre(), others[:, :, None] & inside[:, None], slice(None), count)
    # Each view alone, and only with the points that it sees: a crop sees few of them.
    views = [torch.nonzero(seen)[:, 0] for seen in inside]
    rows = [
        _chosen(table, centre[None], other[None, :, None], samples, count)
        for centre, other, samples in zip(camera.centre(), others, views, strict=True)
    ]
    return torch.cat(rows)


def _chosen(
    table: PhotoTable, centres: Tensor, counts: Tensor, samples: Tensor | slice, count: int
) -> Tensor:
    """Return the rows of the photos chosen for views at `centres` [B, 3], see `choose_photos`.

    Args:
        counts: bool, of [B, P, S] or broadcast to it, whether a photo may show a sample to a view.
        samples: which of the table's samples are looked at; S of them.
    """
    places, seen = table.samples[samples], table.seen[:, samples]
    towards = F.normalize(places - centres[:, None], dim=2)  # [B, S, 3]
    from_photos = F.normalize(places - pose_centres(table.cameras.world_to_camera)[:, None], dim=2)
    cosine = torch.einsum("bsc,psc->bps", towards, from_photos)
    angle = (2 - 2 * cosine).clamp_min_(0).sqrt_()
    worth = (seen & counts) / (angle + MIN_ANGLE)  # [B, P, S]
    shown = torch.full_like(worth[:, :1], ENOUGH)
    chosen = []
    for _ in range(count):
        gain = (worth / (shown + worth)).sum(2)
        best = gain.max(1)
        row = best.indices[:, None]
        chosen.append(torch.where(best.values[:, None] > 0, row, NONE))
        taken = worth.gather(1, row[:, :, None].expand(-1, -1, worth.shape[2]))
        shown = shown + taken
        worth.scatter_(1, row[:, :, None].expand_as(taken), 0.0)
    return torch.cat(chosen, 1)


def photo_cameras(cameras: list[Camera]) -> PhotoCameras:
    """Return the tensors of single cameras of one lens model, one after the other."""
    distortion = torch.cat([camera.distortion.detach() for camera in cameras])
    return PhotoCameras(
        world_to_camera=torch.cat([camera.world_to_camera.detach() for camera in cameras]).contiguous(),
        intrinsics=torch.cat([camera.intrinsics.detach() for camera in cameras]),
        distortion=distortion,
        crop=torch.cat([camera.crop for camera in cameras]).to(distortion),
        limit=monotonic_radius(cameras[0].model, distortion),
        shutter=_shutters(cameras),
    )


def _shutters(cameras: list[Camera]) -> Tensor | None:
    """Return the cameras' motions and the rows of their photos [P, 7]; None where no camera moves."""
    if all(camera.motion is None for camera in cameras):
        return None
    rows = torch.cat([camera.photo_height for camera in cameras])[:, None]
    motions = [rows.new_zeros(1, 6) if camera.motion is None else camera.motion for camera in cameras]
    return torch.cat((torch.cat(motions).to(rows), rows), 1)
