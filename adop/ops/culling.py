"""What a block of points must touch to be seen, and how many of its points to visit."""

import math

import torch
from torch import Tensor

from adop.camera import Camera, field_grid, monotonic_radius, radial_profile, without_tangential
from adop.ops.types import Points


@torch.no_grad()
def view_bounds(camera: Camera, limit: Tensor) -> Tensor:
    """Return [B, 4] bounds that hold every visible point, erring outward.

    opencv: least and largest x/z, least and largest y/z; fisheye and ocam: the angle from the axis,
    three zeros.
    """
    if camera.model == "ocam":
        zero = torch.zeros_like(limit)
        return torch.stack((limit + math.pi / 2, zero, zero, zero), 1)
    low = (camera.crop[:, 1:] / camera.crop[:, :1] - camera.intrinsics[:, 2:]) / camera.intrinsics[:, :2]
    size = torch.tensor([camera.width, camera.height], dtype=low.dtype, device=low.device)
    high = low + size / camera.crop[:, :1] / camera.intrinsics[:, :2]
    far = torch.maximum(low.abs(), high.abs()).norm(dim=1, keepdim=True)
    grid = field_grid(camera.model, low)[None]
    lens = camera.distortion[:, None, :]
    if camera.model == "fisheye":
        reached = (radial_profile("fisheye", lens, grid) <= far) & (grid <= limit[:, None])
        theta = torch.where(reached, grid, 0).amax(1) + 2 * (grid[0, 1] - grid[0, 0])
        zero = torch.zeros_like(theta)
        return torch.stack((theta, zero, zero, zero), 1)
    profile = radial_profile("opencv", without_tangential(lens), grid)
    ratio = torch.where(grid > 0, grid / profile, 1)
    # Tangential distortion moves a point by at most 3 (|p1| + |p2|) r^2: widen by that, with r a tenth
    # beyond the edge.
    reached = (profile <= 1.1 * far) & (grid <= limit[:, None])
    radius = torch.where(reached, grid, 0).amax(1, keepdim=True) * 1.01 + 0.01
    reached = grid <= radius
    widen = 3 * camera.distortion[:, 2:4].abs().sum(1, keepdim=True) * radius**2
    largest = torch.where(reached, ratio, -math.inf).amax(1, keepdim=True) * 1.001
    least = torch.where(reached, ratio, math.inf).amin(1, keepdim=True) * 0.999
    low, high = low - widen, high + widen
    low, high = torch.minimum(low * least, low * largest), torch.maximum(high * least, high * largest)
    everything = (widen > 0.09 * far) | ~(least > 0)
    low, high = torch.where(everything, -1e4, low), torch.where(everything, 1e4, high)
    return torch.stack((low[:, 0], high[:, 0], low[:, 1], high[:, 1]), 1)


def field_limit(camera: Camera, dtype: torch.dtype) -> Tensor:
    """Return the largest field radius [B] that is drawn."""
    return monotonic_radius(camera.model, camera.distortion.detach().to(dtype)).contiguous()


def block_values(points: Points) -> dict[str, Tensor | int | None]:
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
