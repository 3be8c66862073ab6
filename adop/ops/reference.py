"""project, rasterize and draw in plain torch, on any device: what the kernels are tested against.

All functions work on the visible pairs (view, point).
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from adop.geometry.camera import Camera, level_size
from adop.geometry.lens_model import monotonic_radius, project_lens
from adop.geometry.rolling_shutter import apply_motion, row_time
from adop.ops.types import HARMONIC_COEFFICIENTS, Levels, Points, Projection, RasterConfig, check_background


@dataclass(frozen=True)
class VisiblePairs:
    """Points that are visible in views."""

    view: Tensor  # [P] index
    point: Tensor  # [P] index
    uv: Tensor  # [P, 2] pixels of the crop
    z: Tensor  # [P] depth
    radius_px: Tensor  # [P]
    ghost: Tensor | None  # [P] bool


def project(camera: Camera, points: Points, near: float) -> Projection:
    """Project all points into all views.

    **Gradients** of uv and z exact to points, pose, intrinsics, distortion and motion; the time at which a point's row
    is read out counts as a constant.
    """
    view, point = visible_pairs(camera, points, near)
    uv, z, radius_px = project_pairs(camera, points, view, point)
    shape = (len(camera), points.xyz.shape[0])
    index = view * shape[1] + point

    def spread(values: Tensor) -> Tensor:
        flat = values.new_zeros(shape[0] * shape[1], *values.shape[1:])
        return flat.index_put((index,), values).reshape(*shape, *values.shape[1:])

    visible = spread(torch.ones_like(point, dtype=torch.bool))
    centres = camera.centre().detach().to(points.xyz.dtype)
    return Projection(spread(uv), spread(z), spread(radius_px), visible, points.xyz.detach(), centres)


def camera_space(xyz: Tensor, world_to_camera: Tensor) -> Tensor:
    """Transform points [..., 3] by poses [..., 4, 4], written out so that all backends round alike."""
    m = world_to_camera.to(xyz.dtype)
    x, y, z = xyz.unbind(-1)
    rows = [m[..., i, 0] * x + m[..., i, 1] * y + m[..., i, 2] * z + m[..., i, 3] for i in range(3)]
    return torch.stack(rows, -1)


@torch.no_grad()
def visible_pairs(camera: Camera, points: Points, near: float) -> tuple[Tensor, Tensor]:
    """Return the views and the points [P] of all visible pairs, view by view, points in ascending order."""
    xyz = points.xyz
    limit = monotonic_radius(camera.model, camera.distortion.to(xyz.dtype))
    finite = torch.isfinite(xyz).all(1) & torch.isfinite(points.radius)
    views, indices = [], []
    for b in range(len(camera)):
        candidates = finite.nonzero().squeeze(1)
        local = camera_space(xyz[candidates], camera.world_to_camera[b])
        seen = at_row_time(camera, local, torch.full_like(candidates, b))
        z = seen[:, 2] if camera.model == "opencv" else seen.norm(dim=1)
        if points.normals is not None:
            rotation = camera.world_to_camera[b, :3, :3].to(xyz.dtype)
            facing = rotated_dot(rotation, points.normals[candidates], local) <= 0
        else:
            facing = torch.ones_like(z, dtype=torch.bool)
        keep = (z >= near) & facing
        candidates = candidates[keep]
        view = torch.full_like(candidates, b)
        uv, _, field = _lens(camera, seen[keep], view)
        size = uv.new_tensor([camera.width, camera.height])
        inside = ((uv >= 0) & (uv < size)).all(1) & (field <= limit[b])
        views.append(view[inside])
        indices.append(candidates[inside])
    return torch.cat(views), torch.cat(indices)


def rotated_dot(rotation: Tensor, normals: Tensor, local: Tensor) -> Tensor:
    """Return `(R n) . p` of world normals and camera-space points; positive where a point faces away."""
    x, y, z = normals.unbind(-1)
    r = rotation
    turned = [r[i, 0] * x + r[i, 1] * y + r[i, 2] * z for i in range(3)]
    return turned[0] * local[:, 0] + turned[1] * local[:, 1] + turned[2] * local[:, 2]


def at_row_time(camera: Camera, local: Tensor, view: Tensor) -> Tensor:
    """Return where camera-space points [P, 3] of views [P] are when their rows are read out, see `rolling_shutter`."""
    if camera.motion is None:
        return local
    intrinsics, distortion = camera.intrinsics.to(local.dtype)[view], camera.distortion.to(local.dtype)[view]
    still = project_lens(camera.model, local.detach(), intrinsics.detach(), distortion.detach())[0]
    time = row_time(still[:, 1], camera.photo_height.to(local.dtype)[view])
    return apply_motion(local, camera.motion.to(local.dtype)[view], time)


def _lens(camera: Camera, local: Tensor, view: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Project camera-space points [P, 3] of views [P] to the crop: uv, depth, field radius."""
    intrinsics, distortion = camera.intrinsics.to(local.dtype)[view], camera.distortion.to(local.dtype)[view]
    crop = camera.crop.to(local.dtype)[view]
    uv, z, field = project_lens(camera.model, local, intrinsics, distortion)
    return crop[:, :1] * uv - crop[:, 1:], z, field


def project_pairs(
    camera: Camera, points: Points, view: Tensor, point: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """Return uv [P, 2], z [P] and radius_px [P] of visible pairs; radius_px carries no gradient."""
    local = camera_space(points.xyz[point], camera.world_to_camera[view])
    uv, z, _ = _lens(camera, at_row_time(camera, local, view), view)
    focal = (camera.crop[:, 0] * camera.intrinsics[:, 0]).to(z.dtype)
    radius_px = (focal[view] * points.radius[point] / z).detach()
    return uv, z, radius_px


def rasterize(
    projection: Projection,
    features: Tensor,
    size: tuple[int, int],
    config: RasterConfig,
    background: Tensor | list[Tensor] | None = None,
    ghosts: Tensor | None = None,
) -> Levels:
    """Draw projected points to levels of height and width `size`. **Gradients** as of `adop.ops.rasterize`."""
    view, point = projection.visible.nonzero(as_tuple=True)
    parts = (projection.uv[view, point], projection.z[view, point], projection.radius_px[view, point])
    pairs = VisiblePairs(view, point, *parts, None if ghosts is None else ghosts[view, point])
    if not config.harmonics:
        seen = features[point]
    else:
        assert projection.xyz is not None and projection.centres is not None
        seen = seen_features(features[point], projection.xyz[point], projection.centres[view])
    empty = check_background(background, projection.uv.shape[0], size, config, features)
    return rasterize_pairs(pairs, seen, (projection.uv.shape[0], *size), config, empty)


def seen_features(features: Tensor, xyz: Tensor, centres: Tensor) -> Tensor:
    """Return what features [P, C + 9] look like, [P, C], at world points [P, 3] seen from camera centres [P, 3].

    **Source** Ramamoorthi and Hanrahan 2001: spherical harmonics, here of the first order.
    """
    direction = torch.nn.functional.normalize(xyz - centres, dim=1)
    colours, coefficients = features[:, :3], features[:, -HARMONIC_COEFFICIENTS:].unflatten(1, (3, 3))
    spare = features[:, 3:-HARMONIC_COEFFICIENTS]
    return torch.cat((colours + (coefficients * direction[:, None]).sum(2), spare), 1)


def draw(
    camera: Camera,
    points: Points,
    features: Tensor,
    config: RasterConfig,
    background: Tensor | list[Tensor] | None = None,
    ghosts: Tensor | None = None,
) -> Levels:
    """Project and rasterize without the dense [B, N] tensors in between."""
    view, point = visible_pairs(camera, points, config.near)
    parts = project_pairs(camera, points, view, point)
    pairs = VisiblePairs(view, point, *parts, None if ghosts is None else ghosts[view, point])
    seen = features[point]
    if config.harmonics:
        centres = camera.centre().detach().to(points.xyz.dtype)
        seen = seen_features(seen, points.xyz.detach()[point], centres[view])
    size = (camera.height, camera.width)
    empty = check_background(background, len(camera), size, config, features)
    return rasterize_pairs(pairs, seen, (len(camera), *size), config, empty)


def rasterize_pairs(
    pairs: VisiblePairs,
    features: Tensor,
    size: tuple[int, int, int],
    config: RasterConfig,
    background: list[Tensor],
) -> Levels:
    """Draw visible pairs with features [P, C], level by level, to as many views, rows and columns as `size` says."""
    view, uv, z, ghost = pairs.view, pairs.uv, pairs.z, pairs.ghost
    solid = torch.ones_like(z, dtype=torch.bool) if ghost is None else ~ghost
    bilinear = config.position_gradient == "bilinear"
    levels = Levels([], [], [])
    for level in range(config.levels):
        large = pairs.radius_px * 2.0**-level >= config.radius_threshold
        rows, columns = level_size(*size[1:], level)
        cell = (uv.detach() * 2.0**-level).floor().long()
        pixel = (view * rows + cell[:, 1]) * columns + cell[:, 0]
        drawn = solid & large
        planes = _blend(pixel[drawn], z.detach()[drawn], features[drawn], size[0] * rows * columns, config)
        image, weight, depth = (
            plane.reshape(size[0], rows, columns, -1).permute(0, 3, 1, 2) for plane in planes
        )
        image = torch.where(weight > 0, image, background[level])
        if uv.requires_grad and (bilinear or ghost is not None):
            moved = large if bilinear or ghost is None else ghost & large
            parts = (uv[moved], z.detach()[moved], view[moved], features.detach()[moved])
            image = _PositionGradient.apply(image, *parts, weight, depth, level, config)
        levels.features.append(image.contiguous())
        levels.weight.append(weight.contiguous())
        levels.depth.append(depth.contiguous())
    return levels


def _blend(
    pixel: Tensor, z: Tensor, features: Tensor, pixels: int, config: RasterConfig
) -> tuple[Tensor, Tensor, Tensor]:
    """Return the mean feature [pixels, C], weight [pixels, 1] and depth [pixels, 1] of drawn pairs."""
    depth = z.new_full((pixels,), torch.inf).scatter_reduce(0, pixel, z, "amin")
    counts = z <= depth[pixel] * (1 + config.depth_tolerance)
    pixel = pixel[counts]
    weight = z.new_zeros(pixels).index_add(0, pixel, torch.ones_like(z[counts]))[:, None]
    total = features.new_zeros(pixels, features.shape[1]).index_add(0, pixel, features[counts])
    return total / weight.clamp_min(1), weight, depth[:, None]


class _PositionGradient(torch.autograd.Function):
    """Return an image as it is, with an approximate gradient to the pixels of points.

    Of ghosts, how the loss would change if they were drawn at a neighbouring pixel; or, bilinear, of all points, the
    slope of a footprint of 2 x 2 pixels. **Source** Rückert et al. 2022, ADOP, section 4.2, all three cases.
    """

    @staticmethod
    def forward(ctx: Any, image: Tensor, uv: Tensor, *rest: Any) -> Tensor:
        z, view, feature, weight, depth, ctx.level, config = rest
        ctx.alpha, ctx.bilinear = config.depth_tolerance, config.position_gradient == "bilinear"
        ctx.save_for_backward(image, uv, z, view, feature, weight, depth)
        return image.view_as(image)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        image, uv, z, view, feature, weight, depth = ctx.saved_tensors
        rows, columns = image.shape[2:]
        position = uv * 2.0**-ctx.level - 0.5 * ctx.bilinear
        x, y = position.floor().long().unbind(1)
        low, high = (0, 1) if ctx.bilinear else (2, 2)
        inner = (x >= low) & (y >= low) & (x < columns - high) & (y < rows - high)
        x, y, z, view, feature = x[inner], y[inner], z[inner], view[inner], feature[inner]

        def loss_change(dx: int, dy: int) -> Tensor:
            i, d, w = (t[view, :, y + dy, x + dx] for t in (image, depth, weight))
            near, far = z[:, None] * (1 + ctx.alpha), d * (1 + ctx.alpha)
            replaced = (w == 0) | (near < d)
            blended = torch.where(z[:, None] > far, torch.zeros_like(i), (w * i + feature) / (w + 1) - i)
            change = torch.where(replaced, feature - i, blended)
            return (change * grad[view, :, y + dy, x + dx]).sum(1)

        if ctx.bilinear:
            first, second = loss_change(0, 0), loss_change(1, 0)
            third, last = loss_change(0, 1), loss_change(1, 1)
            part_x, part_y = (position - position.floor())[inner].unbind(1)
            across = (1 - part_y) * (second - first) + part_y * (last - third)
            down = (1 - part_x) * (third - first) + part_x * (last - second)
        else:
            across = (loss_change(1, 0) - loss_change(-1, 0)) / 2
            down = (loss_change(0, 1) - loss_change(0, -1)) / 2
        slope = torch.stack((across, down), 1) * 2.0**-ctx.level
        grad_uv = torch.zeros_like(uv).index_put((inner.nonzero().squeeze(1),), slope)
        return grad, grad_uv, *([None] * 7)
