"""What lies behind the points, as a registered operator: a latitude-longitude map seen in the empty pixels."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adop.ops.launch import Value, launch_series

_INPUTS = (
    "Tensor[] images, Tensor[] maps, Tensor[] weights, Tensor rays, Tensor pose, Tensor crop, Tensor size,"
    " int[] which"
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


def _series(
    images: list[Tensor], maps: list[Tensor], which: list[int], name: str
) -> list[tuple[int, dict[str, int]]]:
    """Return the launches, level by level, each with its own map under `name`."""
    series = []
    for level, (image, index) in enumerate(zip(images, which, strict=True)):
        numbers = {"level": level, "map_rows": maps[index].shape[1], "map_columns": maps[index].shape[2]}
        series.append((image[:, 0].numel(), numbers | {name: maps[index].data_ptr()}))
    return series


def _places(images: list[Tensor]) -> list[Tensor]:
    return [image.new_empty(image.shape[0], 2, *image.shape[2:]) for image in images]


@torch.library.custom_op("adop::show_behind", mutates_args=(), schema=f"({_INPUTS}) -> (Tensor[], Tensor[])")
def show_behind_op(images: list[Tensor], maps: list[Tensor], *rest: Any) -> tuple[list[Tensor], list[Tensor]]:
    *tensors, which = rest
    shown, coordinates = [torch.empty_like(image) for image in images], _places(images)
    values = _values(images, *tensors) | {"image": images, "shown": shown, "coordinates": coordinates}
    launch_series("behind_forward", _series(images, maps, which, "texels"), values, images[0])
    return shown, coordinates


@show_behind_op.register_fake
def _(images: list[Tensor], *rest: Any) -> tuple[list[Tensor], list[Tensor]]:
    return [torch.empty_like(image) for image in images], _places(images)


@torch.library.custom_op(
    "adop::show_behind_backward",
    mutates_args=(),
    schema=f"(Tensor[] grads, Tensor[] coordinates, {_INPUTS}) -> (Tensor[], Tensor[])",
)
def show_behind_backward_op(
    grads: list[Tensor], coordinates: list[Tensor], images: list[Tensor], maps: list[Tensor], *rest: Any
) -> tuple[list[Tensor], list[Tensor]]:
    *tensors, which = rest
    below, texels = [torch.empty_like(image) for image in images], [torch.zeros_like(m) for m in maps]
    values = _values(images, *tensors) | {"grad_image": grads, "grad_shown": below}
    values |= {"coordinates": coordinates}
    series = _series(images, texels, which, "grad_texels")
    launch_series("behind_backward", series, values, images[0], threads=1)
    return below, texels


@show_behind_backward_op.register_fake
def _(
    grads: list[Tensor], coordinates: list[Tensor], images: list[Tensor], maps: list[Tensor], *rest: Any
) -> tuple[list[Tensor], list[Tensor]]:
    return [torch.empty_like(image) for image in images], [torch.empty_like(m) for m in maps]


def _setup(ctx: Any, inputs: tuple[Any, ...], output: tuple[list[Tensor], list[Tensor]]) -> None:
    images, maps, weights, *camera, which = inputs
    ctx.save_for_backward(*output[1], *images, *weights, *maps, *camera)
    ctx.levels, ctx.maps, ctx.which = len(images), len(maps), which


def _backward(ctx: Any, grads: list[Tensor], *_: Any) -> tuple[Any, ...]:
    saved = list(ctx.saved_tensors)
    coordinates, images, weights = (saved[i * ctx.levels : (i + 1) * ctx.levels] for i in range(3))
    maps, camera = saved[3 * ctx.levels : 3 * ctx.levels + ctx.maps], saved[3 * ctx.levels + ctx.maps :]
    dense = [grad.contiguous() for grad in grads]
    below, texels = show_behind_backward_op(dense, coordinates, images, maps, weights, *camera, ctx.which)
    return below, texels, [None] * ctx.levels, None, None, None, None, None


show_behind_op.register_autograd(_backward, setup_context=_setup)


def show_behind(
    images: list[Tensor], weights: list[Tensor], maps: list[Tensor], which: list[int], grid: RayGrid
) -> list[Tensor]:
    """Return the images [B, C, H_l, W_l], where `weights` are 0 with what the map shows along the pixels' rays.

    Args:
        maps: [C, R, 2 R] latitude-longitude maps of falling size; level l looks at `maps[which[l]]`.
        grid: the rays; those between its points are interpolated.

    **Gradients** exact to images and maps, none to the rays.
    """
    like = images[0]
    parts = [
        part.to(like.dtype).contiguous() for part in (grid.local, grid.world_to_camera, grid.crop, grid.size)
    ]
    there = [[tensor.contiguous() for tensor in part] for part in (images, maps, weights)]
    return show_behind_op(*there, *parts, which)[0]
