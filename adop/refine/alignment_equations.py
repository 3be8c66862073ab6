"""Photometric alignment of one camera: how pixels move with the camera, and the normal equations that follow."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.config import AlignConfig
from adop.geometry.camera import Camera
from adop.geometry.lens_model import project_lens
from adop.geometry.rigid_motion import se3_exp, skew
from adop.geometry.rolling_shutter import apply_motion, row_time

# Scale of Cauchy's cost, in the image's range [0, 1]: residuals beyond it lose weight.
RESIDUAL_SCALE = 0.05
POSE_SIZE = 6  # components of a twist
GAIN_CELLS = 48  # cells across the image in which the gain is fitted
GAIN_WINDOW = 9  # cells that it is averaged over, twice
BORDER_PX = 2  # at the image's edge, where the blur and the gradient are one-sided
MIN_PIXELS = 200  # that equations are made of
SHIFT_PIXELS = 5000  # at most, over which `pixel_shift` takes its median


@dataclass(frozen=True)
class RefinedParameters:
    """Which parameters of the cameras are refined."""

    poses: bool = True
    intrinsics: bool = True
    distortion: bool = True
    rolling_shutter: bool = False

    def any(self) -> bool:
        """Return whether there is anything to refine."""
        return self.poses or self.intrinsics or self.distortion or self.rolling_shutter


def lens_columns(
    model: str, distortion: Tensor, config: AlignConfig, refined: RefinedParameters
) -> list[int]:
    """Return which of intrinsics and distortion, concatenated, are refined.

    Of the distortion: k1, k2, and the coefficients that are not zero.
    """
    columns: list[int] = []
    if refined.intrinsics and model != "ocam":
        columns += [0, 1]
    if refined.intrinsics and config.principal_point:
        columns += [2, 3]
    if refined.distortion and model != "ocam":
        tangential = (2, 3) if model == "opencv" else ()
        used = [i for i, value in enumerate(distortion.tolist()) if i < 2 or value != 0]
        columns += [4 + i for i in used if config.principal_point or i not in tangential]
    return columns


@dataclass(frozen=True)
class CameraColumns:
    """The parameters of a camera that equations are made for, in the order of their columns.

    First the twist of the pose [6], then, with a rolling shutter, the twist of its motion [6], then some parameters
    of the lens.
    """

    lens: list[int]  # [L] indices into intrinsics and distortion, concatenated
    rolling_shutter: bool = False

    @property
    def per_photo(self) -> int:
        """Number of columns of the photo itself, 6 or 12; the others are those of its lens."""
        return 2 * POSE_SIZE if self.rolling_shutter else POSE_SIZE

    def __len__(self) -> int:
        """Return the number K of columns."""
        return self.per_photo + len(self.lens)


@dataclass(frozen=True)
class CameraTrajectory:
    """How a camera moves while the rows of its photo are read out: from a pose, at a constant motion."""

    pose: Tensor  # [4, 4] float64 world_to_camera, at the middle row
    motion: Tensor  # [6] float64, see `adop.geometry.rolling_shutter`

    def updated(self, change: Tensor) -> CameraTrajectory:
        """Return the trajectory after the change [6] of its pose's twist, or [12] of its pose's and its motion's."""
        pose = se3_exp(change[:POSE_SIZE]) @ self.pose
        motion = self.motion + change[POSE_SIZE:] if len(change) > POSE_SIZE else self.motion
        return CameraTrajectory(pose, motion)


@dataclass(frozen=True)
class ImagePair:
    """A photo, and the scene rendered as the photo's camera would take it."""

    image: Tensor  # [1, 3, H, W] rendered, in [0, 1]
    depth: Tensor  # [1, 1, H, W] rendered, scene units; +inf where there are no points
    photo: Tensor  # [1, 3, H, W] in [0, 1]
    mask: Tensor  # [1, 1, H, W] 1 where the photo counts, else 0


@dataclass(frozen=True)
class AlignmentEquations:
    """Gauss-Newton's normal equations `matrix @ change = -gradient` of one photo, means over its pixels.

    The K columns are those of `CameraColumns`.
    """

    matrix: Tensor  # [K, K] float64
    gradient: Tensor  # [K] float64
    cost: float  # mean of log(1 + residual^2) over pixels and channels, residuals in units of RESIDUAL_SCALE
    coverage: float  # share of the photo's pixels that were compared; 0: too few for equations
    depth: float  # median depth of the pixels, scene units


def masked_blur(image: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """Return `image` [1, C, H, W] blurred by a Gaussian of `sigma` pixels over `mask` [1, 1, H, W] only.

    Masked pixels do not leak into others, and are 0 in the result.
    """
    if sigma <= 0:
        return image * mask
    radius = max(1, round(2.5 * sigma))
    offset = torch.arange(-radius, radius + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-offset.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    blurred = torch.cat((image * mask, mask), dim=1)
    for axis in (3, 2):
        blurred = _convolve(blurred, kernel.tolist(), axis)
    return blurred[:, :-1] / blurred[:, -1:].clamp_min(1e-6) * mask


def _convolve(image: Tensor, kernel: list[float], axis: int) -> Tensor:
    """Return `image` convolved along one axis with a symmetric kernel of odd length; what lies outside counts as 0.

    Sums of shifted images are many times as fast on a CPU as `conv2d` with one channel.
    """
    radius, size = len(kernel) // 2, image.shape[axis]
    result = image * kernel[radius]
    for offset in range(1, min(radius, size - 1) + 1):
        weight, length = kernel[radius + offset], size - offset
        result.narrow(axis, offset, length).add_(image.narrow(axis, 0, length), alpha=weight)
        result.narrow(axis, 0, length).add_(image.narrow(axis, offset, length), alpha=weight)
    return result


def image_gradient(image: Tensor) -> Tensor:
    """Return the central differences [2, C, H, W] of `image` [1, C, H, W] along u and v, per pixel."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")[0]
    along_u = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    along_v = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    return torch.stack((along_u, along_v))


def fit_gain(image: Tensor, photo: Tensor, weight: Tensor, rounds: int = 2) -> Tensor:
    """Return the smooth gain [1, C, H, W] that brings a rendered image closest to the photo, robustly.

    It absorbs errors of exposure, white balance and vignetting, which would otherwise be taken for motion. It varies
    over about a sixth of the image's width.

    Args:
        image, photo: [1, C, H, W] in [0, 1].
        weight: [1, 1, H, W] of each pixel.
        rounds: reweighted fits of one gain for the whole image, before the local one.
    """
    height, width = image.shape[2:]
    cell = max(1, width // GAIN_CELLS)
    gain = torch.ones_like(image[:, :, :1, :1])
    for local in [False] * rounds + [True]:
        robust = weight / (1 + ((gain * image - photo) / RESIDUAL_SCALE).square())
        sums = torch.cat((robust * image * photo, robust * image.square()), dim=1)
        if local:
            sums = F.avg_pool2d(sums, cell, ceil_mode=True)
            for _ in range(2):
                sums = F.avg_pool2d(sums, GAIN_WINDOW, stride=1, padding=GAIN_WINDOW // 2)
            sums = F.interpolate(sums, size=(height, width), mode="bilinear", align_corners=False)
        else:
            sums = sums.mean((2, 3), keepdim=True)
        product, square = sums.chunk(2, dim=1)
        gain = torch.where(square > 1e-6, product / square.clamp_min(1e-6), gain).clamp(0.05, 20)
    return gain


def apply_rolling_shutter(camera: Camera, points: Tensor) -> tuple[Tensor, Tensor]:
    """Return camera-space points [M, 3] as they are when their row is read out, and the times [M] of the rows.

    Args:
        camera: one view.
        points: [M, 3] in the space of the camera at its middle row.
    """
    row = project_lens(camera.model, points, camera.intrinsics[0], camera.distortion[0])[0][:, 1]
    time = row_time(row, camera.photo_height[0])
    return points if camera.motion is None else apply_motion(points, camera.motion[0], time), time


def projection_jacobian(camera: Camera, xyz: Tensor, columns: CameraColumns) -> tuple[Tensor, Tensor]:
    """Return how the pixels of world points [M, 3] move with one camera, and with the points.

    Returns:
        [M, 2, K] pixels of the crop per unit of each of the camera's `columns`; twists act on the left, translation
        first. And [M, 2, 3] pixels per scene unit of the point. Exact, except that the time at which a point's row
        is read out is held constant.

    Source: the chain rule through `adop.geometry.lens_model.project_lens`.
    """
    rotation, translation = camera.world_to_camera[0, :3, :3], camera.world_to_camera[0, :3, 3]
    still = (xyz @ rotation.T + translation).detach()
    local, time = still, torch.zeros_like(still[:, 0])
    if camera.motion is not None or columns.rolling_shutter:
        local, time = apply_rolling_shutter(camera, still)
    intrinsics, distortion, zoom = camera.intrinsics[0], camera.distortion[0], camera.crop[0, 0]
    lens = torch.cat((intrinsics, distortion)).detach().expand(len(local), -1).clone()
    with torch.enable_grad():
        # Each point has a copy of the lens, so that two backward passes give the whole Jacobian.
        local, lens = local.clone().requires_grad_(), lens.requires_grad_()
        uv = project_lens(camera.model, local, *lens.split((len(intrinsics), len(distortion)), dim=1))[0]
        rows = [torch.autograd.grad(uv[:, i].sum(), (local, lens), retain_graph=i == 0) for i in range(2)]
    by_local, by_lens = (torch.stack(parts, dim=1) for parts in zip(*rows, strict=True))
    by_still = by_local
    if camera.motion is not None:
        by_still = by_local + time[:, None, None] * (by_local @ skew(camera.motion[0, 3:]))
    parts = [by_still, -by_still @ skew(still)]
    if columns.rolling_shutter:
        by_motion = time[:, None, None] * by_local
        parts += [by_motion, -by_motion @ skew(still)]
    if columns.lens:
        parts.append(by_lens[:, :, columns.lens])
    return zoom * torch.cat(parts, dim=2), zoom * (by_still @ rotation)


@torch.no_grad()
def normal_equations(
    pair: ImagePair,
    camera: Camera,
    columns: CameraColumns,
    sigma: float = 1.0,
    pixels: int = 60_000,
    directions: Tensor | None = None,
) -> AlignmentEquations:
    """Return the normal equations that bring a rendered image towards its photo by changing the camera.

    `d image / d parameter = - image gradient * d uv / d parameter`, at each pixel's depth. The gradient is the mean
    of those of image and photo, both blurred; a smooth gain is fitted first; Cauchy's cost bounds the weight of
    large residuals.

    Args:
        camera: one view, with which the image was rendered.
        columns: the parameters to solve for.
        sigma: of the blur, pixels.
        pixels: about so many go into matrix and gradient, evenly spread; the cost takes all.
        directions: [H, W, 3] `camera.lens_directions` at the pixel centres; None: they are computed.

    Source: direct image alignment (Baker & Matthews 2004, Lucas-Kanade 20 years on) with the mean gradient of
        efficient second-order minimisation (Malis 2004); the gain is ours.
    """
    depth, valid = pair.depth, torch.isfinite(pair.depth).float() * pair.mask
    image, photo = masked_blur(pair.image, valid, sigma), masked_blur(pair.photo, valid, sigma)
    inner = _interior(valid)
    image = image * fit_gain(image, photo, inner)
    residuals = (image - photo) / RESIDUAL_SCALE
    total = inner.sum().clamp_min(1)
    cost = float((inner * residuals.square().log1p()).sum().double() / (3 * total))
    v, u = _subsample(inner, max(1, round((float(total) / pixels) ** 0.5)))
    if len(v) < MIN_PIXELS:
        zero = torch.zeros(len(columns), dtype=torch.float64)
        return AlignmentEquations(zero.diag(), zero, cost, 0.0, 1.0)
    uv = torch.stack((u, v), dim=1).to(depth.dtype) + 0.5
    z = depth[0, :, v, u]
    xyz = camera.unproject(uv[None], z, None if directions is None else directions[None, v, u])[0]
    by_camera, _ = projection_jacobian(camera, xyz, columns)
    # All channels of a pixel share its 2 x K Jacobian, so their gradients are first summed to 2 x 2 and 2.
    slope = (0.5 * (image_gradient(image) + image_gradient(photo)))[:, :, v, u].double() / RESIDUAL_SCALE
    residual = residuals[0][:, v, u].double()
    weighted = slope / (1 + residual.square()) / residual.numel()
    uu, cross, vv = ((weighted[i] * slope[j]).sum(0)[:, None] for i, j in ((0, 0), (0, 1), (1, 1)))
    by_u, by_v = by_camera.double().unbind(1)
    matrix = by_u.T @ (uu * by_u + cross * by_v) + by_v.T @ (cross * by_u + vv * by_v)
    force = (weighted * residual).sum(1)
    gradient = -(by_u.T @ force[0] + by_v.T @ force[1])
    coverage = float(total) / inner.numel()
    return AlignmentEquations(matrix.cpu(), gradient.cpu(), cost, coverage, float(z.median()))


def _interior(valid: Tensor) -> Tensor:
    """Return [1, 1, H, W], 1 at valid pixels whose gradient touches neither the image's edge nor the mask's."""
    inner = torch.zeros_like(valid)
    inside = slice(BORDER_PX, -BORDER_PX)
    inner[:, :, inside, inside] = valid[:, :, inside, inside]
    return inner * (F.avg_pool2d(valid, 3, stride=1, padding=1) > 0.99)


def _subsample(weight: Tensor, step: int) -> tuple[Tensor, Tensor]:
    """Return rows [M] and columns [M] of every `step`-th pixel along both axes where `weight` [1, 1, H, W] > 0."""
    grid = torch.zeros_like(weight)
    grid[:, :, step // 2 :: step, step // 2 :: step] = 1
    rows, columns = torch.nonzero((weight * grid)[0, 0] > 0, as_tuple=True)
    return rows, columns


@torch.no_grad()
def pixel_shift(camera: Camera, other: Camera, depth: Tensor, directions: Tensor | None = None) -> float:
    """Return by how many pixels the image moves from one camera to another; the median over the pixels.

    Args:
        camera: one view.
        other: the same view, moved.
        depth: [1, 1, h, w] of the first camera's image, of its size or smaller by an integer factor.
        directions: [h, w, 3] `lens_directions` of the first camera at the depth's pixels; None: they are computed.
    """
    rows, columns = torch.nonzero(torch.isfinite(depth[0, 0]), as_tuple=True)
    if len(rows) == 0:
        return 0.0
    step = max(1, len(rows) // SHIFT_PIXELS)
    rows, columns = rows[::step], columns[::step]
    scale = camera.width // depth.shape[3]
    uv = scale * (torch.stack((columns, rows), dim=1).to(depth.dtype) + 0.5)
    known = None if directions is None else directions[None, rows, columns]
    xyz = camera.unproject(uv[None], depth[0, :, rows, columns], known)[0]
    return float((project_points(other, xyz) - uv).norm(dim=1).median())


def project_points(camera: Camera, xyz: Tensor) -> Tensor:
    """Return the pixels [M, 2] of the crop at which one camera sees world points [M, 3], inside the image or not."""
    rotation, translation = camera.world_to_camera[0, :3, :3], camera.world_to_camera[0, :3, 3]
    local = xyz @ rotation.T + translation
    if camera.motion is not None:
        local, _ = apply_rolling_shutter(camera, local)
    uv = project_lens(camera.model, local, camera.intrinsics[0], camera.distortion[0])[0]
    return camera.crop[0, 0] * uv - camera.crop[0, 1:]
