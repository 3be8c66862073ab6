"""What lies behind the points, as a registered operator: a latitude-longitude map seen in the empty pixels."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adop.backend.launch import Launch, Value, launch_series
from adop.backend.operator import differentiable

_INPUTS = (
    "Tensor[] images, Tensor environment, Tensor[] weights, Tensor rays, Tensor pose, Tensor crop, Tensor size,"
    " int[] blurs"
)


@dataclass(frozen=True)
class RayGrid:
    """Directions that a lens sees, at points spread evenly from corner to corner of its whole photo."""

    local: Tensor  # [B, 3, R, S] unit, camera space
    size: Tensor  # [B, 2] width and height of the whole photo
    crop: Tensor  # [B, 3] zoom and offset of the picture on it
    world_to_camera: Tensor  # [B, 4, 4]


def _values(
    images: list[Tensor], weights: list[Tensor], rays: Tensor, pose: Tensor, crop: Tensor, size: Tensor
) -> dict[str, Value]:
    return {
        "views": images[0].shape[0],
        "channels": images[0].shape[1],
        "height": images[0].shape[2],
        "width": images[0].shape[3],
        "weight": weights,
        "rays": rays,
        "ray_rows": rays.shape[2],
        "ray_columns": rays.shape[3],
        "world_to_camera": pose,
        "crop": crop,
        "photo_size": size,
    }


def _series(kernel: str, images: list[Tensor], environment: Tensor, blurs: list[int]) -> list[Launch]:
    """Return the launches, view by view of each level, with the size of the map there."""
    series: list[Launch] = []
    for level, (image, blur) in enumerate(zip(images, blurs, strict=True)):
        numbers = {"level": level, "blur": blur}
        numbers |= {"map_rows": environment.shape[0] >> blur, "map_columns": environment.shape[1] >> blur}
        views = [numbers | {"view": view} for view in range(len(image))]
        series += [Launch(kernel, image[0, 0].numel(), view) for view in views]
    return series


def _places(images: list[Tensor]) -> list[Tensor]:
    return [image.new_empty(image.shape[0], 2, *image.shape[2:]) for image in images]


def _show_behind(images: list[Tensor], environment: Tensor, *rest: Any) -> tuple[list[Tensor], list[Tensor]]:
    *tensors, blurs = rest
    shown, coordinates = [torch.empty_like(image) for image in images], _places(images)
    values = _values(images, *tensors) | {"image": images, "shown": shown, "coordinates": coordinates}
    series = _series("behind_forward", images, environment, blurs)
    launch_series(series, values | {"texels": environment}, images[0])
    return shown, coordinates


show_behind_op = torch.library.custom_op(
    "adop::show_behind", _show_behind, mutates_args=(), schema=f"({_INPUTS}) -> (Tensor[], Tensor[])"
)


@show_behind_op.register_fake
def _(images: list[Tensor], *rest: Any) -> tuple[list[Tensor], list[Tensor]]:
    return [torch.empty_like(image) for image in images], _places(images)


@torch.library.custom_op(
    "adop::show_behind_backward",
    mutates_args=(),
    schema=f"(Tensor[] grads, Tensor[] coordinates, {_INPUTS}) -> (Tensor[], Tensor)",
)
def show_behind_backward_op(
    grads: list[Tensor], coordinates: list[Tensor], images: list[Tensor], environment: Tensor, *rest: Any
) -> tuple[list[Tensor], Tensor]:
    *tensors, blurs = rest
    below, texels = [torch.empty_like(image) for image in images], torch.zeros_like(environment)
    values = _values(images, *tensors) | {"grad_image": grads, "grad_shown": below}
    values |= {"coordinates": coordinates, "grad_texels": texels}
    series = _series("behind_backward", images, environment, blurs)
    launch_series(series, values, images[0], threads=1)
    return below, texels


@show_behind_backward_op.register_fake
def _(
    grads: list[Tensor], coordinates: list[Tensor], images: list[Tensor], environment: Tensor, *rest: Any
) -> tuple[list[Tensor], Tensor]:
    return [torch.empty_like(image) for image in images], torch.empty_like(environment)


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[list[Tensor], list[Tensor]]) -> None:
    images, environment, weights, *camera, blurs = inputs
    ctx.save_for_backward(*output[1], *images, *weights, environment, *camera)
    ctx.mark_non_differentiable(*output[1])
    ctx.levels, ctx.blurs = len(images), blurs


def _backward(ctx: Any, grads: list[Tensor], *_: Any) -> tuple[Any, ...]:
    saved = list(ctx.saved_tensors)
    coordinates, images, weights = (saved[i * ctx.levels : (i + 1) * ctx.levels] for i in range(3))
    environment, *camera = saved[3 * ctx.levels :]
    dense = [grad.contiguous() for grad in grads]
    below, texels = show_behind_backward_op(
        dense, coordinates, images, environment, weights, *camera, ctx.blurs
    )
    return below, texels, [None] * ctx.levels, None, None, None, None, None


_call = differentiable(show_behind_op, _show_behind, _setup, _backward)


def show_behind(
    images: list[Tensor], weights: list[Tensor], environment: Tensor, blurs: list[int], grid: RayGrid
) -> list[Tensor]:
    """Return the images [B, C, H_l, W_l], where `weights` are 0 with what the map shows along the pixels' rays.

    Args:
        environment: [R, 2 R, C], latitude-longitude.
        blurs: level l looks at averages of the map over squares of 2^blurs[l] texels.
        grid: the rays; those between its points are interpolated.

    **Gradients** exact to images and map, none to the rays.
    """
    like = images[0]
    rays = (grid.local, grid.world_to_camera, grid.crop, grid.size)
    parts = [part.to(like.dtype).contiguous() for part in rays]
    images, weights = ([tensor.contiguous() for tensor in part] for part in (images, weights))
    return _call(images, environment.contiguous(), weights, *parts, blurs)[0]
