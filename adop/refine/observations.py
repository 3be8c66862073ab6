"""What a photo shows of the points it sees: residuals between expected and photographed colours, and their Jacobians."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.initialisation.reduced_photos import sample_image
from adop.refine.alignment_equations import (
    RESIDUAL_SCALE,
    CameraColumns,
    fit_gain,
    image_gradient,
    masked_blur,
    projection_jacobian,
)
from adop.refine.photo_set import PhotoSet, render_points

# Lengths in pixels are those of the reduced photo.
BLUR_SIGMA_PX = 0.7
OCCLUSION_TOLERANCE = 0.02  # relative depth by which a visible point may lie behind the rendered surface
DEPTH_STEP = 0.05  # relative step of the depth across which a blurred photo mixes two surfaces
STEP_RADIUS_PX = 2  # distance from a pixel within which such a step counts
BORDER_PX = 2  # at a photo's edge, where its gradient is not known
FAR = 1e9  # scene units; stands for the depth where there are no points
MIN_DEPTH_RATIO = 0.1  # least depth of a shifted point, relative to its depth before


@dataclass(frozen=True)
class PointSelection:
    """Which of the visible points to look up."""

    silhouettes: bool = True  # include points at depth discontinuities
    border_px: int = 0  # width along the photo's edge that is left out
    stride: int = 1  # only every n-th point


@dataclass(frozen=True)
class VisiblePoints:
    """M points that a photo sees, the photo around them, and how they move in it."""

    points: Tensor  # [M] index
    uv: Tensor  # [M, 2] pixels of the reduced photo
    depth: Tensor  # [M] scene units
    expected: Tensor  # [M, 3] the points' own colours as the photo would show them, in [0, 1]
    photo: Tensor  # [1, 3, h, w] reduced and blurred
    uv_by_pose: Tensor  # [M, 2, 6] pixels per unit of the pose's twist (left update, translation first)
    uv_by_point: Tensor  # [M, 2, 3] pixels per scene unit of the point
    forward: Tensor  # [3] the camera's viewing direction, world

    def shifted_uv(self, shift: Tensor) -> Tensor:
        """Return where the points fall [M, 2] after shifts [M, 3], or one shift [1, 3] of all, in scene units.

        Linear in what the lens does, exact in the perspective division by the changed depth.
        """
        step = (self.uv_by_point @ shift[..., None])[..., 0]
        depth_ratio = (self.depth + shift @ self.forward) / self.depth
        return self.uv + step / depth_ratio.clamp_min(MIN_DEPTH_RATIO)[:, None]

    def residuals(self, uv: Tensor) -> Tensor:
        """Return expected colours minus the photo at `uv` [M, 2], [M, 3] in units of RESIDUAL_SCALE."""
        return (self.expected - sample_image(self.photo, uv).T) / RESIDUAL_SCALE


@dataclass(frozen=True)
class PointResiduals:
    """The residuals of M points in one photo, linearised."""

    points: Tensor  # [M] index
    residual: Tensor  # [M, 3] expected minus photographed colour, in units of RESIDUAL_SCALE
    weight: Tensor  # [M, 3] of each residual under Cauchy's cost
    by_point: Tensor  # [M, 3, 3] change of the residual per scene unit of the point
    depth: Tensor  # [M] scene units
    gradient: Tensor  # [2, 3, M] of the photo along u and v, per pixel
    uv_by_pose: Tensor  # [M, 2, 6] pixels per unit of the pose's twist (left update, translation first)

    def by_pose(self) -> Tensor:
        """Return the change [M, 3, 6] of the residuals per unit of the pose's twist."""
        return _residual_jacobian(self.gradient, self.uv_by_pose)


def _residual_jacobian(gradient: Tensor, uv_jacobian: Tensor) -> Tensor:
    return -torch.einsum("dcm,mdk->mck", gradient, uv_jacobian) / RESIDUAL_SCALE


def depth_discontinuities(depth: Tensor) -> Tensor:
    """Return [1, 1, H, W] bool, where `depth` [1, 1, H, W] varies by DEPTH_STEP or more within STEP_RADIUS_PX."""
    log_depth = torch.where(torch.isfinite(depth), depth, FAR).log()
    window = 2 * STEP_RADIUS_PX + 1
    high = F.max_pool2d(log_depth, window, stride=1, padding=STEP_RADIUS_PX)
    low = -F.max_pool2d(-log_depth, window, stride=1, padding=STEP_RADIUS_PX)
    return high - low > math.log1p(DEPTH_STEP)


@torch.no_grad()
def visible_points(
    photos: PhotoSet, photo: int, scale: int, radiance: Tensor, selection: PointSelection = PointSelection()
) -> VisiblePoints:
    """Look up the points that a photo sees, and the colours that it should show there.

    Expected colours come from each point's own radiance, not from the rendering, whose pixel may show neighbours
    that are misplaced alike. The rendering only tells which points are hidden, and the gain of the photo.

    A blurred photo mixes the two surfaces at a silhouette, which draws the points of the nearer one inwards on all
    sides, as if the camera were farther away. Equations for poses therefore leave silhouettes out.

    Args:
        scale: the factor by which the photo is reduced.
        radiance: [N, 3] linear light of each point.
    """
    pipeline, index = photos.pipeline, torch.tensor([photo])
    camera = pipeline.camera(index).reduced(scale)
    rendering = render_points(pipeline, camera, index)
    target, mask = photos.reduced(photo, scale)
    valid = torch.isfinite(rendering.depth).float() * mask
    image = masked_blur(rendering.image, valid, BLUR_SIGMA_PX)
    # Blurred over the photo's mask alone: where points are misplaced, the rendering has holes and the photo has none.
    target = masked_blur(target, mask, BLUR_SIGMA_PX)
    gain = fit_gain(image, target, valid).expand_as(target)
    projection = pipeline.project(camera)
    selected = torch.nonzero(projection.visible[0])[:: selection.stride, 0]
    column, row = projection.uv[0, selected].long().unbind(1)
    surface = (1 + OCCLUSION_TOLERANCE) * rendering.depth[0, 0, row, column]
    usable = _usable_pixels(valid, rendering.depth, selection)[0, 0, row, column]
    usable = usable & (projection.z[0, selected] <= surface)
    selected, column, row = selected[usable], column[usable], row[usable]
    position = pipeline.cameras.photo_position(camera, index)[0, :, row, column].T
    expected = pipeline.photo_of_points(radiance[selected], photo, position).clamp(0, 1)
    expected = expected * gain[0, :, row, column].T
    uv_by_pose, uv_by_point = projection_jacobian(camera, pipeline.points.xyz[selected], CameraColumns([]))
    return VisiblePoints(
        points=selected,
        uv=projection.uv[0, selected],
        depth=projection.z[0, selected],
        expected=expected,
        photo=target,
        uv_by_pose=uv_by_pose,
        uv_by_point=uv_by_point,
        forward=camera.world_to_camera[0, 2, :3].to(expected),
    )


def _usable_pixels(valid: Tensor, depth: Tensor, selection: PointSelection) -> Tensor:
    """Return [1, 1, h, w] bool, the valid pixels whose points are selected."""
    border, (height, width) = selection.border_px, valid.shape[2:]
    usable = F.pad(valid[..., border : height - border, border : width - border], [border] * 4) > 0
    return usable if selection.silhouettes else usable & ~depth_discontinuities(depth)


@torch.no_grad()
def point_residuals(
    photos: PhotoSet, photo: int, scale: int, radiance: Tensor, silhouettes: bool = True
) -> PointResiduals:
    """Return the residuals of the points that a photo sees, and their derivatives; see `visible_points`.

    Source: direct alignment with a residual for each point, as in direct sparse odometry (Engel et al. 2018); that
        points bring their own colours is ours.
    """
    visible = visible_points(photos, photo, scale, radiance, PointSelection(silhouettes, BORDER_PX))
    gradients = image_gradient(visible.photo).flatten(0, 1)[None]
    gradient = sample_image(gradients, visible.uv).reshape(2, 3, -1)
    residual = visible.residuals(visible.uv)
    return PointResiduals(
        points=visible.points,
        residual=residual,
        weight=1 / (1 + residual.square()),
        by_point=_residual_jacobian(gradient, visible.uv_by_point),
        depth=visible.depth,
        gradient=gradient,
        uv_by_pose=visible.uv_by_pose,
    )
