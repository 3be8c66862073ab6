"""Hole filling as a registered operator: points in their own colours, holes filled from coarser levels."""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.backend.arguments import HoleFillingArguments, Values
from adop.backend.choice import Backend, choose_backend
from adop.backend.launch import Launch, launch
from adop.backend.operator import Gradients, Operator
from adop.ops.types import Levels

REACH = 2  # pixels to either side that are searched for a nearer surface, as in hole_filling.cu


class HoleFillingSettings(NamedTuple):
    """How holes are filled."""

    fill_levels: int  # levels from this one on fill nothing
    occlusion_levels: int  # only levels below this one are searched for points seen through a nearer surface
    tolerance: float  # the largest occlusion of a point that is still shown


class HoleFillingInputs(NamedTuple):
    """A pyramid, finest level first."""

    images: list[Tensor]  # [B, C, H_l, W_l], the first three channels logarithms of colour
    # [B, 3, H_l, W_l] linear light; an empty list: empty pixels keep the image's colour.
    background: list[Tensor]
    weights: list[Tensor]  # [B, 1, H_l, W_l]
    depths: list[Tensor]  # [B, 1, H_l, W_l]
    settings: HoleFillingSettings


class FilledPyramid(NamedTuple):
    """The filled pyramid, finest level first."""

    colours: list[Tensor]  # [B, 3, H_l, W_l] linear light
    valid: list[Tensor]  # [B, 1, H_l, W_l] 1 where the level's own points are shown, else 0
    # [B, 1, H_l, W_l] relative depth by which a point lies behind a nearer surface, 0 to 1.
    occlusion: list[Tensor]


def _values(images: list[Tensor], settings: HoleFillingSettings) -> Values:
    views, channels, height, width = images[0].shape
    return {
        "views": views,
        "channels": channels,
        "height": height,
        "width": width,
        "levels": len(images),
        "fill_levels": min(settings.fill_levels, len(images)),
        "occlusion_levels": settings.occlusion_levels,
        "tolerance": settings.tolerance,
    }


def _level_launch(kernel: str, level: int, images: list[Tensor]) -> Launch:
    return Launch(kernel, images[level][:, 0].numel(), {"level": level})


def _resampled_rows(images: list[Tensor], levels: range, other: int) -> list[Tensor | None]:
    """Allocate images with the rows of each level and the columns of level + `other`."""
    result: list[Tensor | None] = [None] * len(images)
    for level in levels:
        views, _, rows, _ = images[level].shape
        result[level] = images[level].new_empty(views, 3, rows, images[level + other].shape[3])
    return result


def _planes(images: list[Tensor], channels: int) -> list[Tensor]:
    return [image.new_empty(image.shape[0], channels, *image.shape[2:]) for image in images]


def _empty_levels(inputs: HoleFillingInputs) -> FilledPyramid:
    return FilledPyramid(*(_planes(inputs.images, channels) for channels in (3, 1, 1)))


def _fill_holes(inputs: HoleFillingInputs) -> FilledPyramid:
    images, settings = inputs.images, inputs.settings
    result = _empty_levels(inputs)
    depths = inputs.depths[: settings.occlusion_levels]
    padded = [F.pad(depth, [REACH] * 4, value=torch.inf) for depth in depths]
    rows = _resampled_rows(images, range(min(settings.fill_levels, len(images)) - 1), 1)
    values: Values = {
        **_values(images, settings),
        **result._asdict(),
        "image": images,
        "weight": inputs.weights,
        "depth": inputs.depths,
        "background": inputs.background,
        "padded_depth": padded,
        "surface": _planes(images, 1),
        "resampled_rows": rows,
    }
    series = []
    for level in reversed(range(len(images))):
        series.append(_level_launch("holes_surface", level, images))
        room = rows[level]
        if room is not None:
            series.append(Launch("holes_upsample", room.numel(), {"level": level}))
        series.append(_level_launch("holes_colours", level, images))
    launch(HoleFillingArguments, series, values, images[0])
    return result


fill_holes_operator = Operator("adop::fill_holes", _fill_holes, _empty_levels)


class HoleFillingGradientInputs(NamedTuple):
    """Gradients of the filled colours, and what they were made of."""

    grads: list[Tensor]
    colours: list[Tensor]
    valid: list[Tensor]
    images: list[Tensor]
    has_background: bool
    settings: HoleFillingSettings


class HoleFillingGradients(NamedTuple):
    """Gradients of the images, and of the background if there is one."""

    images: list[Tensor]
    background: list[Tensor]


def _empty_gradients(inputs: HoleFillingGradientInputs) -> HoleFillingGradients:
    background = _planes(inputs.images, 3) if inputs.has_background else []
    return HoleFillingGradients([torch.empty_like(image) for image in inputs.images], background)


def _fill_holes_backward(inputs: HoleFillingGradientInputs) -> HoleFillingGradients:
    images = inputs.images
    result = _empty_gradients(inputs)
    for plane in result.background:
        plane.zero_()
    rows = _resampled_rows(images, range(1, min(inputs.settings.fill_levels, len(images))), -1)
    values: Values = {
        **_values(images, inputs.settings),
        "grad_colours": inputs.grads,
        "colours": inputs.colours,
        "valid": inputs.valid,
        "grad_image": result.images,
        "grad_background": result.background,
        "grad_upsampled": _planes(images, 3),
        "resampled_rows": rows,
    }
    series = []
    for level, room in enumerate(rows):
        if room is not None:
            series.append(Launch("holes_upsample_backward", room.numel(), {"level": level}))
        series.append(_level_launch("holes_colours_backward", level, images))
    launch(HoleFillingArguments, series, values, images[0])
    return result


fill_holes_backward_operator = Operator("adop::fill_holes_backward", _fill_holes_backward, _empty_gradients)


class _SavedFilling(NamedTuple):
    colours: list[Tensor]
    valid: list[Tensor]
    images: list[Tensor]
    has_background: bool
    settings: HoleFillingSettings


def _save(inputs: HoleFillingInputs, outputs: FilledPyramid) -> _SavedFilling:
    return _SavedFilling(
        outputs.colours, outputs.valid, inputs.images, len(inputs.background) > 0, inputs.settings
    )


@fill_holes_operator.gradient(_save, of=("colours",))
def _gradient(saved: _SavedFilling, grads: FilledPyramid, needs: frozenset[str]) -> Gradients:
    inputs = HoleFillingGradientInputs(_contiguous(grads.colours), *saved)
    return fill_holes_backward_operator(inputs)._asdict()


def fill_holes(
    levels: Levels, background: list[Tensor] | None, settings: HoleFillingSettings, backend: Backend
) -> FilledPyramid:
    """Return the colours of the points with holes filled.

    From the coarsest level down, a pixel shows its level's own points if it has any that are not seen through a gap in
    a nearer surface, else the coarser level. Levels from `settings.fill_levels` on fill nothing: there an empty pixel
    shows the background.

    Args:
        levels: of features, the first three logarithms of colour.
        background: per level [B, 3, H_l, W_l] linear light; None: empty pixels keep the levels' own colours.

    **Gradients** of the colours exact to features and background; none of the choice of what fills what.
    """
    images, weights, depths = levels.features, levels.weight, levels.depth
    if choose_backend(backend, images[0].device) == "reference":
        return _fill_holes_reference(levels, background, settings)
    inputs = HoleFillingInputs(
        _contiguous(images),
        _contiguous(background or []),
        _contiguous(weights),
        _contiguous(depths),
        settings,
    )
    return fill_holes_operator(inputs)


def _contiguous(tensors: list[Tensor]) -> list[Tensor]:
    return [tensor.contiguous() for tensor in tensors]


def _fill_holes_reference(
    levels: Levels, background: list[Tensor] | None, settings: HoleFillingSettings
) -> FilledPyramid:
    """Fill holes in plain torch."""
    count = len(levels.features)
    colours: list[Tensor] = [torch.empty(0)] * count
    valid, occlusion, surfaces = list(colours), list(colours), list(colours)
    for level in reversed(range(count)):
        own = levels.features[level][:, :3].exp()
        with torch.no_grad():
            drawn = levels.weight[level] > 0
            depth = torch.where(drawn, levels.depth[level], torch.inf)
            surface = torch.full_like(depth, torch.inf)
            if level < settings.occlusion_levels:
                surface = surface_around(depth)
                if level + 1 < count:
                    surface = torch.minimum(surface, upsample(surfaces[level + 1], depth, "nearest"))
            gap = torch.where(drawn & torch.isfinite(surface), (1 - surface / depth).clamp(0, 1), 0.0)
            valid[level] = (drawn & (gap <= settings.tolerance)).to(own.dtype)
            occlusion[level], surfaces[level] = gap, surface
        fill = own if background is None else background[level]
        if level + 1 < min(count, settings.fill_levels):
            fill = upsample(colours[level + 1], own)
        colours[level] = torch.where(valid[level] > 0, own, fill)
    return FilledPyramid(colours, valid, occlusion)


def upsample(image: Tensor, like: Tensor, mode: str = "bilinear") -> Tensor:
    """Return `image` at twice its size, cut to the height and width of `like`."""
    if mode == "nearest":
        large = image.repeat_interleave(2, dim=2).repeat_interleave(2, dim=3)
    else:
        large = F.interpolate(image, scale_factor=2.0, mode=mode, align_corners=False)
    return large[:, :, : like.shape[2], : like.shape[3]]


def surface_around(depth: Tensor) -> Tensor:
    """Return, per pixel of depths [B, 1, H, W], the depth of a surface that surrounds it; infinite where there is none.

    Of the four lines through a pixel, each gives the farther of its two sides' nearest depths within REACH pixels;
    three lines must agree. At an outline only one line has the near surface on both sides, so that outlines do not
    grow.
    """
    padded = F.pad(depth, [REACH] * 4, value=torch.inf)
    height, width = depth.shape[2:]

    def side(dy: int, dx: int) -> Tensor:
        steps = (
            padded[:, :, REACH + k * dy : REACH + k * dy + height, REACH + k * dx : REACH + k * dx + width]
            for k in range(1, REACH + 1)
        )
        nearest = next(steps)
        for step in steps:
            nearest = torch.minimum(nearest, step)
        return nearest

    lines = [torch.maximum(side(dy, dx), side(-dy, -dx)) for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1))]
    return torch.stack(lines).sort(0).values[2]
