"""The environment as a registered operator: a latitude-longitude map of features, seen in the pixels without points."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.backend.arguments import EnvironmentArguments, Values
from adop.backend.choice import Backend, choose_backend
from adop.backend.launch import Launch, launch
from adop.backend.operator import Gradients, Operator


@dataclass(frozen=True)
class RayGrid:
    """The rays of a lens, at points spread evenly from corner to corner of its full photo."""

    local: Tensor  # [B, 3, R, S] unit directions in camera space
    size: Tensor  # [B, 2] width and height of the full photo
    crop: Tensor  # [B, 3] zoom and offset of the image on it
    world_to_camera: Tensor  # [B, 4, 4]


class RayTensors(NamedTuple):
    """The tensors of a RayGrid, contiguous and in the images' precision."""

    local: Tensor
    photo_size: Tensor
    crop: Tensor
    world_to_camera: Tensor


class EnvironmentInputs(NamedTuple):
    """A pyramid and the map, finest level first."""

    images: list[Tensor]  # [B, C, H_l, W_l]
    environment: Tensor  # [R, 2 R, C]
    weights: list[Tensor]  # [B, 1, H_l, W_l]
    grid: RayTensors
    mip_levels: list[int]


class CompositeLevels(NamedTuple):
    """The images with the environment in their empty pixels, and where on the map each pixel looks."""

    images: list[Tensor]  # [B, C, H_l, W_l]
    coordinates: list[Tensor]  # [B, 2, H_l, W_l] column and row, in texels of the level's map


def _values(images: list[Tensor], weights: list[Tensor], grid: RayTensors) -> Values:
    return {
        "rays": {**grid._asdict(), "rows": grid.local.shape[2], "columns": grid.local.shape[3]},
        "weight": weights,
        "channels": images[0].shape[1],
        "height": images[0].shape[2],
        "width": images[0].shape[3],
    }


def _series(kernel: str, images: list[Tensor], environment: Tensor, mip_levels: list[int]) -> list[Launch]:
    """Return the launches, view by view of each level, with the size of the map there."""
    series: list[Launch] = []
    for level, (image, mip_level) in enumerate(zip(images, mip_levels, strict=True)):
        rows, columns = (size >> mip_level for size in environment.shape[:2])
        integers = {"level": level, "mip_level": mip_level, "map_rows": rows, "map_columns": columns}
        pixels = image[0, 0].numel()
        series += [Launch(kernel, pixels, {**integers, "view": view}) for view in range(len(image))]
    return series


def _empty_levels(inputs: EnvironmentInputs) -> CompositeLevels:
    coordinates = [image.new_empty(image.shape[0], 2, *image.shape[2:]) for image in inputs.images]
    return CompositeLevels([torch.empty_like(image) for image in inputs.images], coordinates)


def _composite(inputs: EnvironmentInputs) -> CompositeLevels:
    images, environment = inputs.images, inputs.environment
    result = _empty_levels(inputs)
    values: Values = {
        **_values(images, inputs.weights, inputs.grid),
        "image": images,
        "composite": result.images,
        "coordinates": result.coordinates,
        "texels": environment,
    }
    series = _series("environment_forward", images, environment, inputs.mip_levels)
    launch(EnvironmentArguments, series, values, images[0])
    return result


composite_operator = Operator("adop::composite_environment", _composite, _empty_levels)


class EnvironmentGradientInputs(NamedTuple):
    """Gradients of the composite images, and what they were made of."""

    grads: list[Tensor]
    coordinates: list[Tensor]
    environment: Tensor
    weights: list[Tensor]
    grid: RayTensors
    mip_levels: list[int]


class EnvironmentGradients(NamedTuple):
    """Gradients of the images and of the map."""

    images: list[Tensor]
    environment: Tensor


def _zero_gradients(inputs: EnvironmentGradientInputs) -> EnvironmentGradients:
    images = [torch.empty_like(grad) for grad in inputs.grads]
    return EnvironmentGradients(images, torch.zeros_like(inputs.environment))


def _composite_backward(inputs: EnvironmentGradientInputs) -> EnvironmentGradients:
    grads, environment = inputs.grads, inputs.environment
    result = _zero_gradients(inputs)
    values: Values = {
        **_values(grads, inputs.weights, inputs.grid),
        "grad_composite": grads,
        "grad_image": result.images,
        "coordinates": inputs.coordinates,
        "grad_texels": result.environment,
    }
    series = _series("environment_backward", grads, environment, inputs.mip_levels)
    launch(EnvironmentArguments, series, values, grads[0], threads=1)  # so that a texel's sum has one order
    return result


composite_backward_operator = Operator(
    "adop::composite_environment_backward", _composite_backward, _zero_gradients
)


class _SavedComposite(NamedTuple):
    coordinates: list[Tensor]
    environment: Tensor
    weights: list[Tensor]
    grid: RayTensors
    mip_levels: list[int]


def _save(inputs: EnvironmentInputs, outputs: CompositeLevels) -> _SavedComposite:
    return _SavedComposite(
        outputs.coordinates, inputs.environment, inputs.weights, inputs.grid, inputs.mip_levels
    )


@composite_operator.gradient(_save, of=("images",))
def _gradient(saved: _SavedComposite, grads: CompositeLevels, needs: frozenset[str]) -> Gradients:
    dense = [grad.contiguous() for grad in grads.images]
    return composite_backward_operator(EnvironmentGradientInputs(dense, *saved))._asdict()


def composite_environment(
    images: list[Tensor],
    weights: list[Tensor],
    environment: Tensor,
    mip_levels: list[int],
    grid: RayGrid,
    backend: Backend,
) -> list[Tensor]:
    """Return the images [B, C, H_l, W_l] with the environment along the pixels' rays where `weights` are 0.

    Args:
        environment: [R, 2 R, C], latitude-longitude.
        mip_levels: level l reads the map averaged over squares of 2^mip_levels[l] texels.
        grid: the rays; those of pixels are interpolated between its points.

    **Gradients** exact to images and map, none to the rays.
    """
    parts = (grid.local, grid.size, grid.crop, grid.world_to_camera)
    tensors = RayTensors(*(part.to(images[0].dtype).contiguous() for part in parts))
    if choose_backend(backend, images[0].device) == "reference":
        return _composite_reference(EnvironmentInputs(images, environment, weights, tensors, mip_levels))
    dense, covered = ([tensor.contiguous() for tensor in part] for part in (images, weights))
    inputs = EnvironmentInputs(dense, environment.contiguous(), covered, tensors, mip_levels)
    return composite_operator(inputs).images


def _composite_reference(inputs: EnvironmentInputs) -> list[Tensor]:
    """Composite in plain torch."""
    result = []
    texels = inputs.environment.permute(2, 0, 1)[None]
    for level, (image, weight) in enumerate(zip(inputs.images, inputs.weights, strict=True)):
        averaged = F.avg_pool2d(texels, 2 ** inputs.mip_levels[level])
        directions = _level_directions(inputs.grid, level, (image.shape[2], image.shape[3]))
        result.append(torch.where(weight > 0, image, _look_up(averaged, directions)))
    return result


@torch.no_grad()
def _level_directions(grid: RayTensors, level: int, size: tuple[int, int]) -> Tensor:
    """Return the world directions [B, 3, H_l, W_l] of a level's pixels, of any length."""
    centres = [(torch.arange(count).to(grid.local) + 0.5) * 2**level for count in size]
    v, u = torch.meshgrid(*centres, indexing="ij")
    full = (torch.stack((u, v), -1) + grid.crop[:, None, None, 1:]) / grid.crop[:, None, None, :1]
    position = 2 * full / grid.photo_size[:, None, None] - 1
    local = F.grid_sample(grid.local, position, mode="bilinear", padding_mode="border", align_corners=True)
    return torch.einsum("bji,bjhw->bihw", grid.world_to_camera[:, :3, :3], local)


def _look_up(texels: Tensor, directions: Tensor) -> Tensor:
    """Return the features [B, C, H, W] of a map [1, C, R, 2 R] along directions [B, 3, H, W], between texels."""
    rows, columns = texels.shape[2:]
    x, y, z = directions.unbind(1)
    column = (torch.atan2(x, z) / (2 * math.pi) + 0.5) * columns
    row = (torch.atan2(y, torch.hypot(x, z)) / math.pi + 0.5) * rows
    wrapped = torch.cat((texels[..., -1:], texels, texels[..., :1]), dim=3)
    position = torch.stack((2 * (column + 1) / (columns + 2) - 1, 2 * row / rows - 1), dim=-1)
    wrapped = wrapped.expand(len(directions), -1, -1, -1)
    return F.grid_sample(wrapped, position, mode="bilinear", padding_mode="border", align_corners=False)
