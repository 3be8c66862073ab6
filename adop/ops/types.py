"""The structs that cross the edge of the two ops."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adop.geometry.camera import level_size

Backend = Literal["auto", "reference", "cpu", "cuda"]
BLOCK_SIZE = 256
STEPS = 16  # as in kernels/arguments.h


@dataclass(frozen=True)
class RasterConfig:
    """How points become pyramid levels.

    Args:
        levels: number of pyramid levels; level l is `ceil(size / 2^l)`.
        depth_tolerance: alpha of the fuzzy depth test, relative.
        radius_threshold: tau; a point is drawn at level l only while `radius_px / 2^l >= tau`. 0 draws
        all points. near: least depth that is drawn, in scene units.
        ghost_fraction: share of the points that are left out of a training picture to look at what they
        would change.
        position_gradient: what moves points. "ghost": points that are left out of a picture look at its
        neighbouring pixels, as published. "bilinear": every point, drawn or ghost, as if one more of it were
        drawn with the bilinear weights of the 2 x 2 pixels around its place.
    """

    levels: int = 4
    depth_tolerance: float = 0.01
    radius_threshold: float = 0.6
    near: float = 0.01
    ghost_fraction: float = 0.25
    position_gradient: Literal["ghost", "bilinear"] = "ghost"

    def __post_init__(self) -> None:
        if not 1 <= self.levels <= 12:
            raise ValueError(f"levels: expected 1 to 12, got {self.levels}")
        if self.near <= 0:
            raise ValueError(f"near: expected more than 0, got {self.near}")


@dataclass(frozen=True)
class Blocks:
    """Bounding boxes of runs of consecutive points, so that whole runs are skipped before any point is
    touched."""

    lower: Tensor  # [K, 3] smallest finite coordinates
    upper: Tensor  # [K, 3] largest finite coordinates
    radius: Tensor  # [K, STEPS] level-of-detail radius at the start of each of STEPS equal parts
    falling: Tensor  # [K] bool, whether the radii fall from point to point, so that the tail can be cut
    size: int = BLOCK_SIZE

    def to(self, device: torch.device | str) -> "Blocks":
        """Move the table."""
        lower, upper, radius = self.lower.to(device), self.upper.to(device), self.radius.to(device)
        return Blocks(lower, upper, radius, self.falling.to(device), self.size)


@dataclass(frozen=True)
class Points:
    """The points as the ops read them.

    Args:
        xyz: [N, 3] world coordinates; points with a coordinate that is not finite are skipped and counted.
        radius: [N] level-of-detail radius, `sqrt(1/U)` already multiplied in, scene units.
        normals: [N, 3] outward, or None where nothing is known to face away.
        blocks: from `make_blocks`; made anew when the points move. None visits every point.
    """

    xyz: Tensor
    radius: Tensor
    normals: Tensor | None = None
    blocks: Blocks | None = None

    def __post_init__(self) -> None:
        count = self.xyz.shape[0]
        if tuple(self.xyz.shape) != (count, 3):
            raise ValueError(f"xyz: expected [N, 3], got {list(self.xyz.shape)}")
        if tuple(self.radius.shape) != (count,):
            raise ValueError(f"radius: expected [N={count}], got {list(self.radius.shape)}")
        if self.normals is not None and tuple(self.normals.shape) != (count, 3):
            raise ValueError(f"normals: expected [N={count}, 3], got {list(self.normals.shape)}")


@dataclass(frozen=True)
class Projection:
    """Where each point lands in each view. Zero where not visible; `visible` decides."""

    uv: Tensor  # [B, N, 2] pixels of the crop
    z: Tensor  # [B, N] depth, see adop.geometry.camera
    radius_px: Tensor  # [B, N] level-of-detail radius in pixels of level 0
    visible: Tensor  # [B, N] bool


@dataclass(frozen=True)
class Levels:
    """The pictures, finest first."""

    features: list[Tensor]  # L x [B, C, H_l, W_l] mean feature of the points that count, or the background
    weight: list[Tensor]  # L x [B, 1, H_l, W_l] how many points count
    depth: list[Tensor]  # L x [B, 1, H_l, W_l] least depth, +inf where empty


def block_size_for(count: int) -> int:
    """Return how many points a block should have: 256, and more where that would make over 16,384 blocks.

    In a dense cloud few points of a block are drawn; longer blocks keep them together in memory.
    """
    size = BLOCK_SIZE
    while count > size << 14:
        size *= 2
    return size


@torch.no_grad()
def make_blocks(xyz: Tensor, radius: Tensor, size: int = BLOCK_SIZE) -> Blocks:
    """Bound consecutive runs of `size` points.

    Cheap enough to be made anew after each step that moves points. Blocks whose radii fall, as those of a
    prepared cloud do, are cut where they become too small to be drawn.
    """
    if size % STEPS:
        raise ValueError(f"size: expected a multiple of {STEPS}, got {size}")
    count = xyz.shape[0]
    blocks = -(-count // size)
    whole = count // size * size
    parts = [
        _bound(xyz[first:last], radius[first:last], last - first if first == whole else size)
        for first, last in ((0, whole), (whole, count))
        if last > first
    ]
    if not parts:
        empty = xyz.new_empty(0, 3)
        return Blocks(empty, empty, radius.new_empty(0, STEPS), torch.empty(0, dtype=torch.bool), size)
    lower, upper, falling = (torch.cat([part[i] for part in parts]) for i in range(3))
    steps = radius.new_full((blocks, STEPS), -torch.inf)
    at = torch.arange(0, blocks * size, size // STEPS, device=radius.device)
    steps.view(-1)[at < count] = radius[at[at < count]]
    return Blocks(lower, upper, steps, falling, size)


def _bound(xyz: Tensor, radius: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return least and largest finite coordinates, and whether the radii fall, of equal runs of points."""
    coordinates = xyz.reshape(-1, size, 3)
    lower, upper = coordinates.amin(1), coordinates.amax(1)
    odd = ~(torch.isfinite(lower).all(1) & torch.isfinite(upper).all(1))
    if odd.any():
        some = coordinates[odd]
        finite = torch.isfinite(some).all(2, keepdim=True)
        lower[odd] = torch.where(finite, some, torch.inf).amin(1)
        upper[odd] = torch.where(finite, some, -torch.inf).amax(1)
    sizes = radius.reshape(-1, size)
    return lower, upper, (sizes[:, 1:] <= sizes[:, :-1]).all(1)


@torch.no_grad()
def count_invalid(points: Points) -> int:
    """Return how many points have a coordinate or a radius that is not finite; they are never drawn."""
    return int((~(torch.isfinite(points.xyz).all(1) & torch.isfinite(points.radius))).sum())


def sample_ghosts(config: RasterConfig, views: int, points: int, generator: torch.Generator) -> Tensor:
    """Draw which points [B, N] bool are ghosts in each view."""
    draw = torch.rand(views, points, generator=generator, device=generator.device)
    return draw < config.ghost_fraction


def check_background(
    background: Tensor | list[Tensor] | None,
    views: int,
    channels: int,
    size: tuple[int, int],
    levels: int,
    like: Tensor,
) -> list[Tensor]:
    """Return the background as one [1 or B, C, 1 or H_l, 1 or W_l] tensor per level."""
    given = [background] if isinstance(background, Tensor) else background or []
    check_like(like, **{f"background[{i}]": tensor for i, tensor in enumerate(given)})
    if background is None:
        return [like.new_zeros(1, channels, 1, 1)] * levels
    if isinstance(background, Tensor):
        if tuple(background.shape) != (channels,):
            raise ValueError(f"background: expected [C={channels}], got {list(background.shape)}")
        return [background.reshape(1, channels, 1, 1)] * levels
    if len(background) != levels:
        raise ValueError(f"background: expected {levels} levels, got {len(background)}")
    for level, image in enumerate(background):
        expected = (views, channels, *level_size(*size, level))
        if tuple(image.shape) != expected:
            raise ValueError(f"background[{level}]: expected {list(expected)}, got {list(image.shape)}")
    return list(background)


def check_features(features: Tensor, count: int, size: tuple[int, int]) -> None:
    """Raise unless there is one feature row for each point, and points and pixels can be numbered."""
    if count >= 2**31:
        raise ValueError(f"points: expected fewer than 2^31 in one call, got {count}")
    if max(size) > 65535 or min(size) < 1:
        raise ValueError(f"size: expected 1 to 65535 pixels a side, got {size[0]}x{size[1]}")
    if features.ndim != 2 or features.shape[0] != count or features.shape[1] < 1:
        raise ValueError(f"features: expected [N={count}, C], got {list(features.shape)}")


def check_ghosts(ghosts: Tensor | None, views: int, count: int) -> None:
    """Raise unless ghosts are [B, N] bool."""
    if ghosts is not None and (tuple(ghosts.shape) != (views, count) or ghosts.dtype != torch.bool):
        raise ValueError(
            f"ghosts: expected [B={views}, N={count}] bool, got {list(ghosts.shape)} {ghosts.dtype}"
        )


def check_like(like: Tensor, **tensors: Tensor | None) -> None:
    """Raise unless `like` is single or double precision, and all tensors share its precision and device."""
    if like.dtype not in (torch.float32, torch.float64):
        raise ValueError(f"points: expected float32 or float64, got {like.dtype}")
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if tensor.device != like.device:
            raise ValueError(f"{name}: expected on {like.device}, where the points are, got {tensor.device}")
        if tensor.is_floating_point() and tensor.dtype != like.dtype:
            raise ValueError(f"{name}: expected {like.dtype}, as the points are, got {tensor.dtype}")
