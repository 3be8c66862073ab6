"""The two ops, project and rasterize, and `draw`, which is both at once."""

from torch import Tensor

from adop.camera import Camera
from adop.ops import reference
from adop.ops.types import (
    Backend,
    Blocks,
    Levels,
    Points,
    Projection,
    RasterConfig,
    check_features,
    count_invalid,
    make_blocks,
    sample_ghosts,
)

__all__ = [
    "Backend",
    "Blocks",
    "Levels",
    "Points",
    "Projection",
    "RasterConfig",
    "count_invalid",
    "draw",
    "make_blocks",
    "project",
    "rasterize",
    "sample_ghosts",
]


def project(camera: Camera, points: Points, near: float = 0.01, backend: Backend = "auto") -> Projection:
    """Project points into every view of the camera. Until the kernels exist every backend is the torch
    reference."""
    return reference.project(camera, points, near)


def rasterize(
    projection: Projection,
    features: Tensor,
    width: int,
    height: int,
    config: RasterConfig,
    background: Tensor | list[Tensor] | None = None,
    ghosts: Tensor | None = None,
    backend: Backend = "auto",
) -> Levels:
    """Draw projected points into pyramid levels. Until the kernels exist every backend is the torch
    reference."""
    check_features(features, projection.z.shape[1])
    return reference.rasterize(projection, features, width, height, config, background, ghosts)


def draw(
    camera: Camera,
    points: Points,
    features: Tensor,
    config: RasterConfig,
    background: Tensor | list[Tensor] | None = None,
    ghosts: Tensor | None = None,
    backend: Backend = "auto",
) -> Levels:
    """Project and rasterize at once. Until the kernels exist every backend is the torch reference."""
    check_features(features, points.xyz.shape[0])
    return reference.draw(camera, points, features, config, background, ghosts)
