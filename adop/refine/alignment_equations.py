"""How a picture moves with its camera: normal equations of Gauss-Newton on the picture, as functions on tensors."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.geometry.camera import Camera
from adop.geometry.lens_model import project_lens
from adop.geometry.rigid_motion import skew
from adop.geometry.rolling_shutter import apply_motion, row_time

ROBUST = 0.05  # of the photo's range: a larger difference counts less and less
POSE = 6
GAIN_CELLS = 9  # of 48 across the picture, that the gain is averaged over twice
BORDER = 2  # pixels at the picture's edge whose gradient is one-sided


@dataclass(frozen=True)
class AlignmentEquations:
    """Gauss-Newton's normal equations `matrix @ change = -gradient` of one photo, means over its pixels.

    The changes are the pose's six, the motion's six where they were asked for, and those of the lens.
    """

    matrix: Tensor  # [K, K] float64
    gradient: Tensor  # [K] float64
    cost: float  # mean of log(1 + (difference / 0.05)^2) over pixels and channels
    pixels: float  # share of the photo's pixels that were compared
    distance: float  # median depth of the pixels, scene units


def smooth(image: Tensor, mask: Tensor, sigma: float) -> Tensor:
    """Return `image` [1, C, H, W] blurred within `mask` [1, 1, H, W]: what is outside leaks nowhere."""
    if sigma <= 0:
        return image * mask
    reach = max(1, round(2.5 * sigma))
    offset = torch.arange(-reach, reach + 1, device=image.device, dtype=image.dtype)
    kernel = torch.exp(-offset.square() / (2 * sigma**2))
    kernel = kernel / kernel.sum()
    both = torch.cat((image * mask, mask), dim=1)
    stacked = both.transpose(0, 1)
    stacked = F.conv2d(stacked, kernel[None, None, None], padding=(0, reach))
    stacked = F.conv2d(stacked, kernel[None, None, :, None], padding=(reach, 0))
    both = stacked.transpose(0, 1)
    return both[:, :-1] / both[:, -1:].clamp_min(1e-6) * mask


def slopes(image: Tensor) -> Tensor:
    """Return the central differences [2, C, H, W] along u and v of `image` [1, C, H, W]."""
    padded = F.pad(image, (1, 1, 1, 1), mode="replicate")[0]
    along_u = (padded[:, 1:-1, 2:] - padded[:, 1:-1, :-2]) / 2
    along_v = (padded[:, 2:, 1:-1] - padded[:, :-2, 1:-1]) / 2
    return torch.stack((along_u, along_v))


def fit_gain(picture: Tensor, photo: Tensor, weight: Tensor, rounds: int = 2) -> Tensor:
    """Return the smooth gain [1, C, H, W] with which the picture meets the photo, robustly.

    It follows exposure, white balance and vignette, which are not to be taken for a motion: its details are a
    sixth of the picture's width wide.
    """
    height, width = picture.shape[2:]
    cell = max(1, width // 48)
    gain = torch.ones_like(picture[:, :, :1, :1])
    for local in [False] * rounds + [True]:
        trust = weight / (1 + ((gain * picture - photo) / ROBUST).square())
        both = torch.cat((trust * picture * photo, trust * picture.square()), dim=1)
        if local:
            both = F.avg_pool2d(both, cell, ceil_mode=True)
            for _ in range(2):
                both = F.avg_pool2d(both, GAIN_CELLS, stride=1, padding=GAIN_CELLS // 2)
            both = F.interpolate(both, size=(height, width), mode="bilinear", align_corners=False)
        else:
            both = both.mean((2, 3), keepdim=True)
        product, square = both.chunk(2, dim=1)
        gain = torch.where(square > 1e-6, product / square.clamp_min(1e-6), gain).clamp(0.05, 20)
    return gain


def read_out(camera: Camera, still: Tensor) -> tuple[Tensor, Tensor]:
    """Return where camera-space points [M, 3] of one camera are when their rows are taken, and the times [M]."""
    row = project_lens(camera.model, still, camera.intrinsics[0], camera.distortion[0])[0][:, 1]
    time = row_time(row, camera.photo_height[0])
    return still if camera.motion is None else apply_motion(still, camera.motion[0], time), time


def motion_of_points(
    camera: Camera, xyz: Tensor, lens_columns: list[int], rolling_shutter: bool = False
) -> tuple[Tensor, Tensor]:
    """Return how the pixels of world points [M, 3] move with one camera.

    Returns: [M, 2, 6 + K] pixels of the crop per unit of the pose's twist (left update, translation first) and of
        the chosen `lens_columns` of intrinsics and distortion laid end to end, with `rolling_shutter` six more
        between them for the camera's motion; and [M, 2, 3] per scene unit of the point itself. Exact, the time at
        which a point's row is taken being a constant. **Source** the chain rule on the lens model, see
        `adop.geometry.camera.project_lens`.
    """
    rotation, translation = camera.world_to_camera[0, :3, :3], camera.world_to_camera[0, :3, 3]
    still = (xyz @ rotation.T + translation).detach()
    local, time = read_out(camera, still) if camera.motion is not None or rolling_shutter else (still, still)
    intrinsics, distortion, zoom = camera.intrinsics[0], camera.distortion[0], camera.crop[0, 0]
    lens = torch.cat((intrinsics, distortion)).detach().expand(len(local), -1).clone()
    with torch.enable_grad():
        # Each point has a lens of its own here, so that two backward passes are the whole Jacobian.
        seen, lens = local.clone().requires_grad_(), lens.requires_grad_()
        uv = project_lens(camera.model, seen, *lens.split((len(intrinsics), len(distortion)), dim=1))[0]
        rows = [torch.autograd.grad(uv[:, i].sum(), (seen, lens), retain_graph=i == 0) for i in range(2)]
    by_seen, by_lens = (torch.stack(parts, dim=1) for parts in zip(*rows, strict=True))
    by_local = by_seen
    if camera.motion is not None:
        by_local = by_seen + time[:, None, None] * (by_seen @ skew(camera.motion[0, 3:]))
    parts = [by_local, -by_local @ skew(still)]
    if rolling_shutter:
        later = time[:, None, None] * by_seen
        parts += [later, -later @ skew(still)]
    if lens_columns:
        parts.append(by_lens[:, :, lens_columns])
    return zoom * torch.cat(parts, dim=2), zoom * (by_local @ rotation)


@torch.no_grad()
def normal_equations(
    picture: Tensor,
    photo: Tensor,
    depth: Tensor,
    mask: Tensor,
    camera: Camera,
    lens_columns: list[int],
    sigma: float = 1.0,
    pixels: int = 60_000,
    rolling_shutter: bool = False,
    directions: Tensor | None = None,
) -> AlignmentEquations:
    """Return what a change of the camera would do to the difference between a picture and its photo.

    `d picture / d parameter = - slope of the picture * d uv / d parameter`, at each pixel's depth. The slope is the
    mean of the picture's and the photo's, both blurred; a smooth gain is fitted; differences beyond 0.05 count
    less and less.

    Args:
        picture, photo: [1, 3, H, W] in [0, 1].
        depth: [1, 1, H, W] scene units as `adop.geometry.camera` counts them; +inf where nothing is known.
        mask: [1, 1, H, W] 1 where the photo counts.
        camera: one view, that the picture was drawn from.
        lens_columns: which of intrinsics and distortion, laid end to end, are asked for beside the pose's six.
        sigma: of the blur, pixels.
        pixels: about so many are used for the equations, evenly spread (the cost takes all).
        rolling_shutter: ask for the camera's motion too.
        directions: [H, W, 3] of `camera.lens_directions` at the pixels' centres, where they are known.

    Source: design.md section 4; the mean slope is that of efficient second-order minimisation (Malis 2004).
    """
    known = torch.isfinite(depth).float() * mask
    picture, photo = smooth(picture, known, sigma), smooth(photo, known, sigma)
    inner = torch.zeros_like(known)
    inner[:, :, BORDER:-BORDER, BORDER:-BORDER] = known[:, :, BORDER:-BORDER, BORDER:-BORDER]
    # Where the mask ends a slope is the mask's, not the picture's.
    inner = inner * (F.avg_pool2d(known, 3, stride=1, padding=1) > 0.99)
    picture = picture * fit_gain(picture, photo, inner)
    difference = (picture - photo) / ROBUST
    total = inner.sum().clamp_min(1)
    cost = float((inner * difference.square().log1p()).sum().double() / (3 * total))
    count = (2 * POSE if rolling_shutter else POSE) + len(lens_columns)
    step = max(1, round((float(total) / pixels) ** 0.5))
    grid = torch.zeros_like(inner)
    grid[:, :, step // 2 :: step, step // 2 :: step] = 1
    rows, columns = torch.nonzero((inner * grid)[0, 0] > 0, as_tuple=True)
    if len(rows) < 200:
        nothing = torch.zeros(count, dtype=torch.float64)
        return AlignmentEquations(nothing.diag(), nothing, cost, 0.0, 1.0)
    uv = torch.stack((columns, rows), dim=1).to(depth.dtype) + 0.5
    z = depth[0, :, rows, columns]
    xyz = camera.unproject(uv[None], z, None if directions is None else directions[None, rows, columns])[0]
    by_camera, _ = motion_of_points(camera, xyz, lens_columns, rolling_shutter)
    slope = (0.5 * (slopes(picture) + slopes(photo)))[:, :, rows, columns]
    jacobian = -torch.einsum("dcm,mdk->cmk", slope, by_camera).double() / ROBUST
    error = difference[0][:, rows, columns].double()
    weight = 1 / (1 + error.square())
    weighted = jacobian * weight[..., None]
    samples = error.numel()
    matrix = torch.einsum("cmk,cml->kl", weighted, jacobian) / samples
    gradient = torch.einsum("cmk,cm->k", weighted, error) / samples
    return AlignmentEquations(
        matrix.cpu(), gradient.cpu(), cost, float(total) / inner.numel(), float(z.median())
    )


@torch.no_grad()
def pixel_shift(
    camera: Camera, other: Camera, depth: Tensor, directions: Tensor | None = None, most: int = 5000
) -> float:
    """Return the median distance in pixels between where two cameras see the places of `depth` [1, 1, H, W].

    Args: directions: [H, W, 3] of the first camera at the depth's pixels, where they are known.
    """
    rows, columns = torch.nonzero(torch.isfinite(depth[0, 0]), as_tuple=True)
    if len(rows) == 0:
        return 0.0
    step = max(1, len(rows) // most)
    rows, columns = rows[::step], columns[::step]
    # The depth may be of a smaller picture than the camera's.
    scale = camera.width // depth.shape[3]
    uv = scale * (torch.stack((columns, rows), dim=1).to(depth.dtype) + 0.5)
    known = None if directions is None else directions[None, rows, columns]
    xyz = camera.unproject(uv[None], depth[0, :, rows, columns], known)[0]
    return float((project_points(other, xyz) - uv).norm(dim=1).median())


def project_points(camera: Camera, xyz: Tensor) -> Tensor:
    """Return where one camera sees world points [M, 3], pixels of the crop [M, 2]; nothing is left out."""
    rotation, translation = camera.world_to_camera[0, :3, :3], camera.world_to_camera[0, :3, 3]
    local = xyz @ rotation.T + translation
    if camera.motion is not None:
        local, _ = read_out(camera, local)
    uv = project_lens(camera.model, local, camera.intrinsics[0], camera.distortion[0])[0]
    return camera.crop[0, 0] * uv - camera.crop[0, 1:]
