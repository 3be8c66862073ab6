"""From the planes of all photos to one cloud: a point for each pixel whose surface enough photos find."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from adop.progress import Bar
from adop.scene.ply import RawPoints
from adop.stereo.depth_maps import BAR, StereoScene
from adop.stereo.problem import StereoView, transfer
from adop.stereo.stereo_config import StereoConfig

MAX_NORMAL_ANGLE_DEG = 45.0  # between the planes that two photos find for a surface
FINER = 0.7  # size of a pixel on a surface, relative to another photo's, below which both photos give points
BEHIND = 0.05  # relative depth by which another photo's surface lies behind a point that it sees through
MAX_SEEN_THROUGH = 0.5  # photos that see through a point, per photo that finds its surface


@dataclass(frozen=True)
class _Surface:
    """What a photo finds in each of its pixels."""

    view: StereoView
    planes: Tensor  # [3, H, W]
    costs: Tensor  # [H, W]
    valid: Tensor  # [H, W] bool: the plane is used

    @functools.cached_property
    def rays(self) -> Tensor:
        """The rays to depth 1, [H, W, 3], axes of the camera."""
        fx, fy, cx, cy = _intrinsics(self.view)
        u, v = _pixels(self.view.image)
        return torch.stack(((u - cx) / fx, (v - cy) / fy, torch.ones_like(u)), dim=-1)

    @functools.cached_property
    def normals(self) -> Tensor:
        """The unit normals [H, W, 3] of the planes, world axes, towards the camera."""
        fx, fy, _, _ = _intrinsics(self.view)
        inverse, along_u, along_v = self.planes
        a, b = along_u * fx, along_v * fy
        local = -torch.stack((a, b, inverse - a * self.rays[..., 0] - b * self.rays[..., 1]), dim=-1)
        return F.normalize(local, dim=-1) @ self.view.world_to_camera[:3, :3].to(local)


@dataclass(frozen=True)
class _Comparison:
    """How the surface that one photo finds for each of its pixels looks in another photo."""

    agrees: Tensor  # [H, W] bool: the other photo finds the same surface
    support: Tensor  # [H, W] in [0, 1]: how well it does, see `fuse`; 0 where it does not
    sees_through: Tensor  # [H, W] bool: the other photo finds a surface far behind
    inverse: Tensor  # [H, W] inverse depth in the first photo of the surface that the other one finds
    uv: Tensor  # [H, W, 2] position in the other photo, 0 outside
    normals: Tensor  # [H, W, 3] that the other photo finds, world axes
    finer: Tensor  # [H, W] bool: the pixels of the other photo are clearly smaller on the surface


def fuse(stereo: StereoScene) -> RawPoints:
    """Return the points on which at least `min_views` photos agree, with normals and colours.

    A point lies in the middle of a pixel, at the mean of the agreeing photos' inverse depths. A pixel whose surface an
    earlier photo gave a point gives none, unless its own pixels are clearly smaller there.

    Its colour is the median of what these photos show of it, each with the brightness of its own photo: a leaf, a
    reflection or noise in one photo does not colour the surface behind it.

    A point's confidence is (1 - c) S / (1 + S), in [0, 1]: c is the cost of its plane in its own photo (0 is the same
    texture, 1 an unrelated one), and S the sum of (1 - c) (1 - d) over the agreeing photos, with their costs c and the
    differences d of their depths from its own, as shares of `depth_tolerance`.
    """
    photos = sorted(stereo.neighbourhoods, key=lambda photo: _pixel_size(_surface(stereo, photo)))
    related = related_photos(stereo)
    used: dict[int, Tensor] = {}  # [h, w] bool of photos still to come, the pixels whose surface has a point
    waiting = set(photos)
    parts: list[tuple[Tensor, ...]] = []
    for photo in Bar(photos, desc="fusing depths: ", bar_format=BAR):
        own = _surface(stereo, photo)
        agreeing, seen_through, support = (torch.zeros_like(own.view.image) for _ in range(3))
        inverse, normals, comparisons = own.planes[0].clone(), own.normals.clone(), {}
        for other in related[photo]:
            comparison = _compare(own, _surface(stereo, other), stereo.config)
            comparisons[other] = comparison
            agreeing += comparison.agrees
            support += comparison.support
            seen_through += comparison.sees_through
            inverse += torch.where(comparison.agrees, comparison.inverse, 0)
            normals += comparison.normals * comparison.agrees[..., None]
        confidence = (1 - own.costs).clamp_min(0) * support / (1 + support)
        chosen = own.valid & (agreeing >= stereo.config.min_views - 1)
        chosen &= seen_through <= MAX_SEEN_THROUGH * agreeing
        waiting.discard(photo)
        if photo in used:
            chosen &= ~used.pop(photo).to(chosen.device)
        for other in comparisons.keys() & waiting:
            if other not in used:
                used[other] = torch.zeros(stereo.view(other).view.image.shape, dtype=torch.bool)
            _mark_around(used[other], comparisons[other], chosen)
        chosen &= confidence >= stereo.config.min_confidence
        colour = _colours(stereo, photo, comparisons, chosen)
        positions = _positions(own, inverse / (agreeing + 1), chosen)
        parts.append((positions, F.normalize(normals[chosen], dim=1), colour, confidence[chosen]))
    xyz, normal, colours, sure = (torch.cat(part).cpu().numpy() for part in zip(*parts, strict=True))
    return RawPoints(
        xyz.astype(np.float64), normal.astype(np.float32), colours, "stereo", sure.astype(np.float32)
    )


def _colours(stereo: StereoScene, photo: int, comparisons: dict[int, _Comparison], chosen: Tensor) -> Tensor:
    """Return the median colours [M, 3] u8 of chosen pixels [H, W] bool over their photo and those that agree."""
    own = stereo.view(photo).colour.to(chosen.device)[chosen].float()
    shown = [own]
    for other, comparison in comparisons.items():
        agrees = comparison.agrees[chosen]
        if not agrees.any():
            continue
        column, row = comparison.uv[chosen].long().unbind(-1)
        colour = stereo.view(other).colour.to(chosen.device)[row, column].float()
        gain = ((own[agrees] + 1) / (colour[agrees] + 1)).median(dim=0).values
        shown.append(torch.where(agrees[:, None], colour * gain, torch.nan))
    return torch.stack(shown).nanmedian(dim=0).values.clamp(0, 255).round().byte()


def _pixel_size(surface: _Surface) -> float:
    """Return the median size of a photo's pixels on the surfaces that it shows, in scene units."""
    inverse = surface.planes[0][surface.valid]
    return 1 / float(surface.view.intrinsics[0, 0] * inverse.median()) if len(inverse) else np.inf


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


def _surface(stereo: StereoScene, photo: int) -> _Surface:
    planes, costs = stereo.planes("fine", photo)
    view = stereo.view(photo).view
    view = replace(view, image=view.image.to(planes.device))
    return _Surface(view, planes, costs, (costs < stereo.config.max_cost) & torch.isfinite(view.image))


def _compare(first: _Surface, other: _Surface, config: StereoConfig) -> _Comparison:
    """Compare the surface of each pixel with the one that another photo finds there."""
    height, width = other.view.image.shape
    u, v = _pixels(first.view.image)
    x, y, z = _apply(transfer(first.view, other.view), u, v, first.planes[0])
    su, sv = x / z, y / z
    inside = (z > 0) & (su >= 0) & (sv >= 0) & (su < width) & (sv < height)
    su, sv = torch.where(inside, su, 0), torch.where(inside, sv, 0)
    column, row = su.long(), sv.long()
    own, along_u, along_v = other.planes[:, row, column]
    own = own + (su - column - 0.5) * along_u + (sv - row - 0.5) * along_v
    found = inside & other.valid[row, column] & (own > 0)
    expected = first.planes[0] / z  # inverse depth in the other photo
    bx, by, bz = _apply(transfer(other.view, first.view), su, sv, own)
    shift = torch.hypot(bx / bz - u, by / bz - v)
    normals = other.normals[row, column]
    turn = (first.normals * normals).sum(-1)
    difference = (own / expected - 1).abs() / config.depth_tolerance
    agrees = found & (difference < 1) & (shift < config.max_shift_px)
    agrees &= turn > np.cos(np.radians(MAX_NORMAL_ANGLE_DEG))
    alike = (1 - other.costs[row, column]).clamp_min(0)
    size = float(first.view.intrinsics[0, 0] / other.view.intrinsics[0, 0]) * first.planes[0] / expected
    return _Comparison(
        agrees=agrees,
        support=torch.where(agrees, alike * (1 - difference), 0),
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


def _intrinsics(view: StereoView) -> tuple[float, float, float, float]:
    (fx, _, cx), (_, fy, cy), _ = view.intrinsics.tolist()
    return fx, fy, cx, cy


def _positions(surface: _Surface, inverse: Tensor, chosen: Tensor) -> Tensor:
    """Return world positions [M, 3] f64 of chosen pixels at inverse depths [H, W]."""
    local = surface.rays[chosen].double() / inverse[chosen].double()[:, None]
    pose = surface.view.world_to_camera.to(local)
    return (local - pose[:3, 3]) @ pose[:3, :3]
