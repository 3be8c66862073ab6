"""What goes into project, rasterize and draw, and what comes out."""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from adop.geometry.camera import level_size

BLOCK_SIZE = 256
BLOCK_STEPS = 16  # as in kernels/arguments.h
HARMONIC_COEFFICIENTS = 9  # of the first order: three for each of three channels


@dataclass(frozen=True)
class RasterConfig:
    """How points become pyramid levels.

    Args:
        levels: number of pyramid levels; level l is `ceil(size / 2^l)`.
        depth_tolerance: alpha of the fuzzy depth test, relative.
        radius_threshold: tau; a point is drawn at level l only while `radius_px / 2^l >= tau`. 0 draws all points.
        near: least depth that is drawn, scene units.
        ghost_fraction: share of the points that are left out of a training image, as ghosts, to find how the loss
            would change if they were drawn.
        position_gradient: the approximation to the gradient of a point's pixel. "ghost": for ghosts alone, from the
            loss at the pixels beside theirs, as published. "bilinear": for every point, drawn or ghost, as if it were
            drawn once more with bilinear weights on the 2 x 2 pixels around it.
        harmonics: each row of features ends in `HARMONIC_COEFFICIENTS` numbers, by which its first three channels change
            with the direction from the camera to the point: [3, 3], multiplied by the unit vector and added. These are
            spherical harmonics of the first order.
    """

    levels: int = 4
    depth_tolerance: float = 0.01
    radius_threshold: float = 0.6
    near: float = 0.01
    ghost_fraction: float = 0.25
    position_gradient: Literal["ghost", "bilinear"] = "ghost"
    harmonics: bool = False

    def __post_init__(self) -> None:
        """Raise unless the numbers are in range."""
        if not 1 <= self.levels <= 12:
            raise ValueError(f"levels: expected 1 to 12, got {self.levels}")
        if self.near <= 0:
            raise ValueError(f"near: expected more than 0, got {self.near}")


@dataclass(frozen=True)
class Blocks:
    """Bounding boxes of runs of consecutive points, by which whole runs are skipped before any point is read."""

    lower: Tensor  # [K, 3] smallest finite coordinates
    upper: Tensor  # [K, 3] largest finite coordinates
    radius: Tensor  # [K, BLOCK_STEPS] level-of-detail radius at the start of each of BLOCK_STEPS equal parts
    falling: Tensor  # [K] bool, whether the radii fall from point to point, so that the tail can be cut
    size: int = BLOCK_SIZE

    def to(self, device: torch.device | str) -> "Blocks":
        """Return the table on a device."""
        lower, upper, radius = self.lower.to(device), self.upper.to(device), self.radius.to(device)
        return Blocks(lower, upper, radius, self.falling.to(device), self.size)


@dataclass(frozen=True)
class Points:
    """The points as the ops read them.

    Args:
        xyz: [N, 3] world coordinates; points with a coordinate that is not finite are never drawn.
        radius: [N] level-of-detail radius, `sqrt(1/U)` already multiplied in, scene units.
        normals: [N, 3] pointing outwards; points that face away from a camera are not drawn. None draws both sides.
        blocks: from `make_blocks`, and made again when the points move. None visits every point.
    """

    xyz: Tensor
    radius: Tensor
    normals: Tensor | None = None
    blocks: Blocks | None = None

    def __post_init__(self) -> None:
        """Raise unless the shapes agree."""
        count = self.xyz.shape[0]
        if tuple(self.xyz.shape) != (count, 3):
            raise ValueError(f"xyz: expected [N, 3], got {list(self.xyz.shape)}")
        if tuple(self.radius.shape) != (count,):
            raise ValueError(f"radius: expected [N={count}], got {list(self.radius.shape)}")
        if self.normals is not None and tuple(self.normals.shape) != (count, 3):
            raise ValueError(f"normals: expected [N={count}, 3], got {list(self.normals.shape)}")


@dataclass(frozen=True)
class Projection:
    """The pixel and depth of each point in each view; zeros where `visible` is False."""

    uv: Tensor  # [B, N, 2] pixels of the crop
    z: Tensor  # [B, N] depth, see adop.geometry.lens_model
    radius_px: Tensor  # [B, N] level-of-detail radius in pixels of level 0
    visible: Tensor  # [B, N] bool
    xyz: Tensor | None = None  # [N, 3] what was projected, for features that depend on the direction
    centres: Tensor | None = None  # [B, 3] of the cameras, in the world, likewise


@dataclass(frozen=True)
class Levels:
    """The pyramid of images, finest level first."""

    features: list[Tensor]  # L x [B, C, H_l, W_l] mean feature of the points that count, or the background
    weight: list[Tensor]  # L x [B, 1, H_l, W_l] how many points count
    depth: list[Tensor]  # L x [B, 1, H_l, W_l] least depth, +inf where empty


def block_size_for(count: int) -> int:
    """Return how many points a block should have: 256, doubled until there are at most 16,384 blocks.

    In a dense cloud few points of each block are drawn; longer blocks keep them together in memory.
    """
    size = BLOCK_SIZE
    while count > size << 14:
        size *= 2
    return size


@torch.no_grad()
def make_blocks(xyz: Tensor, radius: Tensor, size: int = BLOCK_SIZE) -> Blocks:
    """Return the bounding boxes of consecutive runs of `size` points.

    Cheap enough to be made again after each step that moves points. In blocks whose radii fall, as in a prepared
    cloud, the points from the first that is too small to be drawn are skipped as well.
    """
    if size % BLOCK_STEPS:
        raise ValueError(f"size: expected a multiple of {BLOCK_STEPS}, got {size}")
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
        return Blocks(empty, empty, radius.new_empty(0, BLOCK_STEPS), torch.empty(0, dtype=torch.bool), size)
    lower, upper, falling = (torch.cat([part[i] for part in parts]) for i in range(3))
    steps = radius.new_full((blocks, BLOCK_STEPS), -torch.inf)
    at = torch.arange(0, blocks * size, size // BLOCK_STEPS, device=radius.device)
    steps.view(-1)[at < count] = radius[at[at < count]]
    return Blocks(lower, upper, steps, falling, size)


def _bound(xyz: Tensor, radius: Tensor, size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Return, per run of `size` points, the least and largest finite coordinates and whether the radii fall."""
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
    """Return which points [B, N] bool are ghosts in each view, sampled at random."""
    draw = torch.rand(views, points, generator=generator, device=generator.device)
    return draw < config.ghost_fraction


def channels_of(features: Tensor, harmonics: bool) -> int:
    """Return C, the channels that features [N, C] or [N, C + `HARMONIC_COEFFICIENTS`] are drawn to."""
    return features.shape[1] - (HARMONIC_COEFFICIENTS if harmonics else 0)


def check_background(
    background: Tensor | list[Tensor] | None,
    views: int,
    size: tuple[int, int],
    config: RasterConfig,
    features: Tensor,
) -> list[Tensor]:
    """Return the background as one [1 or B, C, 1 or H_l, 1 or W_l] tensor per level.

    Args:
        background: [C], or per level [B, C, H_l, W_l]; None is 0.
        size: height and width of level 0.
        features: whose precision and device the background must share.
    """
    levels, channels = config.levels, channels_of(features, config.harmonics)
    given = [background] if isinstance(background, Tensor) else background or []
    check_like(features, **{f"background[{i}]": tensor for i, tensor in enumerate(given)})
    if background is None:
        return [features.new_zeros(1, channels, 1, 1)] * levels
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


def check_features(features: Tensor, count: int, size: tuple[int, int], harmonics: bool) -> None:
    """Raise unless each point has a row of features, and 32 bits can number the points and 16 the pixels of a side."""
    if count >= 2**31:
        raise ValueError(f"points: expected fewer than 2^31 in one call, got {count}")
    if max(size) > 65535 or min(size) < 1:
        raise ValueError(f"size: expected 1 to 65535 pixels a side, got {size[0]}x{size[1]}")
    if features.ndim != 2 or features.shape[0] != count or features.shape[1] < 1:
        raise ValueError(f"features: expected [N={count}, C], got {list(features.shape)}")
    if harmonics and channels_of(features, harmonics) < 3:
        raise ValueError(
            f"features: expected at least 3 channels and {HARMONIC_COEFFICIENTS} coefficients, got {features.shape[1]}"
        )


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
