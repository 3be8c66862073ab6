"""The two ops, project and rasterize, and `draw`, which is both at once.

`backend`: "auto" follows the tensors' device; "cpu" and "cuda" insist on it; "reference" is the slow torch
oracle, which runs anywhere and is only ever asked for.
"""

from dataclasses import replace

import torch
from torch import Tensor

from adop.errors import UserError
from adop.geometry.camera import Camera
from adop.ops import draw as _draw
from adop.ops import project as _project
from adop.ops import rasterize as _rasterize
from adop.ops import reference
from adop.ops.types import (
    Backend,
    Blocks,
    Levels,
    Points,
    Projection,
    RasterConfig,
    check_features,
    check_ghosts,
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


def _resolve(backend: Backend, device: torch.device) -> str:
    """Return "reference", "cpu" or "cuda"; raise where the tensors live elsewhere."""
    if backend == "reference":
        return backend
    if device.type not in ("cpu", "cuda"):
        raise UserError(
            f"there are no kernels for {device.type}: move the tensors, or ask for backend='reference'"
        )
    if backend not in ("auto", device.type):
        raise UserError(
            f"backend={backend!r}: the points are on {device.type}; move them, or ask for backend='auto'"
        )
    return device.type


def project(camera: Camera, points: Points, near: float = 0.01, backend: Backend = "auto") -> Projection:
    """Project points into every view of the camera.

    Args:
        camera: B views.
        points: N points; those with a coordinate or radius that is not finite are never visible.
        near: least depth that is visible, scene units.

    **Gradients** of uv and z exact to xyz, world_to_camera, intrinsics and distortion; none of radius_px. Of a camera
    with a motion, the time at which a point's row is read out is taken for a constant, and kernels give the motion
    itself no gradient (`backend="reference"` does).

    Example: a point two units ahead and one to the right, seen by a camera of 100 pixels focal length.

    >>> camera = Camera.from_intrinsics(200, 100, focal=100.0)
    >>> points = Points(xyz=torch.tensor([[1.0, 0.0, 2.0]]), radius=torch.tensor([0.1]))
    >>> seen = project(camera, points)
    >>> seen.uv.tolist(), seen.z.tolist(), seen.visible.tolist()
    ([[[150.0, 50.0]]], [[2.0]], [[True]])
    """
    if _resolve(backend, points.xyz.device) == "reference":
        return reference.project(camera, points, near)
    return _project.project(camera, points, near)


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
    """Draw projected points into pyramid levels.

    Args:
        projection: B views of N points; of those that `visible` names, the ones outside the picture are not drawn.
        features: [N, C].
        width, height: size of level 0 in pixels.
        background: what empty pixels show: [C], or per level [B, C, H_l, W_l]; None is 0.
        ghosts: [B, N] bool, points that are not drawn and have the gradient to `uv`.

    **Gradients** exact to features and background; to uv of the ghosts ADOP's neighbour differences,
    zero within 2 px of a border, or, by `config.position_gradient`, of all points what a bilinear footprint would
    feel; none to z and radius_px. **Source** ADOP sections 4.1 and 4.2.

    Example: two points of two features each, the nearer one of the same pixel wins.

    >>> camera = Camera.from_intrinsics(4, 2, focal=2.0)
    >>> xyz = torch.tensor([[0.1, 0.1, 1.0], [0.2, 0.2, 2.0]])
    >>> projection = project(camera, Points(xyz, radius=torch.ones(2)))
    >>> levels = rasterize(projection, torch.eye(2), 4, 2, RasterConfig(levels=2))
    >>> [tuple(image.shape) for image in levels.features]
    [(1, 2, 2, 4), (1, 2, 1, 2)]
    >>> levels.features[0][0, :, 1, 2].tolist(), levels.depth[0][0, 0, 1, 2].item()
    ([1.0, 0.0], 1.0)
    """
    check_features(features, projection.z.shape[1], (width, height))
    check_ghosts(ghosts, *projection.z.shape)
    # The kernels believe `visible`; a projection that a caller has moved may claim pixels that are not there.
    inside = (projection.uv >= 0).all(-1) & (projection.uv < projection.uv.new_tensor([width, height])).all(
        -1
    )
    projection = replace(projection, visible=projection.visible & inside)
    version = reference if _resolve(backend, features.device) == "reference" else _rasterize
    return version.rasterize(projection, features, width, height, config, background, ghosts)


def draw(
    camera: Camera,
    points: Points,
    features: Tensor,
    config: RasterConfig,
    background: Tensor | list[Tensor] | None = None,
    ghosts: Tensor | None = None,
    backend: Backend = "auto",
) -> Levels:
    """Project and rasterize at once; on a CPU fused, and with a block table without touching what cannot
    be seen.

    Args and **Gradients** as `project` and `rasterize`: features [N, C], background [C] or per level,
    ghosts [B, N].
    """
    check_features(features, points.xyz.shape[0], (camera.width, camera.height))
    check_ghosts(ghosts, len(camera), points.xyz.shape[0])
    chosen = _resolve(backend, points.xyz.device)
    if chosen == "reference":
        return reference.draw(camera, points, features, config, background, ghosts)
    if chosen == "cpu":
        return _draw.draw(camera, points, features, config, background, ghosts)
    projection = _project.project(camera, points, config.near, config.radius_threshold)
    size = (camera.width, camera.height)
    return _rasterize.rasterize(projection, features, *size, config, background, ghosts)
