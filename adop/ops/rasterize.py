"""rasterize as a registered operator: projected points to pyramid levels, with its adjoints.

On a CPU one thread owns a band of rows (`bands.h`); on a GPU every point is a thread (`rasterize.cu`).
"""

from typing import Any

import torch
from torch import Tensor

from adop.backend.launch import Launch, Value, launch, launch_series
from adop.backend.operator import differentiable
from adop.geometry.camera import level_size
from adop.ops.types import Levels, Projection, RasterConfig, check_background, check_like

_SETTINGS = "int width, int height, int levels, float depth_tolerance, float radius_threshold, bool bilinear"
_SAVED = "Tensor[] images, Tensor[] weights, Tensor[] depths, Tensor hits, Tensor offsets"
RASTER_OUTPUTS = "(Tensor[], Tensor[], Tensor[], Tensor, Tensor)"
Outputs = tuple[list[Tensor], list[Tensor], list[Tensor], Tensor, Tensor]
HIT_BYTES = {torch.float32: 12, torch.float64: 16}
BAND_ROWS = 16


def config_settings(config: RasterConfig) -> tuple[Any, ...]:
    """Return what the operators take of the configuration: levels, tolerance, threshold, bilinear."""
    bilinear = config.position_gradient == "bilinear"
    return config.levels, config.depth_tolerance, config.radius_threshold, bilinear


def band_rows(levels: int) -> int:
    """Return how many rows a band has: whole pixels of the coarsest level, and small enough for a core's
    cache."""
    return max(BAND_ROWS, 2 ** (levels - 1))


def empty_levels(
    like: Tensor, views: int, channels: int, size: tuple[int, int], levels: int
) -> tuple[list[Tensor], ...]:
    """Return uninitialised images, weights and depths."""
    sizes = [level_size(*size, level) for level in range(levels)]
    planes = (channels, 1, 1)
    return tuple([like.new_empty(views, plane, *extent) for extent in sizes] for plane in planes)


def empty_hits(
    like: Tensor, views: int, blocks: int, height: int, levels: int, capacity: int
) -> tuple[Tensor, Tensor]:
    """Return room for `capacity` hits and their zero offsets [B, bins + 1, chunks]; see `bands.h`.

    A chunk is closed by 8192 - 256 points or by 512 runs of at most 256 points: hence the number of chunks.
    """
    bins = -(-height // band_rows(levels)) * 2 * levels
    chunks = capacity // 7936 + (capacity // 256 + blocks) // 512 + 2
    hits = torch.empty(capacity, HIT_BYTES[like.dtype], dtype=torch.uint8, device=like.device)
    return hits, torch.zeros(views, bins + 1, chunks, dtype=torch.int64, device=like.device)


def pyramid_values(settings: tuple[Any, ...], features: Tensor, background: list[Tensor]) -> dict[str, Value]:
    """Return the pyramid's part of the kernel arguments; settings: width, height, levels, tolerance,
    threshold, bilinear."""
    width, height, levels, tolerance, threshold, bilinear = settings
    return {
        "width": width,
        "height": height,
        "levels": levels,
        "depth_tolerance": tolerance,
        "radius_threshold": threshold,
        "features": features,
        "channels": features.shape[1],
        "background": background,
        "background_full": int(background[0].numel() != features.shape[1]),
        "band_rows": band_rows(levels),
        "bilinear": int(bilinear),
    }


def projected_values(
    uv: Tensor, z: Tensor, radius_px: Tensor, visible: Tensor, ghosts: Tensor | None
) -> dict[str, Value]:
    """Return the projected points' part of the kernel arguments."""
    return {
        "uv": uv,
        "z": z,
        "radius_px": radius_px,
        "visible": visible,
        "ghosts": ghosts,
        "views": z.shape[0],
        "points": z.shape[1],
        "block_size": 256,
        "blocks": -(-z.shape[1] // 256),
    }


def forward_by_point(values: dict[str, Value], outputs: tuple[list[Tensor], ...], like: Tensor) -> None:
    """Draw with one thread per point and atomics; what a GPU runs, and what the tests run on a CPU."""
    images, weights, depths = outputs
    torch._foreach_zero_([*images, *weights])
    for depth in depths:
        depth.fill_(torch.inf)
    values |= {"image": images, "weight": weights, "depth": depths}
    series = [Launch("raster_depth", like.numel()), Launch("raster_blend", like.numel())]
    series += [
        Launch("raster_normalise", weight.numel(), {"level": level}) for level, weight in enumerate(weights)
    ]
    launch_series(series, values, like)


def backward_by_point(values: dict[str, Value], like: Tensor, spatial: bool) -> None:
    """Gather gradients with one thread per point."""
    series = [Launch("raster_backward_features", like.shape[1])]
    if spatial and (values["ghosts"] is not None or values["bilinear"]):
        series.append(Launch("raster_backward_uv", like.numel()))
    launch_series(series, values, like)


def _rasterize(
    uv: Tensor,
    z: Tensor,
    radius_px: Tensor,
    visible: Tensor,
    features: Tensor,
    background: list[Tensor],
    *rest: Any,
) -> Outputs:
    ghosts, settings = rest[0], rest[1:]
    _, height, levels, *_ = settings
    views, points = z.shape
    outputs = empty_levels(features, views, features.shape[1], (height, settings[0]), levels)
    values = projected_values(uv, z, radius_px, visible, ghosts)
    values |= pyramid_values(settings, features, background)
    if z.device.type != "cpu":
        forward_by_point(values, outputs, z)
        return *outputs, features.new_empty(0), features.new_empty(0)  # type: ignore[return-value]
    hits, offsets = empty_hits(z, views, -(-points // 256), height, levels, views * points)
    values |= {"image": outputs[0], "weight": outputs[1], "depth": outputs[2]}
    values |= {"hits": hits, "offsets": offsets, "chunks": offsets.shape[2]}
    launch("bands_forward", 0, values, z)
    return *outputs, hits, offsets  # type: ignore[return-value]


rasterize_op = torch.library.custom_op(
    "adop::rasterize",
    _rasterize,
    mutates_args=(),
    schema="(Tensor uv, Tensor z, Tensor radius_px, Tensor visible, Tensor features, Tensor[] background,"
    f" Tensor? ghosts, {_SETTINGS}) -> {RASTER_OUTPUTS}",
)


@rasterize_op.register_fake
def _(
    uv: Tensor,
    z: Tensor,
    radius_px: Tensor,
    visible: Tensor,
    features: Tensor,
    background: list[Tensor],
    *rest: Any,
) -> Outputs:
    width, height, levels = rest[1:4]
    views, points = z.shape
    outputs = empty_levels(features, views, features.shape[1], (height, width), levels)
    if z.device.type != "cpu":
        return *outputs, features.new_empty(0), features.new_empty(0)  # type: ignore[return-value]
    return *outputs, *empty_hits(z, views, -(-points // 256), height, levels, views * points)  # type: ignore[return-value]


@torch.library.custom_op(
    "adop::rasterize_backward",
    mutates_args=(),
    schema=f"(Tensor[] grads, {_SAVED}, Tensor uv, Tensor z, Tensor radius_px, Tensor visible,"
    f" Tensor features, Tensor? ghosts, {_SETTINGS}, bool spatial) -> (Tensor, Tensor)",
)
def rasterize_backward_op(
    grads: list[Tensor],
    images: list[Tensor],
    weights: list[Tensor],
    depths: list[Tensor],
    hits: Tensor,
    offsets: Tensor,
    uv: Tensor,
    z: Tensor,
    radius_px: Tensor,
    visible: Tensor,
    features: Tensor,
    *rest: Any,
) -> tuple[Tensor, Tensor]:
    ghosts, settings, spatial = rest[0], rest[1:7], rest[7]
    grad_features, grad_uv = torch.zeros_like(features), torch.zeros_like(uv)
    values = projected_values(uv, z, radius_px, visible, ghosts)
    values |= pyramid_values(settings, features, [features] * settings[2])
    values |= {"image": images, "weight": weights, "depth": depths, "grad_features": grad_features}
    values |= {"grad_image": [grad.contiguous() for grad in grads], "grad_uv": grad_uv if spatial else None}
    if z.device.type != "cpu":
        backward_by_point(values, z, spatial)
    else:
        values |= {"hits": hits, "offsets": offsets, "chunks": offsets.shape[2]}
        launch("bands_backward", 0, values, z)
    return grad_features, grad_uv


@rasterize_backward_op.register_fake
def _(grads: list[Tensor], *rest: Any) -> tuple[Tensor, Tensor]:
    return torch.empty_like(rest[9]), torch.empty_like(rest[5])


def background_gradient(grads: list[Tensor], weights: list[Tensor], background: list[Tensor]) -> list[Tensor]:
    """Return the gradient of each level's background: that of the pixels where no point counts."""
    result = []
    for grad, weight, behind in zip(grads, weights, background, strict=True):
        empty = (weight == 0).to(grad.dtype)
        if behind.shape == grad.shape:
            result.append(grad * empty)
        else:
            total = torch.bmm(grad.flatten(2), empty.flatten(2).transpose(1, 2)).sum(0)
            result.append(total.reshape(behind.shape))
    return result


def _setup(ctx: Any, inputs: tuple[Any, ...], output: Outputs) -> None:
    uv, z, radius_px, visible, features, background, ghosts = inputs[:7]
    images, weights, depths, hits, offsets = output
    saved = (*images, *weights, *depths, hits, offsets, uv, z, radius_px, visible, features, ghosts)
    ctx.save_for_backward(*saved)
    ctx.settings, ctx.background = inputs[7:], [tensor.shape for tensor in background]
    ctx.mark_non_differentiable(*weights, *depths, hits, offsets)


def _backward(ctx: Any, grads: list[Tensor], *_: Any) -> tuple[Any, ...]:
    levels = ctx.settings[2]
    saved = ctx.saved_tensors
    images, weights, depths = (list(saved[i * levels : (i + 1) * levels]) for i in range(3))
    needs = ctx.needs_input_grad
    rest = saved[3 * levels :]
    grad_features, grad_uv = rasterize_backward_op(
        grads, images, weights, depths, *rest, *ctx.settings, needs[0]
    )
    behind: list[Any] = [None] * levels
    if any(needs[5]):
        behind = background_gradient(grads, weights, [grads[0].new_empty(shape) for shape in ctx.background])
    return grad_uv, None, None, None, grad_features, behind, *([None] * 7)


_call = differentiable(rasterize_op, _rasterize, _setup, _backward)


def rasterize(
    projection: Projection,
    features: Tensor,
    width: int,
    height: int,
    config: RasterConfig,
    background: Tensor | list[Tensor] | None,
    ghosts: Tensor | None,
) -> Levels:
    """Draw projected points by the kernels."""
    p = projection
    check_like(p.z, uv=p.uv, radius_px=p.radius_px, features=features, ghosts=ghosts)
    behind = check_background(
        background, p.z.shape[0], features.shape[1], (height, width), config.levels, features
    )
    settings = (width, height, *config_settings(config))
    points = (p.uv.contiguous(), p.z.contiguous(), p.radius_px.contiguous(), p.visible.contiguous())
    behind = [image.contiguous() for image in behind]
    ghosts = None if ghosts is None else ghosts.contiguous()
    images, weights, depths, _, _ = _call(*points, features.contiguous(), behind, ghosts, *settings)
    return Levels(images, weights, depths)
