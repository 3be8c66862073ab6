"""project by the kernels: world points to pixels, the exact adjoint, what a lens shows, and which blocks to visit."""

from __future__ import annotations

import functools
import math
from typing import NamedTuple

import torch
from torch import Tensor

from adop.backend.arguments import PARAMETERS, CullArguments, LensArguments, ProjectArguments, Values
from adop.backend.launch import Launch, each_view, launch, slots_for
from adop.backend.operator import Gradients, Operator
from adop.geometry.camera import Camera
from adop.geometry.lens_model import field_grid
from adop.ops.types import BLOCK_SIZE, Blocks, Points, Projection, RasterConfig, check_like


class LensInputs(NamedTuple):
    """Views whose lenses are searched."""

    intrinsics: Tensor
    distortion: Tensor
    crop: Tensor
    model: str
    width: int
    height: int


class LensBounds(NamedTuple):
    """What each view's lens shows."""

    limit: Tensor  # [B] the largest field radius
    bounds: Tensor  # [B, 4] opencv: least and largest x/z, least and largest y/z; else the angle from the axis, zeros


@functools.lru_cache(maxsize=8)
def _field(model: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the field radii at which a lens is searched."""
    return field_grid(model, torch.empty(0, dtype=dtype, device=device))


def _bound_lens(inputs: LensInputs) -> LensBounds:
    lens, model, views = inputs.intrinsics, inputs.model, inputs.intrinsics.shape[0]
    result = LensBounds(
        lens.new_full((views,), 1e30 if model == "opencv" else math.pi), lens.new_ones(views, 4)
    )
    field = _field(model, lens.dtype, lens.device)
    values: Values = {
        "camera": {
            "intrinsics": lens,
            "distortion": inputs.distortion,
            "crop": inputs.crop,
            "limit": result.limit,
            "bounds": result.bounds,
            "views": views,
            "width": inputs.width,
            "height": inputs.height,
            "distortion_size": inputs.distortion.shape[1],
        },
        "field": field,
    }
    series = [Launch(f"lens_bounds_{model}", views)]
    if model != "ocam":
        cells = views * (len(field) - 1)
        series = [Launch(f"lens_{search}_{model}", cells) for search in ("limit", "reach")] + series
    launch(LensArguments, series, values, lens)
    return result


def _empty_bounds(inputs: LensInputs) -> LensBounds:
    views = inputs.intrinsics.shape[0]
    return LensBounds(inputs.intrinsics.new_empty(views), inputs.intrinsics.new_empty(views, 4))


# Decides what is visible; has no gradient.
bound_lens = Operator("adop::bound_lens", _bound_lens, _empty_bounds)


class CameraTensors(NamedTuple):
    """The tensors of a camera, contiguous and in the points' precision."""

    world_to_camera: Tensor  # [B, 4, 4]
    intrinsics: Tensor  # [B, 4]
    distortion: Tensor  # [B, D]
    crop: Tensor  # [B, 3]
    limit: Tensor  # [B], see LensBounds
    bounds: Tensor  # [B, 4]
    shutter: Tensor | None  # [B, 7] motion and height of the full photo; None where no camera moves


class ViewSettings(NamedTuple):
    """What all views have in common."""

    model: str
    width: int
    height: int
    near: float


def camera_tensors(camera: Camera, like: Tensor) -> CameraTensors:
    """Return the camera's tensors in the precision of `like`."""
    parts = (camera.world_to_camera, camera.intrinsics, camera.distortion, camera.crop)
    check_like(like, camera=camera.world_to_camera.to(like.dtype))
    pose, intrinsics, distortion, crop = (part.to(like.dtype).contiguous() for part in parts)
    lens = (intrinsics.detach(), distortion.detach(), crop.detach())
    limit, bounds = bound_lens(LensInputs(*lens, camera.model, camera.width, camera.height))
    shutter = None
    if camera.motion is not None:
        shutter = torch.cat((camera.motion.to(like), camera.photo_height.to(like)[:, None]), 1).detach()
    return CameraTensors(pose, intrinsics, distortion, crop, limit, bounds, shutter)


def camera_values(camera: CameraTensors, view: ViewSettings) -> Values:
    """Return the camera's part of the kernel arguments."""
    return {
        **camera._asdict(),
        "views": camera.world_to_camera.shape[0],
        "width": view.width,
        "height": view.height,
        "distortion_size": camera.distortion.shape[1],
        "near_depth": view.near,
    }


def block_values(points: int, block_size: int = BLOCK_SIZE, visit: Tensor | None = None) -> Values:
    """Return the blocks' part of the kernel arguments; without `visit` every point is visited."""
    blocks = -(-points // block_size)
    return {"visit": visit, "points": points, "block_size": block_size, "blocks": blocks}


def camera_gradients(parameters: Tensor, distortion_size: int) -> dict[str, Tensor]:
    """Return the gradients of pose, intrinsics and distortion by name, of their sums [B, 36]."""
    return {
        "world_to_camera": torch.nn.functional.pad(parameters[:, :12], (0, 4)).reshape(-1, 4, 4),
        "intrinsics": parameters[:, 12:16].contiguous(),
        "distortion": parameters[:, 16 : 16 + distortion_size].contiguous(),
    }


@torch.no_grad()
def count_visited(
    blocks: Blocks, radius: Tensor | None, camera: CameraTensors, view: ViewSettings, threshold: float
) -> Tensor:
    """Return how many leading points of each block [B, K] int32 may be drawn; the others are never read.

    Args: radius: [N] of the points; None: it is counted in whole parts of blocks, by their table alone.
    """
    views, count = camera.world_to_camera.shape[0], blocks.radius.shape[0]
    points = count * blocks.size if radius is None else radius.shape[0]
    visit = torch.empty(views, count, dtype=torch.int32, device=blocks.radius.device)
    values: Values = {
        "camera": camera_values(camera, view),
        "blocks": block_values(points, blocks.size, visit),
        "radius": radius,
        "block_lower": blocks.lower,
        "block_upper": blocks.upper,
        "block_radius": blocks.radius,
        "block_falling": blocks.falling.view(torch.uint8),
        "radius_threshold": threshold,
    }
    launch(CullArguments, each_view(f"cull_{view.model}", views, count), values, blocks.radius)
    return visit


def visible_blocks(camera: Camera, blocks: Blocks, config: RasterConfig) -> Tensor:
    """Return [K] bool, which blocks have points that `draw` may draw in any of the camera's views."""
    view = ViewSettings(camera.model, camera.width, camera.height, config.near)
    tensors = camera_tensors(camera, blocks.radius)
    return (count_visited(blocks, None, tensors, view, config.radius_threshold) > 0).any(0)


class ProjectInputs(NamedTuple):
    """Points, and the views to project them into."""

    xyz: Tensor  # [N, 3]
    radius: Tensor  # [N]
    normals: Tensor | None  # [N, 3]
    visit: Tensor | None  # [B, K], see count_visited
    block_size: int
    camera: CameraTensors
    view: ViewSettings


class ProjectedTensors(NamedTuple):
    """The fields of a Projection."""

    uv: Tensor  # [B, N, 2]
    z: Tensor  # [B, N]
    radius_px: Tensor  # [B, N]
    visible: Tensor  # [B, N] bool


def _empty_projection(inputs: ProjectInputs) -> ProjectedTensors:
    views, count = inputs.camera.world_to_camera.shape[0], inputs.xyz.shape[0]
    z = inputs.xyz.new_empty(views, count)
    uv, visible = inputs.xyz.new_empty(views, count, 2), torch.empty_like(z, dtype=torch.bool)
    return ProjectedTensors(uv, z, torch.empty_like(z), visible)


def _project(inputs: ProjectInputs) -> ProjectedTensors:
    result = _empty_projection(inputs)
    views, count = result.z.shape
    values: Values = {
        "camera": camera_values(inputs.camera, inputs.view),
        "points": {"xyz": inputs.xyz, "radius": inputs.radius, "normals": inputs.normals},
        "blocks": block_values(count, inputs.block_size, inputs.visit),
        "projected": result._asdict(),
    }
    series = each_view(f"project_forward_{inputs.view.model}", views, count)
    launch(ProjectArguments, series, values, inputs.xyz)
    return result


project_operator = Operator("adop::project", _project, _empty_projection)


class ProjectGradientInputs(NamedTuple):
    """Gradients of a projection, and what it was made of."""

    grad_uv: Tensor
    grad_z: Tensor
    visible: Tensor
    xyz: Tensor
    camera: CameraTensors
    view: ViewSettings


class PointGradients(NamedTuple):
    """Gradients of the points and of the cameras' parameters."""

    xyz: Tensor  # [N, 3]
    parameters: Tensor  # [B, 36], see camera_gradients


def _project_backward(inputs: ProjectGradientInputs) -> PointGradients:
    xyz = inputs.xyz
    views, count = inputs.visible.shape
    slots = slots_for(count, xyz.device)
    grad_uv, grad_z = inputs.grad_uv.contiguous(), inputs.grad_z.contiguous()
    grad_xyz, parameters = torch.zeros_like(xyz), xyz.new_zeros(views, slots, PARAMETERS)
    values: Values = {
        "camera": camera_values(inputs.camera, inputs.view),
        "points": {"xyz": xyz},
        "blocks": block_values(count),
        "projected": {"visible": inputs.visible},
        "grad_uv": grad_uv,
        "grad_z": grad_z,
        "grad_xyz": grad_xyz,
        "grad_parameters": parameters,
        "slots": slots,
    }
    launch(ProjectArguments, each_view(f"project_backward_{inputs.view.model}", views, count), values, xyz)
    return PointGradients(grad_xyz, parameters.sum(1, dtype=torch.float64).to(xyz.dtype))


def _empty_point_gradients(inputs: ProjectGradientInputs) -> PointGradients:
    parameters = inputs.xyz.new_empty(inputs.visible.shape[0], PARAMETERS)
    return PointGradients(torch.empty_like(inputs.xyz), parameters)


project_backward_operator = Operator("adop::project_backward", _project_backward, _empty_point_gradients)


class _SavedProjection(NamedTuple):
    visible: Tensor
    xyz: Tensor
    camera: CameraTensors
    view: ViewSettings


def _save(inputs: ProjectInputs, outputs: ProjectedTensors) -> _SavedProjection:
    return _SavedProjection(outputs.visible, inputs.xyz, inputs.camera, inputs.view)


@project_operator.gradient(_save, of=("uv", "z"))
def _gradient(saved: _SavedProjection, grads: ProjectedTensors, needs: frozenset[str]) -> Gradients:
    result = project_backward_operator(ProjectGradientInputs(grads.uv, grads.z, *saved))
    return {"xyz": result.xyz, **camera_gradients(result.parameters, saved.camera.distortion.shape[1])}


def project_points(camera: Camera, points: Points, near: float, threshold: float = 0.0) -> Projection:
    """Project by the kernels.

    Args:
        threshold: points of a block table whose radius in pixels is surely smaller count as not visible.
    """
    tensors, view = (
        camera_tensors(camera, points.xyz),
        ViewSettings(camera.model, camera.width, camera.height, near),
    )
    check_like(points.xyz, radius=points.radius, normals=points.normals)
    visit, block_size = None, BLOCK_SIZE
    if points.blocks is not None:
        visit, block_size = (
            count_visited(points.blocks, points.radius, tensors, view, threshold),
            points.blocks.size,
        )
    normals = None if points.normals is None else points.normals.contiguous()
    inputs = ProjectInputs(points.xyz, points.radius, normals, visit, block_size, tensors, view)
    centres = camera.centre().detach().to(points.xyz.dtype)
    return Projection(*project_operator(inputs), points.xyz.detach(), centres)
