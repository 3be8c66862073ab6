"""project as a registered operator: world points to pixels, with its exact adjoint."""

from typing import Any

import torch
from torch import Tensor

from adop.backend.launch import PARAMETERS, Value, each_view, launch_series, slots_for
from adop.backend.operator import differentiable
from adop.geometry.camera import Camera
from adop.ops.culling import block_values, look_through_lens
from adop.ops.types import Points, Projection, check_like

_CAMERA = (
    "Tensor world_to_camera, Tensor intrinsics, Tensor distortion, Tensor crop, Tensor reach, Tensor? shutter"
)
_VIEW = "str model, int width, int height, float near"


CameraTensors = tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor | None]
CAMERA = 6  # tensors of a camera


def camera_tensors(camera: Camera, like: Tensor) -> CameraTensors:
    """Return pose, intrinsics, distortion, crop, lens reach and the shutter, contiguous, in the precision of `like`.

    The shutter [B, 7] is the motion and the height of the whole photo; None where no camera moves.
    """
    parts = (camera.world_to_camera, camera.intrinsics, camera.distortion, camera.crop)
    check_like(like, camera=camera.world_to_camera.to(like.dtype))
    pose, *lens = (part.to(like.dtype).contiguous() for part in parts)
    reach = look_through_lens(*(part.detach() for part in lens), camera.model, camera.width, camera.height)
    shutter = None
    if camera.motion is not None:
        shutter = torch.cat((camera.motion.to(like), camera.photo_height.to(like)[:, None]), 1).detach()
    return pose, lens[0], lens[1], lens[2], reach, shutter


def camera_values(tensors: CameraTensors, width: int, height: int, near: float) -> dict[str, Value]:
    """Return the camera's part of the kernel arguments."""
    pose, intrinsics, distortion, crop, reach, shutter = tensors
    return {
        "world_to_camera": pose,
        "intrinsics": intrinsics,
        "distortion": distortion,
        "crop": crop,
        "shutter": shutter,
        "limit": reach,
        "bounds": reach[pose.shape[0] :],
        "views": pose.shape[0],
        "distortion_size": distortion.shape[1],
        "width": width,
        "height": height,
        "near_depth": near,
    }


def split_parameters(gradient: Tensor, distortion_size: int) -> tuple[Tensor, Tensor, Tensor]:
    """Split summed parameter gradients [B, 36] into those of pose [B, 4, 4], intrinsics and distortion."""
    pose = torch.nn.functional.pad(gradient[:, :12], (0, 4)).reshape(-1, 4, 4)
    return pose, gradient[:, 12:16].contiguous(), gradient[:, 16 : 16 + distortion_size].contiguous()


@torch.no_grad()
def count_visited(
    camera: Camera, points: Points, tensors: CameraTensors, near: float, threshold: float
) -> Tensor:
    """Return how many leading points of each block [B, K] int32 may be drawn; the rest is never touched."""
    blocks = points.blocks
    if blocks is None:
        raise ValueError("blocks: expected a block table from make_blocks, got None")
    visit = torch.empty(len(camera), blocks.radius.shape[0], dtype=torch.int32, device=points.xyz.device)
    values = camera_values(tensors, camera.width, camera.height, near) | block_values(points)
    values |= {"visit": visit, "radius": points.radius, "radius_threshold": threshold}
    launch_series(each_view(f"cull_{camera.model}", len(camera), blocks.radius.shape[0]), values, points.xyz)
    return visit


def _project(
    xyz: Tensor, radius: Tensor, normals: Tensor | None, visit: Tensor | None, block_size: int, *camera: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    tensors, (model, width, height, near) = camera[:CAMERA], camera[CAMERA:]
    views, count = tensors[0].shape[0], xyz.shape[0]
    uv, z = xyz.new_empty(views, count, 2), xyz.new_empty(views, count)
    radius_px, visible = torch.empty_like(z), torch.empty_like(z, dtype=torch.bool)
    values = camera_values(tensors, width, height, near)
    values |= {"xyz": xyz, "radius": radius, "normals": normals, "points": count, "visit": visit}
    values |= {"block_size": block_size, "blocks": -(-count // block_size)}
    values |= {"uv": uv, "z": z, "radius_px": radius_px, "visible": visible}
    launch_series(each_view(f"project_forward_{model}", views, count), values, xyz)
    return uv, z, radius_px, visible


project_op = torch.library.custom_op(
    "adop::project",
    _project,
    mutates_args=(),
    schema=f"(Tensor xyz, Tensor radius, Tensor? normals, Tensor? visit, int block_size, {_CAMERA}, {_VIEW})"
    " -> (Tensor, Tensor, Tensor, Tensor)",
)


@project_op.register_fake
def _(
    xyz: Tensor, radius: Tensor, normals: Tensor | None, visit: Tensor | None, block_size: int, *camera: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    views, count = camera[0].shape[0], xyz.shape[0]
    z = xyz.new_empty(views, count)
    return xyz.new_empty(views, count, 2), z, torch.empty_like(z), torch.empty_like(z, dtype=torch.bool)


@torch.library.custom_op(
    "adop::project_backward",
    mutates_args=(),
    schema=f"(Tensor grad_uv, Tensor grad_z, Tensor visible, Tensor xyz, {_CAMERA}, {_VIEW})"
    " -> (Tensor, Tensor)",
)
def project_backward_op(
    grad_uv: Tensor, grad_z: Tensor, visible: Tensor, xyz: Tensor, *camera: Any
) -> tuple[Tensor, Tensor]:
    tensors, (model, width, height, near) = camera[:CAMERA], camera[CAMERA:]
    views, count = visible.shape
    slots = slots_for(count, xyz.device)
    grad_xyz, parameters = torch.zeros_like(xyz), xyz.new_zeros(views, slots, PARAMETERS)
    values = camera_values(tensors, width, height, near)
    values |= {"xyz": xyz, "points": count, "visible": visible, "slots": slots}
    values |= {"grad_uv": grad_uv.contiguous(), "grad_z": grad_z.contiguous()}
    values |= {"grad_xyz": grad_xyz, "grad_parameters": parameters}
    launch_series(each_view(f"project_backward_{model}", views, count), values, xyz)
    return grad_xyz, parameters.sum(1, dtype=torch.float64).to(xyz.dtype)


@project_backward_op.register_fake
def _(grad_uv: Tensor, grad_z: Tensor, visible: Tensor, xyz: Tensor, *camera: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(xyz), xyz.new_empty(visible.shape[0], PARAMETERS)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    ctx.save_for_backward(output[3], inputs[0], *inputs[5 : 5 + CAMERA])
    ctx.view = inputs[5 + CAMERA :]
    ctx.mark_non_differentiable(output[2], output[3])


def _backward(ctx: Any, grad_uv: Tensor, grad_z: Tensor, *_: Any) -> tuple[Tensor | None, ...]:
    visible, xyz, *camera = ctx.saved_tensors
    grad_xyz, parameters = project_backward_op(grad_uv, grad_z, visible, xyz, *camera, *ctx.view)
    return grad_xyz, None, None, None, None, *split_parameters(parameters, camera[2].shape[1]), *([None] * 7)


_call = differentiable(project_op, _project, _setup, _backward)


def project(camera: Camera, points: Points, near: float, threshold: float = 0.0) -> Projection:
    """Project by the kernels. With a block table, points that are surely below `threshold` count as not
    visible."""
    tensors = camera_tensors(camera, points.xyz)
    check_like(points.xyz, radius=points.radius, normals=points.normals)
    visit, size = None, 256
    if points.blocks is not None:
        visit, size = count_visited(camera, points, tensors, near, threshold), points.blocks.size
    normals = None if points.normals is None else points.normals.contiguous()
    view = (camera.model, camera.width, camera.height, near)
    return Projection(*_call(points.xyz, points.radius, normals, visit, size, *tensors, *view))
