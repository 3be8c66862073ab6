"""draw by the kernels of a CPU: project and rasterize in one pass, with whole blocks culled."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from adop.backend.arguments import PARAMETERS, DrawArguments, Values
from adop.backend.launch import Launch, launch
from adop.backend.operator import Gradients, Operator
from adop.geometry.camera import Camera
from adop.ops.projection import (
    CameraTensors,
    ViewSettings,
    block_values,
    camera_gradients,
    camera_tensors,
    camera_values,
    count_visited,
)
from adop.ops.rasterization import (
    Features,
    HitRoom,
    PyramidSettings,
    PyramidTensors,
    background_gradients,
    empty_pyramid,
    hit_values,
    pyramid_settings,
    pyramid_values,
    untouched_zeros,
)
from adop.ops.types import BLOCK_SIZE, Levels, Points, RasterConfig, check_background, check_like


class DrawInputs(NamedTuple):
    """Points, and the views and levels that they are drawn to."""

    xyz: Tensor  # [N, 3]
    features: Tensor  # [N, C]
    background: list[Tensor]  # per level [1 or B, C, 1 or H_l, 1 or W_l]
    ghosts: Tensor | None  # [B, N] bool
    radius: Tensor  # [N]
    normals: Tensor | None  # [N, 3]
    visit: Tensor | None  # [B, K], see count_visited
    block_size: int
    capacity: int  # how many points are visited at most, in all views
    camera: CameraTensors
    view: ViewSettings
    settings: PyramidSettings
    centres: Tensor | None = None  # [B, 3] of the cameras, where features have harmonics


def _empty_pyramid(inputs: DrawInputs) -> PyramidTensors:
    blocks = -(-inputs.xyz.shape[0] // inputs.block_size)
    room = HitRoom(inputs.camera.world_to_camera.shape[0], blocks, inputs.capacity)
    return empty_pyramid(inputs.features, inputs.settings, (inputs.view.height, inputs.view.width), room)


def _draw(inputs: DrawInputs) -> PyramidTensors:
    drawn = _empty_pyramid(inputs)
    features = Features(inputs.features, inputs.xyz, inputs.centres)
    pyramid = pyramid_values(features, drawn, inputs.settings, inputs.background)
    values: Values = {
        "bands": {
            "blocks": block_values(inputs.xyz.shape[0], inputs.block_size, inputs.visit),
            "pyramid": {**pyramid, "ghosts": inputs.ghosts},
            "hits": hit_values(drawn),
        },
        "camera": camera_values(inputs.camera, inputs.view),
        "points": {"xyz": inputs.xyz, "radius": inputs.radius, "normals": inputs.normals},
    }
    launch(DrawArguments, [Launch(f"draw_forward_{inputs.view.model}", 0)], values, inputs.xyz)
    return drawn


draw_operator = Operator("adop::draw", _draw, _empty_pyramid, "cpu")


class DrawGradientInputs(NamedTuple):
    """Gradients of the images, and what they were drawn from."""

    grads: list[Tensor]
    drawn: PyramidTensors
    xyz: Tensor
    features: Tensor
    camera: CameraTensors
    view: ViewSettings
    settings: PyramidSettings
    centres: Tensor | None
    appearance: bool  # whether the features have a gradient
    spatial: bool  # whether points and cameras have one


class DrawGradients(NamedTuple):
    """Gradients of features, points and cameras; empty where not asked for."""

    features: Tensor  # [N, C]
    xyz: Tensor  # [N, 3]
    parameters: Tensor  # [B, 36], see camera_gradients


def _draw_backward(inputs: DrawGradientInputs) -> DrawGradients:
    xyz, features, spatial = inputs.xyz, inputs.features, inputs.spatial
    bands = (inputs.drawn.offsets.shape[1] - 1) // (2 * inputs.settings.levels)
    grads = [grad.contiguous() for grad in inputs.grads]
    grad_features = untouched_zeros(features) if inputs.appearance else features.new_empty(0)
    grad_xyz = torch.zeros_like(xyz) if spatial else xyz.new_empty(0)
    parameters = xyz.new_zeros(inputs.camera.world_to_camera.shape[0], bands if spatial else 0, PARAMETERS)
    gradients: Values = {
        "image": grads,
        "features": grad_features if inputs.appearance else None,
        "bilinear": int(inputs.settings.bilinear),
    }
    values: Values = {
        "bands": {
            "blocks": block_values(xyz.shape[0]),
            "pyramid": pyramid_values(Features(features, xyz, inputs.centres), inputs.drawn, inputs.settings),
            "gradients": gradients,
            "hits": hit_values(inputs.drawn),
        },
        "camera": camera_values(inputs.camera, inputs.view),
        "points": {"xyz": xyz},
        "grad_xyz": grad_xyz if spatial else None,
        "grad_parameters": parameters if spatial else None,
    }
    launch(DrawArguments, [Launch(f"draw_backward_{inputs.view.model}", 0)], values, xyz)
    return DrawGradients(grad_features, grad_xyz, parameters.sum(1, dtype=torch.float64).to(xyz.dtype))


def _empty_gradients(inputs: DrawGradientInputs) -> DrawGradients:
    xyz, features = inputs.xyz, inputs.features
    return DrawGradients(
        torch.empty_like(features) if inputs.appearance else features.new_empty(0),
        torch.empty_like(xyz) if inputs.spatial else xyz.new_empty(0),
        xyz.new_empty(inputs.camera.world_to_camera.shape[0], PARAMETERS),
    )


draw_backward_operator = Operator("adop::draw_backward", _draw_backward, _empty_gradients, "cpu")


class _SavedDrawing(NamedTuple):
    drawn: PyramidTensors
    xyz: Tensor
    features: Tensor
    camera: CameraTensors
    view: ViewSettings
    settings: PyramidSettings
    centres: Tensor | None
    has_ghosts: bool
    background_shapes: list[torch.Size]


def _save(inputs: DrawInputs, outputs: PyramidTensors) -> _SavedDrawing:
    return _SavedDrawing(
        outputs,
        inputs.xyz,
        inputs.features,
        inputs.camera,
        inputs.view,
        inputs.settings,
        inputs.centres,
        has_ghosts=inputs.ghosts is not None,
        background_shapes=[background.shape for background in inputs.background],
    )


SPATIAL = frozenset(("xyz", "world_to_camera", "intrinsics", "distortion"))


@draw_operator.gradient(_save, of=("images",))
def _gradient(saved: _SavedDrawing, grads: PyramidTensors, needs: frozenset[str]) -> Gradients:
    # Without ghosts and footprints, positions and cameras have a gradient of 0.
    spatial = (saved.has_ghosts or saved.settings.bilinear) and not needs.isdisjoint(SPATIAL)
    inputs = DrawGradientInputs(
        grads.images,
        saved.drawn,
        saved.xyz,
        saved.features,
        saved.camera,
        saved.view,
        saved.settings,
        saved.centres,
        appearance="features" in needs,
        spatial=spatial,
    )
    result = draw_backward_operator(inputs)
    found: dict[str, Tensor | list[Tensor]] = {}
    if "features" in needs:
        found["features"] = result.features
    if "background" in needs:
        found["background"] = background_gradients(grads.images, saved.drawn.weights, saved.background_shapes)
    if spatial:
        found["xyz"] = result.xyz
        found |= camera_gradients(result.parameters, saved.camera.distortion.shape[1])
    return found


def draw_points(
    camera: Camera,
    points: Points,
    features: Tensor,
    config: RasterConfig,
    background: Tensor | list[Tensor] | None,
    ghosts: Tensor | None,
) -> Levels:
    """Draw by the kernels of a CPU."""
    size = (camera.height, camera.width)
    images = check_background(background, len(camera), size, config, features)
    tensors = camera_tensors(camera, points.xyz)
    view = ViewSettings(camera.model, camera.width, camera.height, config.near)
    check_like(points.xyz, radius=points.radius, normals=points.normals, features=features, ghosts=ghosts)
    visit, block_size, capacity = None, BLOCK_SIZE, len(camera) * points.xyz.shape[0]
    if points.blocks is not None:
        block_size = points.blocks.size
        visit = count_visited(points.blocks, points.radius, tensors, view, config.radius_threshold)
        capacity = capacity if torch.compiler.is_compiling() else int(visit.sum())
    inputs = DrawInputs(
        points.xyz.contiguous(),
        features.contiguous(),
        [image.contiguous() for image in images],
        None if ghosts is None else ghosts.contiguous(),
        points.radius.contiguous(),
        None if points.normals is None else points.normals.contiguous(),
        visit,
        block_size,
        capacity,
        tensors,
        view,
        pyramid_settings(config),
        camera.centre().detach().to(points.xyz.dtype).contiguous() if config.harmonics else None,
    )
    drawn = draw_operator(inputs)
    return Levels(drawn.images, drawn.weights, drawn.depths)
