"""rasterize by the kernels: projected points to pyramid levels, with its adjoints.

On a CPU one thread owns a band of rows (`kernels/bands.h`); on a GPU every point has a thread (`kernels/rasterize.cu`).
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from adop.backend.arguments import RasterizeArguments, Values
from adop.backend.launch import Launch, launch
from adop.backend.operator import Gradients, Operator
from adop.geometry.camera import level_size
from adop.ops.projection import ProjectedTensors, block_values
from adop.ops.types import (
    BLOCK_SIZE,
    Levels,
    Projection,
    RasterConfig,
    channels_of,
    check_background,
    check_like,
)

HIT_BYTES = {torch.float32: 12, torch.float64: 16}
BAND_ROWS = 16
KEPT_BYTES = 2**30  # what is larger is given back to the system when it is freed


class PyramidSettings(NamedTuple):
    """What the kernels take of a RasterConfig."""

    levels: int
    depth_tolerance: float
    radius_threshold: float
    bilinear: bool
    harmonics: bool = False


def pyramid_settings(config: RasterConfig) -> PyramidSettings:
    """Return the kernels' part of the configuration."""
    bilinear = config.position_gradient == "bilinear"
    return PyramidSettings(
        config.levels, config.depth_tolerance, config.radius_threshold, bilinear, config.harmonics
    )


class PyramidTensors(NamedTuple):
    """The levels that are drawn, and on a CPU the hits that they were drawn from."""

    images: list[Tensor]  # [B, C, H_l, W_l]
    weights: list[Tensor]  # [B, 1, H_l, W_l]
    depths: list[Tensor]  # [B, 1, H_l, W_l]
    hits: Tensor  # [capacity, bytes of a hit] uint8
    offsets: Tensor  # [B, bins + 1, chunks] int64, see kernels/bands.h


def band_rows(levels: int) -> int:
    """Return the rows of a band: whole pixels of the coarsest level, but few enough for a core's cache."""
    return max(BAND_ROWS, 2 ** (levels - 1))


class HitRoom(NamedTuple):
    """How much room the hits of the band order need."""

    views: int
    blocks: int
    capacity: int  # points that may be visited, in all views


def empty_pyramid(
    like: Tensor, settings: PyramidSettings, size: tuple[int, int], room: HitRoom
) -> PyramidTensors:
    """Return uninitialised levels of height and width `size`, and room for hits with offsets of 0.

    On a GPU there are no hits. `like` are the features.
    """
    drawn = channels_of(like, settings.harmonics)
    sizes = [level_size(*size, level) for level in range(settings.levels)]
    images, weights, depths = (
        [like.new_empty(room.views, channels, *extent) for extent in sizes] for channels in (drawn, 1, 1)
    )
    if like.device.type != "cpu":
        return PyramidTensors(images, weights, depths, like.new_empty(0), like.new_empty(0))
    bins = -(-size[0] // band_rows(settings.levels)) * 2 * settings.levels
    # A chunk is closed by 8192 - 256 points or by 512 runs of at most 256 points.
    chunks = room.capacity // 7936 + (room.capacity // 256 + room.blocks) // 512 + 2
    hits = torch.empty(room.capacity, HIT_BYTES[like.dtype], dtype=torch.uint8, device=like.device)
    offsets = torch.zeros(room.views, bins + 1, chunks, dtype=torch.int64, device=like.device)
    return PyramidTensors(images, weights, depths, hits, offsets)


def untouched_zeros(like: Tensor) -> Tensor:
    """Return zeros of the shape of `like`. On a CPU, much memory is taken page by page when it is first written.

    Few points of a large cloud are in view, so few pages of their gradient are ever written. Less memory than that is
    kept from step to step (`adop.__main__.keep_memory`), and all threads clear it.
    """
    if like.device.type != "cpu" or like.nbytes < KEPT_BYTES:
        return torch.zeros_like(like)
    return torch.from_numpy(np.zeros(like.shape, np.float64 if like.dtype == torch.float64 else np.float32))


class Features(NamedTuple):
    """What is drawn of the points, and from where to where they are seen; the latter None without harmonics."""

    rows: Tensor  # [N, C], or [N, C + HARMONIC_COEFFICIENTS]
    xyz: Tensor | None  # [N, 3]
    centres: Tensor | None  # [B, 3] of the cameras


def pyramid_values(
    features: Features,
    drawn: PyramidTensors,
    settings: PyramidSettings,
    background: list[Tensor] | None = None,
) -> Values:
    """Return the pyramid's part of the kernel arguments."""
    views, channels, height, width = drawn.images[0].shape
    return {
        "features": features.rows,
        "xyz": features.xyz if settings.harmonics else None,
        "centres": features.centres if settings.harmonics else None,
        "row": features.rows.shape[1],
        "image": drawn.images,
        "weight": drawn.weights,
        "depth": drawn.depths,
        "background": background,
        "views": views,
        "width": width,
        "height": height,
        "channels": channels,
        "levels": settings.levels,
        "background_full": int(background is not None and background[0].numel() != channels),
        "depth_tolerance": settings.depth_tolerance,
        "radius_threshold": settings.radius_threshold,
    }


def hit_values(drawn: PyramidTensors) -> Values:
    """Return the hits' part of the kernel arguments; empty on a GPU."""
    if drawn.offsets.ndim != 3:
        return {}
    rows = band_rows(len(drawn.images))
    return {"hits": drawn.hits, "offsets": drawn.offsets, "chunks": drawn.offsets.shape[2], "band_rows": rows}


class RasterizeInputs(NamedTuple):
    """Projected points and what is drawn of them."""

    projected: ProjectedTensors
    features: Tensor  # [N, C]
    background: list[Tensor]  # per level [1 or B, C, 1 or H_l, 1 or W_l]
    ghosts: Tensor | None  # [B, N] bool
    width: int
    height: int
    settings: PyramidSettings
    xyz: Tensor | None = None  # [N, 3], where features have harmonics
    centres: Tensor | None = None  # [B, 3] of the cameras, likewise


def _empty_pyramid(inputs: RasterizeInputs) -> PyramidTensors:
    views, points = inputs.projected.z.shape
    room = HitRoom(views, -(-points // BLOCK_SIZE), views * points)
    return empty_pyramid(inputs.features, inputs.settings, (inputs.height, inputs.width), room)


def rasterize_by_point(inputs: RasterizeInputs) -> PyramidTensors:
    """Draw with one thread per point and atomic sums: the order of a GPU, which tests run on a CPU too."""
    drawn = _empty_pyramid(inputs)
    count, rows = inputs.projected.z.numel(), _empty_rows(drawn).zero_()
    counts = {"clear": len(rows), "depth": count, "blend": count, "normalise": len(rows)}
    series = [Launch(f"raster_{kernel}", number) for kernel, number in counts.items()]
    values = {**_forward_values(inputs, drawn), **_row_values(rows)}
    launch(RasterizeArguments, series, values, inputs.features)
    return drawn


def _empty_rows(drawn: PyramidTensors) -> Tensor:
    """Return [pixels of all levels, R]: room for the rows of the order by point, see `kernels/rasterize.cu`."""
    size = (drawn.images[0].shape[1] // 4 + 1) * 4
    return drawn.weights[0].new_empty(sum(weight.numel() for weight in drawn.weights), size)


def _row_values(rows: Tensor) -> Values:
    return {"rows": rows, "row_count": len(rows)}


def _forward_values(inputs: RasterizeInputs, drawn: PyramidTensors) -> Values:
    features = Features(inputs.features, inputs.xyz, inputs.centres)
    pyramid = pyramid_values(features, drawn, inputs.settings, inputs.background)
    return {
        "bands": {
            "blocks": block_values(inputs.projected.z.shape[1]),
            "pyramid": {**pyramid, "ghosts": inputs.ghosts},
            "hits": hit_values(drawn),
        },
        "projected": inputs.projected._asdict(),
    }


def _rasterize(inputs: RasterizeInputs) -> PyramidTensors:
    if inputs.features.device.type != "cpu":
        return rasterize_by_point(inputs)
    drawn = _empty_pyramid(inputs)
    launch(RasterizeArguments, [Launch("bands_forward", 0)], _forward_values(inputs, drawn), inputs.features)
    return drawn


rasterize_operator = Operator("adop::rasterize", _rasterize, _empty_pyramid)


class RasterizeGradientInputs(NamedTuple):
    """Gradients of the images, and what they were drawn from."""

    grads: list[Tensor]
    drawn: PyramidTensors
    projected: ProjectedTensors
    features: Tensor
    ghosts: Tensor | None
    settings: PyramidSettings
    xyz: Tensor | None
    centres: Tensor | None
    spatial: bool  # whether uv has a gradient


class RasterizeGradients(NamedTuple):
    """Gradients of the features and of the points' pixels."""

    features: Tensor  # [N, C]
    uv: Tensor  # [B, N, 2]


def _zero_gradients(inputs: RasterizeGradientInputs) -> RasterizeGradients:
    return RasterizeGradients(torch.zeros_like(inputs.features), torch.zeros_like(inputs.projected.uv))


def _backward(
    inputs: RasterizeGradientInputs, series: list[Launch], rows: Tensor | None = None
) -> RasterizeGradients:
    result, grads = _zero_gradients(inputs), [grad.contiguous() for grad in inputs.grads]
    features = Features(inputs.features, inputs.xyz, inputs.centres)
    pyramid = pyramid_values(features, inputs.drawn, inputs.settings)
    bilinear = int(inputs.settings.bilinear)
    values: Values = {
        "bands": {
            "blocks": block_values(inputs.projected.z.shape[1]),
            "pyramid": {**pyramid, "ghosts": inputs.ghosts},
            "gradients": {"image": grads, "features": result.features, "bilinear": bilinear},
            "hits": hit_values(inputs.drawn),
        },
        "projected": inputs.projected._asdict(),
        "grad_uv": result.uv if inputs.spatial else None,
        **({} if rows is None else _row_values(rows)),
    }
    launch(RasterizeArguments, series, values, inputs.features)
    return result


def rasterize_backward_by_point(inputs: RasterizeGradientInputs) -> RasterizeGradients:
    """Gather gradients with one thread per point, as `rasterize_by_point` draws."""
    rows = _empty_rows(inputs.drawn)
    points = inputs.features.shape[0]
    series = [Launch("raster_load_gradients", len(rows)), Launch("raster_backward_features", points)]
    if inputs.spatial and (inputs.ghosts is not None or inputs.settings.bilinear):
        series.append(Launch("raster_backward_uv", inputs.projected.z.numel()))
    return _backward(inputs, series, rows)


def _rasterize_backward(inputs: RasterizeGradientInputs) -> RasterizeGradients:
    if inputs.features.device.type != "cpu":
        return rasterize_backward_by_point(inputs)
    return _backward(inputs, [Launch("bands_backward", 0)])


rasterize_backward_operator = Operator("adop::rasterize_backward", _rasterize_backward, _zero_gradients)


def background_gradients(
    grads: list[Tensor], weights: list[Tensor], shapes: list[torch.Size]
) -> list[Tensor]:
    """Return the gradient of each level's background of these shapes: that of the pixels where no point counts."""
    result = []
    for grad, weight, shape in zip(grads, weights, shapes, strict=True):
        empty = (weight == 0).to(grad.dtype)
        if shape == grad.shape:
            result.append(grad * empty)
        else:
            total = torch.bmm(grad.flatten(2), empty.flatten(2).transpose(1, 2)).sum(0)
            result.append(total.reshape(shape))
    return result


class _SavedPyramid(NamedTuple):
    drawn: PyramidTensors
    projected: ProjectedTensors
    features: Tensor
    ghosts: Tensor | None
    settings: PyramidSettings
    xyz: Tensor | None
    centres: Tensor | None
    background_shapes: list[torch.Size]


def _save(inputs: RasterizeInputs, outputs: PyramidTensors) -> _SavedPyramid:
    return _SavedPyramid(
        outputs,
        inputs.projected,
        inputs.features,
        inputs.ghosts,
        inputs.settings,
        inputs.xyz,
        inputs.centres,
        background_shapes=[background.shape for background in inputs.background],
    )


@rasterize_operator.gradient(_save, of=("images",))
def _gradient(saved: _SavedPyramid, grads: PyramidTensors, needs: frozenset[str]) -> Gradients:
    drawn, projected, features, ghosts, settings, xyz, centres, shapes = saved
    inputs = RasterizeGradientInputs(
        grads.images, drawn, projected, features, ghosts, settings, xyz, centres, spatial="uv" in needs
    )
    result = rasterize_backward_operator(inputs)
    background = None
    if "background" in needs:
        background = background_gradients(grads.images, drawn.weights, shapes)
    return {"uv": result.uv, "features": result.features, "background": background}


def rasterize_points(
    projection: Projection,
    features: Tensor,
    size: tuple[int, int],
    config: RasterConfig,
    background: Tensor | list[Tensor] | None,
    ghosts: Tensor | None,
) -> Levels:
    """Draw projected points by the kernels to levels of height and width `size`."""
    check_like(
        projection.z, uv=projection.uv, radius_px=projection.radius_px, features=features, ghosts=ghosts
    )
    parts = (projection.uv, projection.z, projection.radius_px, projection.visible)
    images = check_background(background, projection.z.shape[0], size, config, features)
    seen = (projection.xyz, projection.centres) if config.harmonics else (None, None)
    inputs = RasterizeInputs(
        ProjectedTensors(*(part.contiguous() for part in parts)),
        features.contiguous(),
        [image.contiguous() for image in images],
        None if ghosts is None else ghosts.contiguous(),
        size[1],
        size[0],
        pyramid_settings(config),
        *(None if part is None else part.detach().contiguous() for part in seen),
    )
    drawn = rasterize_operator(inputs)
    return Levels(drawn.images, drawn.weights, drawn.depths)
