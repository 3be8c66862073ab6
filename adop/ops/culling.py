"""What each lens can see, and what a block of points must touch to be seen."""

import functools
import math

import torch
from torch import Tensor

from adop.backend.launch import Launch, Value, launch_series
from adop.geometry.lens_model import field_grid
from adop.ops.types import Points


@functools.lru_cache(maxsize=8)
def _field(model: str, dtype: torch.dtype, device: torch.device) -> Tensor:
    """Return the field radii at which a lens is searched."""
    return field_grid(model, torch.empty(0, dtype=dtype, device=device))


@torch.library.custom_op(
    "adop::look_through_lens",
    mutates_args=(),
    schema="(Tensor intrinsics, Tensor distortion, Tensor crop, str model, int width, int height) -> Tensor",
)
def look_through_lens(
    intrinsics: Tensor, distortion: Tensor, crop: Tensor, model: str, width: int, height: int
) -> Tensor:
    """Return [5 B]: first the largest field radius of each view, then [B, 4] bounds.

    The bounds hold all visible points. opencv: least and largest x/z, least and largest y/z; fisheye and
    ocam: the angle from the axis, then zeros. Like all that decides what is visible, it has no gradient.
    """
    views, field = intrinsics.shape[0], _field(model, intrinsics.dtype, intrinsics.device)
    result = intrinsics.new_ones(5 * views)
    result[:views] = 1e30 if model == "opencv" else math.pi
    values: dict[str, Value] = {
        "intrinsics": intrinsics,
        "distortion": distortion,
        "crop": crop,
        "limit": result,
        "bounds": result[views:],
        "field": field,
        "views": views,
        "width": width,
        "height": height,
        "distortion_size": distortion.shape[1],
    }
    cells = views * (len(field) - 1)
    searches = (
        [] if model == "ocam" else [Launch(f"lens_{name}_{model}", cells) for name in ("limit", "reach")]
    )
    launch_series([*searches, Launch(f"lens_bounds_{model}", views)], values, intrinsics)
    return result


@look_through_lens.register_fake
def _(intrinsics: Tensor, distortion: Tensor, crop: Tensor, model: str, width: int, height: int) -> Tensor:
    return intrinsics.new_empty(5 * intrinsics.shape[0])


def block_values(points: Points) -> dict[str, Value]:
    """Return the block table's part of the kernel arguments; every point is visited where there is none."""
    blocks, count = points.blocks, points.xyz.shape[0]
    if blocks is None:
        return {"points": count, "block_size": 256, "blocks": -(-count // 256)}
    return {
        "points": count,
        "block_size": blocks.size,
        "blocks": blocks.radius.shape[0],
        "block_lower": blocks.lower,
        "block_upper": blocks.upper,
        "block_radius": blocks.radius,
        "block_falling": blocks.falling.view(torch.uint8),
    }
