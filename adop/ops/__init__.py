"""The renderer's ops: project, rasterize, and draw, which is both at once; those on images have modules of their own.

Every op takes `backend`: "auto" runs the kernels of the tensors' device, "cpu" and "cuda" the same but insist on the
device, "reference" runs slow plain torch anywhere and is never chosen by itself. See `choose_backend`.
"""

from dataclasses import replace

from torch import Tensor

from adop.backend.choice import Backend, choose_backend
from adop.geometry.camera import Camera
from adop.ops import reference
from adop.ops.drawing import draw_points
from adop.ops.projection import project_points, visible_blocks
from adop.ops.rasterization import rasterize_points
from adop.ops.types import (
    HARMONIC_COEFFICIENTS,
    Blocks,
    Levels,
    Points,
    Projection,
    RasterConfig,
    channels_of,
    check_features,
    check_ghosts,
    count_invalid,
    make_blocks,
    sample_ghosts,
)

__all__ = [
    "HARMONIC_COEFFICIENTS",
    "Backend",
    "Blocks",
    "Levels",
    "Points",
    "Projection",
    "RasterConfig",
    "channels_of",
    "choose_backend",
    "count_invalid",
    "draw",
    "make_blocks",
    "project",
    "rasterize",
    "sample_ghosts",
    "visible_blocks",
]


def project(camera: Camera, points: Points, near: float = 0.01, backend: Backend = "auto") -> Projection:
    """Project points into every view of the camera.

    Args:
        camera: B views.
        points: N points; those with a coordinate or radius that is not finite are never visible.
        near: least depth that is visible, scene units.

    **Gradients** of uv and z exact to xyz, world_to_camera, intrinsics and distortion; none of radius_px. Of a camera
    with a motion, the time at which a point's row is read out counts as a constant, and the kernels give the motion
    itself no gradient (`backend="reference"` does).

    Example: a point two units ahead and one to the right, seen by a camera of 100 pixels focal length.

    >>> import torch
    >>> camera = Camera.from_intrinsics(200, 100, focal=100.0)
    >>> points = Points(xyz=torch.tensor([[1.0, 0.0, 2.0]]), radius=torch.tensor([0.1]))
    >>> seen = project(camera, points)
    >>> seen.uv.tolist(), seen.z.tolist(), seen.visible.tolist()
    ([[[150.0, 50.0]]], [[2.0]], [[True]])
    """
    if choose_backend(backend, points.xyz.device) == "reference":
        return reference.project(camera, points, near)
    return project_points(camera, points, near)


def rasterize(  # noqa: PLR0913 (public: the paper's op, with its inputs side by side)
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
        projection: B views of N points; visible points outside the image are not drawn.
        features: [N, C]; with `config.harmonics` [N, C + 9], see `RasterConfig`.
        width, height: size of level 0 in pixels.
        background: of empty pixels: [C], or per level [B, C, H_l, W_l]; None is 0.
        ghosts: [B, N] bool, points that are not drawn but have a gradient to `uv`.

    **Gradients** exact to features with their harmonics and to the background, none to z, radius_px and the direction
    from which a point is seen. To uv approximate, by `config.position_gradient`: of the ghosts, differences between
    neighbouring pixels, zero within 2 px of a border; or of all points, the gradient of a bilinear footprint. **Source**
    Rückert et al. 2022, ADOP, sections 4.1 and 4.2.

    Example: two points of two features each in one pixel, which shows the nearer one.

    >>> import torch
    >>> camera = Camera.from_intrinsics(4, 2, focal=2.0)
    >>> xyz = torch.tensor([[0.1, 0.1, 1.0], [0.2, 0.2, 2.0]])
    >>> projection = project(camera, Points(xyz, radius=torch.ones(2)))
    >>> levels = rasterize(projection, torch.eye(2), 4, 2, RasterConfig(levels=2))
    >>> [tuple(image.shape) for image in levels.features]
    [(1, 2, 2, 4), (1, 2, 1, 2)]
    >>> levels.features[0][0, :, 1, 2].tolist(), levels.depth[0][0, 0, 1, 2].item()
    ([1.0, 0.0], 1.0)
    """
    check_features(features, projection.z.shape[1], (width, height), config.harmonics)
    if config.harmonics and (projection.xyz is None or projection.centres is None):
        raise ValueError("projection: expected xyz and centres, on which the harmonics of features depend")
    check_ghosts(ghosts, *projection.z.shape)
    # The kernels trust `visible`, but a projection that a caller has moved may lie outside the image.
    uv = projection.uv
    inside = (uv >= 0).all(-1) & (uv < uv.new_tensor([width, height])).all(-1)
    projection = replace(projection, visible=projection.visible & inside)
    arguments = (projection, features, (height, width), config, background, ghosts)
    if choose_backend(backend, features.device) == "reference":
        return reference.rasterize(*arguments)
    return rasterize_points(*arguments)


def draw(  # noqa: PLR0913 (public: the inputs of project and rasterize)
    camera: Camera,
    points: Points,
    features: Tensor,
    config: RasterConfig,
    background: Tensor | list[Tensor] | None = None,
    ghosts: Tensor | None = None,
    backend: Backend = "auto",
) -> Levels:
    """Project and rasterize at once: on a CPU in one pass, which skips blocks of points that cannot be seen.

    Args and **Gradients** as `project` and `rasterize`: features [N, C], background [C] or per level,
    ghosts [B, N].
    """
    check_features(features, points.xyz.shape[0], (camera.width, camera.height), config.harmonics)
    check_ghosts(ghosts, len(camera), points.xyz.shape[0])
    chosen = choose_backend(backend, points.xyz.device)
    if chosen == "reference":
        return reference.draw(camera, points, features, config, background, ghosts)
    if chosen == "cpu":
        return draw_points(camera, points, features, config, background, ghosts)
    projection = project_points(camera, points, config.near, config.radius_threshold)
    size = (camera.height, camera.width)
    return rasterize_points(projection, features, size, config, background, ghosts)
