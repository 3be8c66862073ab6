"""draw on the CPU as one registered operator: project and rasterize, fused, whole blocks culled."""

from typing import Any

import torch
from torch import Tensor

from adop.backend.launch import PARAMETERS, launch
from adop.backend.operator import differentiable
from adop.geometry.camera import Camera
from adop.ops.project import CAMERA, camera_tensors, camera_values, count_visited, split_parameters
from adop.ops.rasterize import (
    RASTER_OUTPUTS,
    Outputs,
    background_gradient,
    config_settings,
    empty_hits,
    empty_levels,
    pyramid_values,
)
from adop.ops.types import Levels, Points, RasterConfig, check_background, check_like

_CAMERA = (
    "Tensor world_to_camera, Tensor intrinsics, Tensor distortion, Tensor crop, Tensor reach, Tensor? shutter"
)
_SETTINGS = (
    "str model, int width, int height, int levels, float depth_tolerance, float radius_threshold, bool bilinear,"
    " float near"
)


def _draw(
    xyz: Tensor, features: Tensor, background: list[Tensor], ghosts: Tensor | None, *rest: Any
) -> Outputs:
    radius, normals, visit, block_size, capacity = rest[:5]
    camera, (model, *settings, near) = rest[5 : 5 + CAMERA], rest[5 + CAMERA :]
    outputs = empty_levels(
        features, camera[0].shape[0], features.shape[1], (settings[1], settings[0]), settings[2]
    )
    blocks = -(-xyz.shape[0] // block_size)
    hits, offsets = empty_hits(xyz, camera[0].shape[0], blocks, settings[1], settings[2], capacity)
    values = camera_values(camera, settings[0], settings[1], near)
    values |= pyramid_values(tuple(settings), features, background)
    values |= {"xyz": xyz, "radius": radius, "normals": normals, "visit": visit, "ghosts": ghosts}
    values |= {"points": xyz.shape[0], "block_size": block_size, "blocks": blocks}
    values |= {"image": outputs[0], "weight": outputs[1], "depth": outputs[2]}
    values |= {"hits": hits, "offsets": offsets, "chunks": offsets.shape[2]}
    launch(f"draw_forward_{model}", 0, values, xyz)
    return *outputs, hits, offsets  # type: ignore[return-value]


draw_op = torch.library.custom_op(
    "adop::draw",
    _draw,
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor xyz, Tensor features, Tensor[] background, Tensor? ghosts, Tensor radius,"
    f" Tensor? normals, Tensor? visit, int block_size, int capacity, {_CAMERA}, {_SETTINGS})"
    f" -> {RASTER_OUTPUTS}",
)


@draw_op.register_fake
def _(xyz: Tensor, features: Tensor, background: list[Tensor], ghosts: Tensor | None, *rest: Any) -> Outputs:
    block_size, capacity, pose = rest[3:6]
    width, height, levels = rest[6 + CAMERA : 9 + CAMERA]
    outputs = empty_levels(features, pose.shape[0], features.shape[1], (height, width), levels)
    blocks = -(-xyz.shape[0] // block_size)
    return *outputs, *empty_hits(xyz, pose.shape[0], blocks, height, levels, capacity)  # type: ignore[return-value]


@torch.library.custom_op(
    "adop::draw_backward",
    mutates_args=(),
    device_types="cpu",
    schema="(Tensor[] grads, Tensor[] images, Tensor[] weights, Tensor[] depths, Tensor hits, Tensor offsets,"
    f" Tensor xyz, Tensor features, {_CAMERA}, {_SETTINGS}, bool appearance, bool spatial)"
    " -> (Tensor, Tensor, Tensor)",
)
def draw_backward_op(
    grads: list[Tensor],
    images: list[Tensor],
    weights: list[Tensor],
    depths: list[Tensor],
    hits: Tensor,
    offsets: Tensor,
    xyz: Tensor,
    features: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor, Tensor]:
    camera, (model, *settings, near, appearance, spatial) = rest[:CAMERA], rest[CAMERA:]
    bands = (offsets.shape[1] - 1) // (2 * settings[2])
    grad_features = torch.zeros_like(features) if appearance else features.new_empty(0)
    grad_xyz = torch.zeros_like(xyz) if spatial else xyz.new_empty(0)
    parameters = xyz.new_zeros(camera[0].shape[0], bands if spatial else 0, PARAMETERS)
    values = camera_values(camera, settings[0], settings[1], near)
    values |= pyramid_values(tuple(settings), features, [features] * settings[2])
    values |= {"xyz": xyz, "points": xyz.shape[0]}
    values |= {"image": images, "weight": weights, "depth": depths}
    values |= {"hits": hits, "offsets": offsets, "chunks": offsets.shape[2]}
    values |= {"grad_image": [grad.contiguous() for grad in grads]}
    values |= {"grad_features": grad_features if appearance else None}
    values |= {"grad_xyz": grad_xyz, "grad_parameters": parameters} if spatial else {}
    launch(f"draw_backward_{model}", 0, values, xyz)
    return grad_features, grad_xyz, parameters.sum(1, dtype=torch.float64).to(xyz.dtype)


@draw_backward_op.register_fake
def _(grads: list[Tensor], *rest: Any) -> tuple[Tensor, Tensor, Tensor]:
    xyz, features, pose = rest[5:8]
    appearance, spatial = rest[-2:]
    grad_features = torch.empty_like(features) if appearance else features.new_empty(0)
    grad_xyz = torch.empty_like(xyz) if spatial else xyz.new_empty(0)
    return grad_features, grad_xyz, xyz.new_empty(pose.shape[0], PARAMETERS)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    xyz, features, background, ghosts = inputs[:4]
    images, weights, depths, hits, offsets = output
    ctx.save_for_backward(*images, *weights, *depths, hits, offsets, xyz, features, *inputs[9 : 9 + CAMERA])
    ctx.settings, ctx.background = inputs[9 + CAMERA :], [tensor.shape for tensor in background]
    ctx.has_ghosts = ghosts is not None
    ctx.mark_non_differentiable(*weights, *depths, hits, offsets)


def _backward(ctx: Any, grads: list[Tensor], *_: Any) -> tuple[Any, ...]:
    levels = ctx.settings[3]
    saved, needs = ctx.saved_tensors, ctx.needs_input_grad
    images, weights, depths = (list(saved[i * levels : (i + 1) * levels]) for i in range(3))
    rest = saved[3 * levels :]
    # Where nothing looks at its neighbours, positions and cameras have a zero gradient.
    spatial = (ctx.has_ghosts or ctx.settings[6]) and any(needs[i] for i in (0, 9, 10, 11))
    flags = (needs[1], spatial)
    result = draw_backward_op(grads, images, weights, depths, *rest, *ctx.settings, *flags)
    behind: list[Any] = [None] * levels
    if any(needs[2]):
        behind = background_gradient(grads, weights, [grads[0].new_empty(shape) for shape in ctx.background])
    grad_features = result[0] if needs[1] else None
    if not spatial:
        return None, grad_features, behind, *([None] * 20)
    camera = split_parameters(result[2], rest[6].shape[1])
    return result[1], grad_features, behind, *([None] * 6), *camera, *([None] * 11)


_call = differentiable(draw_op, _draw, _setup, _backward)


def draw(
    camera: Camera,
    points: Points,
    features: Tensor,
    config: RasterConfig,
    background: Tensor | list[Tensor] | None,
    ghosts: Tensor | None,
) -> Levels:
    """Draw by the CPU kernels."""
    size = (camera.height, camera.width)
    behind = check_background(background, len(camera), features.shape[1], size, config.levels, features)
    tensors = camera_tensors(camera, points.xyz)
    named = {"radius": points.radius, "normals": points.normals, "features": features, "ghosts": ghosts}
    check_like(points.xyz, **named)
    visit, block_size, capacity = None, 256, len(camera) * points.xyz.shape[0]
    if points.blocks is not None:
        block_size = points.blocks.size
        visit = count_visited(camera, points, tensors, config.near, config.radius_threshold)
        capacity = capacity if torch.compiler.is_compiling() else int(visit.sum())
    normals = None if points.normals is None else points.normals.contiguous()
    settings = (camera.width, camera.height, *config_settings(config))
    images, weights, depths, _, _ = _call(
        points.xyz.contiguous(),
        features.contiguous(),
        [image.contiguous() for image in behind],
        None if ghosts is None else ghosts.contiguous(),
        points.radius.contiguous(),
        normals,
        visit,
        block_size,
        capacity,
        *tensors,
        camera.model,
        *settings,
        config.near,
    )
    return Levels(images, weights, depths)
