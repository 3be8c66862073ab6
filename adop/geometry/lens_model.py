"""Lens models: which pixel sees a camera-space point, and which direction a pixel sees.

- `opencv`: a pinhole with OpenCV's eight distortion coefficients.
- `fisheye`: OpenCV's fisheye model, COLMAP's OPENCV_FISHEYE.
- `ocam`: Scaramuzza's omnidirectional model, a polynomial from angle to radius.

Two words are used throughout the package. The *depth* z of a point is its camera z with `opencv`, and its distance to
the camera centre with `fisheye` and `ocam`: these may see more than 90 degrees off the axis, where camera z is not
positive. The *field radius* of a point tells how far off the optical axis it lies: |xy/z| with `opencv`, the angle from
the axis with `fisheye`, the angle above the image plane with `ocam`; angles in radians.
"""

import math
from typing import Literal

import torch
from torch import Tensor

Model = Literal["opencv", "fisheye", "ocam"]
DISTORTION_SIZE: dict[str, int] = {"opencv": 8, "fisheye": 4, "ocam": 20}


def project_lens(
    model: str, points: Tensor, intrinsics: Tensor, distortion: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Project camera-space points [..., 3] through lenses with intrinsics [..., 4] and distortion [..., D].

    Returns: uv [..., 2] in pixels of the full photo, depth z [...], and field radius [...], which is to be compared
        with `monotonic_radius`.

    **Gradients** exact to uv and z; the field radius has none.
    **Source** OpenCV, camera calibration and fisheye modules; Scaramuzza, Martinelli, Siegwart 2006.
    """
    x, y, z = points.unbind(-1)
    fx, fy, cx, cy = intrinsics.unbind(-1)
    if model == "opencv":
        x, y = x / z, y / z
        dx, dy = distort_opencv(x, y, distortion)
        return torch.stack((fx * dx + cx, fy * dy + cy), -1), z, (x * x + y * y).detach().sqrt()
    planar, distance = _lengths(x, y, z)
    if model == "fisheye":
        theta = torch.atan2(planar, z)
        scale = radial_profile(model, distortion, theta) / planar
        return torch.stack((fx * (scale * x) + cx, fy * (scale * y) + cy), -1), distance, theta.detach()
    theta = torch.atan2(-z, planar)
    scale = radial_profile(model, distortion, theta) / planar
    c, d, e = distortion[..., 0], distortion[..., 1], distortion[..., 2]
    row, column = scale * y, scale * x
    return torch.stack((e * row + column + cx, c * row + d * column + cy), -1), distance, theta.detach()


def _lengths(x: Tensor, y: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """Return |xy|, kept above 0 so that points on the optical axis have a finite gradient, and |xyz|."""
    square = x * x + y * y
    planar = square.clamp_min(1e-18).sqrt()
    return planar, (square + z * z).sqrt()


def distort_opencv(x: Tensor, y: Tensor, distortion: Tensor) -> tuple[Tensor, Tensor]:
    """Apply OpenCV's rational and tangential distortion to normalised image coordinates x/z and y/z."""
    k1, k2, p1, p2, k3, k4, k5, k6 = distortion.unbind(-1)
    r2 = x * x + y * y
    radial = (1 + r2 * (k1 + r2 * (k2 + r2 * k3))) / (1 + r2 * (k4 + r2 * (k5 + r2 * k6)))
    xy = x * y
    dx = x * radial + 2 * p1 * xy + p2 * (r2 + 2 * (x * x))
    dy = y * radial + p1 * (r2 + 2 * (y * y)) + 2 * p2 * xy
    return dx, dy


def radial_profile(model: str, distortion: Tensor, r: Tensor) -> Tensor:
    """Return the distorted radius of field radii `r` [...], tangential distortion left out.

    In units of the focal length with opencv and fisheye, in pixels with ocam. `distortion` [..., D] broadcasts
    against `r`.
    """
    if model == "opencv":
        dx, _ = distort_opencv(r, torch.zeros_like(r), _without_tangential(distortion))
        return dx
    if model == "fisheye":
        k1, k2, k3, k4 = distortion.unbind(-1)
        t2 = r * r
        return r * (1 + t2 * (k1 + t2 * (k2 + t2 * (k3 + t2 * k4))))
    total = distortion[..., 19]
    for k in range(18, 3, -1):
        total = total * r + distortion[..., k]
    return total


def _without_tangential(distortion: Tensor) -> Tensor:
    """Return opencv coefficients with p1 = p2 = 0."""
    radial, tangential, more = distortion.split((2, 2, 4), -1)
    return torch.cat((radial, torch.zeros_like(tangential), more), -1)


def _growth(model: str, distortion: Tensor, r: Tensor) -> Tensor:
    """Return a value that is positive where the distorted radius grows with `r` and is well defined."""
    r2 = r * r
    if model == "opencv":
        k1, k2, _, _, k3, k4, k5, k6 = distortion.unbind(-1)
        top, slope = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), 2 * r2 * (k1 + r2 * (2 * k2 + r2 * 3 * k3))
        bottom, fall = 1 + r2 * (k4 + r2 * (k5 + r2 * k6)), 2 * r2 * (k4 + r2 * (2 * k5 + r2 * 3 * k6))
        return torch.minimum((top + slope) * bottom - top * fall, bottom)
    k1, k2, k3, k4 = distortion.unbind(-1)
    return 1 + r2 * (3 * k1 + r2 * (5 * k2 + r2 * (7 * k3 + r2 * 9 * k4)))


def field_grid(model: str, like: Tensor) -> Tensor:
    """Return 1025 rising field radii that cover the model: tan of 0 to 89.4 degrees (opencv), or 0 to pi."""
    if model == "opencv":
        return torch.linspace(0, 1.56, 1025, dtype=like.dtype, device=like.device).tan()
    return torch.linspace(0, math.pi, 1025, dtype=like.dtype, device=like.device)


@torch.no_grad()
def monotonic_radius(model: str, distortion: Tensor) -> Tensor:
    """Return for each view [B] the field radius up to which the distorted radius grows with the field radius.

    Beyond it the lens would map two directions to one pixel. It is +inf (opencv) or pi (fisheye) where the distorted
    radius always grows, and with ocam the lens's own cut-off angle.
    """
    if model == "ocam":
        return distortion[:, 3].clone()
    grid = field_grid(model, distortion)
    lens = distortion[:, None, :]
    falls = _growth(model, lens, grid[None]) <= 0
    first = falls.int().argmax(1).clamp_min(1)
    low, high = grid[first - 1], grid[first]
    steps = torch.linspace(0, 1, 257, dtype=grid.dtype, device=grid.device)
    for _ in range(2):  # far from the axis the grid is coarse
        fine = low[:, None] + (high - low)[:, None] * steps
        inner = (_growth(model, lens, fine) <= 0).int().argmax(1).clamp_min(1)[:, None]
        low, high = fine.gather(1, inner - 1)[:, 0], fine.gather(1, inner)[:, 0]
    end = torch.full_like(low, math.inf if model == "opencv" else math.pi)
    return torch.where(falls.any(1), low, end)


def _is_pinhole(distortion: Tensor) -> bool:
    """Return whether nothing is distorted; a GPU, which would have to be waited for, is not asked."""
    return distortion.device.type == "cpu" and not bool(distortion.any())


@torch.no_grad()
def unproject_lens(model: str, uv: Tensor, intrinsics: Tensor, distortion: Tensor) -> Tensor:
    """Return the camera-space points [B, N, 3] of depth 1 that are seen at `uv` [B, N, 2], pixels of the full photo.

    Solved by a table and Newton steps. A pixel that sees no direction gets the outermost one that the lens sees.
    **Gradients** none.
    """
    fx, fy, cx, cy = (value[:, None] for value in intrinsics.unbind(-1))
    x, y = uv[..., 0] - cx, uv[..., 1] - cy
    if model == "opencv" and _is_pinhole(distortion):
        return torch.stack((x / fx, y / fy, torch.ones_like(x)), -1)
    lens = distortion[:, None, :]
    if model == "ocam":
        c, d, e = lens[..., 0], lens[..., 1], lens[..., 2]
        row = (y - d * x) / (c - d * e)
        x, y = x - e * row, row
    else:
        x, y = x / fx, y / fy
    radius = (x * x + y * y).sqrt()
    field = _invert_profile(model, radius, distortion)
    safe = radius.clamp_min(1e-12)
    if model == "opencv":
        x, y = _newton_opencv((x, y), (x / safe * field, y / safe * field), lens)
        return torch.stack((x, y, torch.ones_like(x)), -1)
    theta = field if model == "fisheye" else field + math.pi / 2
    return torch.stack((x / safe * theta.sin(), y / safe * theta.sin(), theta.cos()), -1)


def _invert_profile(model: str, radius: Tensor, distortion: Tensor) -> Tensor:
    """Return the field radius [B, N] whose distorted radius is `radius` [B, N]."""
    limit = monotonic_radius(model, distortion)[:, None]
    grid = field_grid(model, distortion)[None].expand(len(distortion), -1)
    if model == "ocam":
        grid = grid / math.pi * (limit + math.pi / 2) - math.pi / 2
    grid = grid.minimum(limit)
    lens = distortion[:, None, :]
    table = radial_profile(model, lens, grid).cummax(1).values
    cell = torch.searchsorted(table, radius.contiguous()).clamp(1, table.shape[1] - 1)
    low, high = table.gather(1, cell - 1), table.gather(1, cell)
    start, end = grid.gather(1, cell - 1), grid.gather(1, cell)
    step = (end - start).clamp_min(1e-12)
    r = start + step * ((radius - low) / (high - low).clamp_min(1e-12)).clamp(0, 1)
    if model == "opencv":  # _newton_opencv solves the whole model from here
        return r
    for _ in range(3):
        h = step * 1e-3
        slope = (radial_profile(model, lens, r + h) - radial_profile(model, lens, r - h)) / (2 * h)
        r = r - (radial_profile(model, lens, r) - radius) / torch.where(
            slope > 1e-9, slope, torch.ones_like(slope)
        )
        r = r.maximum(start).minimum(end)
    return r


def _newton_opencv(
    distorted: tuple[Tensor, Tensor], start: tuple[Tensor, Tensor], lens: Tensor
) -> tuple[Tensor, Tensor]:
    """Return the undistorted coordinates of distorted ones: four Newton steps of the full model from `start`."""
    k1, k2, p1, p2, k3, k4, k5, k6 = lens.unbind(-1)
    (u, v), (x, y) = distorted, start
    for _ in range(4):
        r2 = x * x + y * y
        top, slope = 1 + r2 * (k1 + r2 * (k2 + r2 * k3)), k1 + r2 * (2 * k2 + r2 * 3 * k3)
        bottom, fall = 1 + r2 * (k4 + r2 * (k5 + r2 * k6)), k4 + r2 * (2 * k5 + r2 * 3 * k6)
        radial, change = top / bottom, 2 * (slope * bottom - top * fall) / (bottom * bottom)
        dx, dy = distort_opencv(x, y, lens)
        a = radial + x * x * change + 2 * p1 * y + 6 * p2 * x
        b = x * y * change + 2 * p1 * x + 2 * p2 * y
        d = radial + y * y * change + 6 * p1 * y + 2 * p2 * x
        determinant = a * d - b * b
        good = determinant.abs() > 1e-6
        determinant = torch.where(good, determinant, torch.ones_like(determinant))
        ru, rv = (
            torch.where(good, dx - u, torch.zeros_like(u)),
            torch.where(good, dy - v, torch.zeros_like(v)),
        )
        x, y = x - (d * ru - b * rv) / determinant, y - (a * rv - b * ru) / determinant
    return x, y
