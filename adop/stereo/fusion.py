"""From the planes of all photos to one cloud: a point for each pixel whose surface enough photos find."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from tqdm import tqdm

from adop.scene.ply import RawPoints
from adop.stereo.depth_maps import BAR, StereoScene
from adop.stereo.problem import StereoView, transfer

MAX_NORMAL_ANGLE_DEG = 45.0  # between the planes that two photos find for a surface
FINER = 0.7  # size of a pixel on a surface, relative to another photo's, below which both photos give points
BEHIND = 0.05  # relative depth by which another photo's surface lies behind a point that it sees through
MAX_SEEN_THROUGH = 0.5  # photos that see through a point, per photo that finds its surface


@dataclass(frozen=True)
class _Comparison:
    """How the surface that one photo finds for each of its pixels looks in another photo."""

    agrees: Tensor  # [H, W] bool: the other photo finds the same surface
    sees_through: Tensor  # [H, W] bool: the other photo finds a surface far behind
    inverse: Tensor  # [H, W] inverse depth in the first photo of the surface that the other one finds
    uv: Tensor  # [H, W, 2] position in the other photo, 0 outside
    normals: Tensor  # [H, W, 3] that the other photo finds, world axes
    finer: Tensor  # [H, W] bool: the pixels of the other photo are clearly smaller on the surface


def fuse(stereo: StereoScene) -> RawPoints:
    """Return the points on which at least `min_views` photos agree, with normals and colours.

    A point lies in the middle of a pixel, at the mean of the agreeing photos' inverse depths. A pixel whose surface an
    earlier photo gave a point gives none, unless its own pixels are clearly smaller there.
    """
    photos = sorted(stereo.neighbourhoods, key=lambda photo: _pixel_size(stereo, photo))
    related = related_photos(stereo)
    used: dict[int, Tensor] = {}  # [h, w] bool of photos still to come, the pixels whose surface has a point
    waiting = set(photos)
    parts: list[tuple[Tensor, Tensor, Tensor]] = []
    for photo in tqdm(photos, desc="fusing depths: ", bar_format=BAR, dynamic_ncols=True):
        view, valid = _with_planes(stereo, photo)
        assert view.planes is not None
        agreeing, seen_through = (torch.zeros_like(view.image) for _ in range(2))
        inverse, normals, comparisons = view.planes[0].clone(), _normals(view)[0], {}
        for other in related[photo]:
            comparison = _compare(view, *_with_planes(stereo, other), stereo)
            comparisons[other] = comparison
            agreeing += comparison.agrees
            seen_through += comparison.sees_through
            inverse += torch.where(comparison.agrees, comparison.inverse, 0)
            normals += comparison.normals * comparison.agrees[..., None]
        chosen = valid & (agreeing >= stereo.config.min_views - 1)
        chosen &= seen_through <= MAX_SEEN_THROUGH * agreeing
        waiting.discard(photo)
        if photo in used:
            chosen &= ~used.pop(photo).to(chosen.device)
        for other in comparisons.keys() & waiting:
            if other not in used:
                used[other] = torch.zeros(stereo.view(other).view.image.shape, dtype=torch.bool)
            _mark_around(used[other], comparisons[other], chosen)
        colour = stereo.view(photo).colour.to(chosen.device)[chosen]
        positions = _positions(view, inverse / (agreeing + 1), chosen)
        parts.append((positions, F.normalize(normals[chosen], dim=1), colour))
    xyz, normal, colours = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return RawPoints(xyz.astype(np.float64), normal.astype(np.float32), colours, "stereo")


def _pixel_size(stereo: StereoScene, photo: int) -> float:
    """Return the median size of a photo's pixels on the surfaces that it shows, in scene units."""
    view, valid = _with_planes(stereo, photo)
    assert view.planes is not None
    inverse = view.planes[0][valid]
    return 1 / float(view.intrinsics[0, 0] * inverse.median()) if len(inverse) else np.inf


def _mark_around(used: Tensor, comparison: _Comparison, chosen: Tensor) -> None:
    """Mark, in [h, w] bool of another photo, the four pixels around each chosen one that the photos agree on."""
    height, width = used.shape
    uv = comparison.uv[chosen & comparison.agrees & ~comparison.finer].cpu() - 0.5
    column, row = uv.floor().long().unbind(-1)
    for down in (0, 1):
        for right in (0, 1):
            used[(row + down).clamp(0, height - 1), (column + right).clamp(0, width - 1)] = True


def related_photos(stereo: StereoScene) -> dict[int, list[int]]:
    """Return for each photo those that it is compared with, or that are compared with it."""
    result: dict[int, set[int]] = {photo: set() for photo in stereo.neighbourhoods}
    for photo, near in stereo.neighbourhoods.items():
        for source in near.sources:
            result[photo].add(source)
            result[source].add(photo)
    return {photo: sorted(others) for photo, others in result.items()}


def _with_planes(stereo: StereoScene, photo: int) -> tuple[StereoView, Tensor]:
    """Return a photo with its planes, and which pixels' planes are used, [H, W] bool."""
    planes, costs = stereo.planes("fine", photo)
    view = stereo.view(photo).view
    image = view.image.to(planes.device)
    valid = (costs < stereo.config.max_cost) & torch.isfinite(image)
    return StereoView(image, view.intrinsics, view.world_to_camera, planes), valid


def _compare(view: StereoView, other: StereoView, other_valid: Tensor, stereo: StereoScene) -> _Comparison:
    """Compare the surface of each pixel with the one that another photo finds there."""
    planes, (height, width) = view.planes, other.image.shape
    assert planes is not None and other.planes is not None
    u, v = _pixels(view.image)
    x, y, z = _apply(transfer(view, other), u, v, planes[0])
    su, sv = x / z, y / z
    inside = (z > 0) & (su >= 0) & (sv >= 0) & (su < width) & (sv < height)
    su, sv = torch.where(inside, su, 0), torch.where(inside, sv, 0)
    column, row = su.long(), sv.long()
    own, along_u, along_v = other.planes[:, row, column]
    own = own + (su - column - 0.5) * along_u + (sv - row - 0.5) * along_v
    found = inside & other_valid[row, column] & (own > 0)
    expected = planes[0] / z  # inverse depth in the other photo
    bx, by, bz = _apply(transfer(other, view), su, sv, own)
    shift = torch.hypot(bx / bz - u, by / bz - v)
    config = stereo.config
    normals = _normals(other)[0][row, column]
    turn = (_normals(view)[0] * normals).sum(-1)
    agrees = found & ((own / expected - 1).abs() < config.depth_tolerance) & (shift < config.max_shift_px)
    agrees &= turn > np.cos(np.radians(MAX_NORMAL_ANGLE_DEG))
    size = float(view.intrinsics[0, 0] / other.intrinsics[0, 0]) * planes[0] / expected
    return _Comparison(
        agrees=agrees,
        sees_through=found & (own < expected * (1 - BEHIND)),
        inverse=own / bz,
        uv=torch.stack((su, sv), dim=-1),
        normals=normals,
        finer=size < FINER,
    )


def _apply(matrix: Tensor, u: Tensor, v: Tensor, inverse: Tensor) -> list[Tensor]:
    """Return the three homogeneous coordinates [H, W] of pixels at an inverse depth under a transfer."""
    rows = matrix.tolist()
    return [a * u + b * v + c + d * inverse for a, b, c, d in rows]


def _pixels(image: Tensor) -> tuple[Tensor, Tensor]:
    height, width = image.shape
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    return u.to(image), v.to(image)


def _normals(view: StereoView) -> tuple[Tensor, Tensor]:
    """Return the unit normals [H, W, 3] of the planes, world axes, towards the camera; and the rays to depth 1."""
    assert view.planes is not None
    fx, fy, cx, cy = (float(view.intrinsics[i]) for i in ((0, 0), (1, 1), (0, 2), (1, 2)))
    u, v = _pixels(view.image)
    inverse, along_u, along_v = view.planes
    x, y, a, b = (u - cx) / fx, (v - cy) / fy, along_u * fx, along_v * fy
    local = -torch.stack((a, b, inverse - a * x - b * y), dim=-1)
    rotation = view.world_to_camera[:3, :3].to(local)
    return F.normalize(local, dim=-1) @ rotation, torch.stack((x, y, torch.ones_like(x)), -1)


def _positions(view: StereoView, inverse: Tensor, chosen: Tensor) -> Tensor:
    """Return world positions [M, 3] f64 of chosen pixels at inverse depths [H, W]."""
    local = _normals(view)[1][chosen].double() / inverse[chosen].double()[:, None]
    pose = view.world_to_camera.to(local)
    return (local - pose[:3, 3]) @ pose[:3, :3]
