"""The points of a scene, their features, and how far the published gradient has moved them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adop.geometry.camera import Camera
from adop.images.srgb import srgb_decode
from adop.model.block_cache import BlockCache
from adop.model.point_store import StoredPoints
from adop.ops import HARMONIC_COEFFICIENTS, Blocks, Points, RasterConfig, make_blocks
from adop.scene.point_cloud import PointCloud, block_order

MIN_RADIANCE = 1e-3
GREY = 0.2  # linear light of points that come without colours


class LearnedPoints(nn.Module):
    """Points that are drawn, their level-of-detail radii and normals, and the features that are learned.

    Positions change through `set_xyz` and `move`, so that the blocks that cull them are bounded anew.

    Args:
        cloud: the scene's points.
        channels: C, channels of a feature; the first three are the logarithm of the point's linear colour.
        harmonics: whether a feature's colour depends on the direction from which the point is seen.
        moved_by_gradient: whether the optimiser moves the points through `xyz_delta`.
    """

    xyz: Tensor  # [N, 3] world
    lod_radius: Tensor  # [N] scene units
    normals: Tensor | None  # [N, 3] unit, or None where the scene has none
    origin: Tensor  # [N] int32 index in the scene's cloud, -1 for points that were added

    def __init__(self, cloud: PointCloud, channels: int, harmonics: bool, moved_by_gradient: bool) -> None:
        super().__init__()
        xyz = _tensor(cloud.xyz)
        self.register_buffer("xyz", xyz)
        self.register_buffer("lod_radius", _tensor(cloud.lod_radius))
        self.register_buffer("normals", None if cloud.normals is None else _tensor(cloud.normals))
        self.register_buffer("origin", torch.arange(len(xyz), dtype=torch.int32))
        width = channels + (HARMONIC_COEFFICIENTS if harmonics else 0)
        # [N, C], or with harmonics [N, C + HARMONIC_COEFFICIENTS], see `adop.ops.RasterConfig`.
        self.features = nn.Parameter(start_features(cloud, width))
        self.cloud_size = len(xyz)  # before points were added or dropped
        self.extent = median_distance(xyz)
        count = len(xyz) if moved_by_gradient else 0
        # [N, 3] in units of the extent, or [0, 3] where the published gradient moves no points.
        self.xyz_delta = nn.Parameter(torch.zeros(count, 3), requires_grad=False)
        self._blocks: Blocks | None = None
        self._cache: BlockCache | None = None
        self._spread: int | None = (
            None  # leading points that lie all over the scene; None: all points together
        )
        self.register_load_state_dict_post_hook(lambda module, _: module.invalidate())

    def __len__(self) -> int:
        """Return the number of points."""
        return len(self.xyz)

    @property
    def device(self) -> torch.device:
        """Where the points are drawn."""
        return self.xyz.device if self._cache is None else self._cache.features.device

    def positions(self) -> Tensor:
        """Return [N, 3] where all points are, world."""
        return self.xyz + self.extent * self.xyz_delta if len(self.xyz_delta) else self.xyz

    def sampled(self, count: int, generator: torch.Generator) -> Tensor:
        """Return [count, 3], where points lie that are drawn at random; of stored points, few pages are read."""
        chosen = torch.randint(self._spread or len(self), (count,), generator=generator)
        positions = self.positions().detach()
        return positions[chosen.to(positions.device)].to(self.device)

    def forward(self) -> Points:
        """Return the points as the rasterizer takes them, bounded by blocks: all of them, or where they are more than
        the device has room for, those that `bring` has brought."""
        if self._cache is not None:
            return self._cache.points
        xyz = self.positions()
        if self._blocks is None:
            self._blocks = make_blocks(xyz.detach(), self.lod_radius)
        return Points(xyz, self.lod_radius, self.normals, self._blocks)

    @property
    def drawn_features(self) -> Tensor:
        """[M, C] features of the points that `forward` returns."""
        return self.features if self._cache is None else self._cache.features

    def bring(self, cameras: Sequence[Camera], config: RasterConfig) -> float:
        """Make the points that cameras see available; see `BlockCache.bring`, also for what is returned."""
        return 1.0 if self._cache is None else self._cache.bring(cameras, config)

    def invalidate(self) -> None:
        """Forget the blocks: positions have changed."""
        self._blocks = None

    @torch.no_grad()
    def set_xyz(self, xyz: Tensor) -> None:
        """Put the points at world coordinates [N, 3]."""
        self.xyz.copy_(xyz)
        self.invalidate()

    @torch.no_grad()
    def move(self, shift: Tensor) -> None:
        """Move the points by [N, 3] scene units."""
        self.xyz += shift
        self.invalidate()

    @torch.no_grad()
    def add(self, new: Points, features: Tensor) -> None:
        """Append points with features [M, C]; their normals are dropped where the scene has none."""
        normals = None
        if self.normals is not None:
            if new.normals is None:
                raise ValueError("normals: expected for new points, because the scene's points have them")
            normals = torch.cat((self.normals, new.normals))
        self._replace(
            Points(torch.cat((self.xyz, new.xyz)), torch.cat((self.lod_radius, new.radius)), normals),
            torch.cat((self.features, features)),
            torch.cat((self.origin, torch.full_like(self.origin[:1], -1).expand(len(features)))),
        )

    @torch.no_grad()
    def sort(self, seed: int, first_new: int) -> None:
        """Put the points into the order in which blocks of neighbours are culled, see `PointCloud`.

        Args:
            seed: of the random part of the level of detail, which points from `first_new` on do not have yet.
        """
        generator = torch.Generator().manual_seed(seed)
        uniform = 1 - torch.rand(len(self) - first_new, generator=generator)  # (0, 1]: never divides by zero
        radius = self.lod_radius.clone()
        radius[first_new:] *= (1 / uniform).sqrt().to(radius)
        index = torch.from_numpy(block_order(self.xyz.cpu().numpy(), radius.cpu().numpy())).to(self.device)
        if len(self.xyz_delta):
            self.xyz_delta = nn.Parameter(self.xyz_delta[index], requires_grad=False)
        normals = None if self.normals is None else self.normals[index]
        self._replace(
            Points(self.xyz[index], radius[index], normals), self.features[index], self.origin[index]
        )

    @torch.no_grad()
    def keep(self, mask: Tensor) -> None:
        """Drop all points but those of `mask` [N] bool."""
        if len(self.xyz_delta):
            self.xyz_delta = nn.Parameter(self.xyz_delta[mask], requires_grad=False)
        normals = None if self.normals is None else self.normals[mask]
        kept = Points(self.xyz[mask], self.lod_radius[mask], normals)
        self._replace(kept, self.features[mask], self.origin[mask])

    def use_stored(self, stored: StoredPoints, cache: BlockCache | None = None) -> None:
        """Draw points of a file instead. They cannot be learned or moved: the file is mapped for reading only.

        Args: cache: draws them on a device that cannot hold all of them; None: they are drawn where they are.
        """
        self._replace(
            Points(stored.xyz, stored.radius, stored.normals), stored.features, stored.xyz.new_empty(0)
        )
        self.origin = torch.full((1,), -1, dtype=torch.int32, device=stored.xyz.device).expand(len(self))
        self.features.requires_grad_(False)
        self._blocks, self._cache, self._spread = stored.blocks, cache, stored.spread

    def resize(self, count: int) -> None:
        """Make room for `count` points, whose values a checkpoint will set."""
        xyz = self.xyz.new_zeros(count, 3)
        normals = None if self.normals is None else torch.zeros_like(xyz)
        features = self.features.new_zeros(count, self.features.shape[1])
        self._replace(Points(xyz, xyz.new_zeros(count), normals), features, self.origin.new_zeros(count))

    def _replace(self, points: Points, features: Tensor, origin: Tensor) -> None:
        self.xyz, self.lod_radius, self.normals = points.xyz, points.radius, points.normals
        self.origin = origin
        self.features = nn.Parameter(features.detach())
        if len(self.xyz_delta):
            kept = self.xyz_delta.detach()[: len(origin)]
            added = kept.new_zeros(len(origin) - len(kept), 3)
            self.xyz_delta = nn.Parameter(torch.cat((kept, added)), requires_grad=False)
        self.invalidate()

    def _apply(self, *args: Any, **kwargs: Any) -> LearnedPoints:
        self.invalidate()
        return super()._apply(*args, **kwargs)


def median_distance(xyz: Tensor) -> float:
    """Return the median distance of points [N, 3] from their median: the scene's extent."""
    return float((xyz - xyz.median(0).values).norm(dim=1).median().clamp_min(1e-12))


def start_features(cloud: PointCloud, width: int) -> Tensor:
    """Return [N, width]: the logarithm of the points' own colours in linear light, then zeros."""
    features = torch.zeros(len(cloud.xyz), width)
    if cloud.colors is None:
        features[:, :3] = float(np.log(GREY))
    else:
        features[:, :3] = srgb_decode(_tensor(cloud.colors) / 255).clamp_min(MIN_RADIANCE).log()
    return features


def with_harmonics(rows: Tensor, like: Tensor) -> Tensor:
    """Return rows [N, C] of a checkpoint without harmonics as wide as `like`, with harmonics of 0; others as they are."""
    missing = like.shape[1] - rows.shape[1] if rows.dim() == 2 else 0
    return F.pad(rows, (0, missing)) if missing == HARMONIC_COEFFICIENTS else rows


def _tensor(values: np.ndarray) -> Tensor:
    return torch.tensor(values, dtype=torch.float32)  # a copy: loading a checkpoint must not change the scene
