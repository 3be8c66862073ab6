"""What PatchMatch is given: photos of pinhole cameras, and how planes of one are judged by the others.

A plane is [3]: the inverse depth at the centre of its pixel, and the changes of inverse depth per pixel along u and v.
Inverse depth is linear in the pixels of a pinhole camera, so this is a plane in space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
import torch.nn.functional as F
from torch import Tensor

MAX_COST = 2.0  # of a plane along which nothing looks alike, as in patch_match.cu
MAX_SOURCES_KEPT = 4  # as in patch_match.cu


@dataclass(frozen=True)
class StereoView:
    """A photo of a pinhole camera, and its planes once they are found."""

    image: Tensor  # [H, W] grey in [0, 1]; NaN where the photo does not count
    intrinsics: Tensor  # [3, 3] f64
    world_to_camera: Tensor  # [4, 4] f64
    planes: Tensor | None = None  # [3, H, W]; inverse depth NaN where none was found


@dataclass(frozen=True)
class StereoProblem:
    """A reference photo, the photos that it is compared with, and how."""

    reference: StereoView
    # 1 to 12; all have planes, with which those of the reference must agree, or none has.
    sources: tuple[StereoView, ...]
    min_inverse: float  # least and largest inverse depth, 1 / scene unit
    max_inverse: float
    sources_kept: int = 2  # the mean cost in the best sources counts: the others may not see the surface
    # Tangent of the largest angle between surface and image plane, in the photo's middle: level ground is steep.
    max_tilt: float = 20.0
    value_spread: float = 0.1  # of a window's brightness from its centre's, at which a sample counts a 16th
    min_seen: float = 0.5  # share of the window's weight that a source must show
    min_variance: float = 5e-5  # of a window's grey values: less is no texture
    shift_weight: float = 0.2  # cost per pixel by which a plane and that of a source disagree
    max_shift: float = 3.0  # pixels

    @property
    def max_slope(self) -> float:
        """The largest change of inverse depth per pixel, relative to inverse depth."""
        return self.max_tilt / float(self.reference.intrinsics[0, 0])


def transfers(problem: StereoProblem) -> tuple[Tensor, Tensor]:
    """Return how pixels of the reference are found in each source, and how those of the sources in the reference.

    Both are [S, 3, 4] f64, see `forward` and `backward` in patch_match.cu.
    """
    sources = problem.sources
    return (
        torch.stack([transfer(problem.reference, source) for source in sources]),
        torch.stack([transfer(source, problem.reference) for source in sources]),
    )


def transfer(first: StereoView, second: StereoView) -> Tensor:
    """Return [3, 4] T: a pixel (u, v) of the first photo at inverse depth w is at T (u, v, 1, w) in the second one.

    The result is homogeneous: its third number is the depth in the second photo, times w.
    """
    motion = second.world_to_camera @ torch.linalg.inv(first.world_to_camera)
    rotation = second.intrinsics @ motion[:3, :3] @ torch.linalg.inv(first.intrinsics)
    return torch.cat((rotation, second.intrinsics @ motion[:3, 3:]), dim=1)


@dataclass(frozen=True)
class Sweep:
    """How a sweep changes planes."""

    number: int  # each has its own random numbers
    perturbation: float  # of inverse depth relative to itself, and of slopes relative to the largest


def halve_view(view: StereoView) -> StereoView:
    """Return a photo at half its size, rounded down, without planes; a pixel counts where all that it replaces do."""
    image = F.avg_pool2d(view.image[None, None], 2)[0, 0]
    scale = torch.diag(torch.tensor([0.5, 0.5, 1.0], dtype=torch.float64))
    return replace(view, image=image, intrinsics=scale @ view.intrinsics, planes=None)


def enlarge_planes(planes: Tensor, height: int, width: int) -> Tensor:
    """Return planes [3, H, W] of a photo of twice the size, from those of the photo at half its size."""
    rows = (torch.arange(height, device=planes.device) // 2).clamp_max(planes.shape[1] - 1)
    columns = (torch.arange(width, device=planes.device) // 2).clamp_max(planes.shape[2] - 1)
    slopes = planes[1:, rows][:, :, columns] / 2
    dv = torch.arange(height, device=planes.device) - 2 * rows - 0.5
    du = torch.arange(width, device=planes.device) - 2 * columns - 0.5
    inverse = planes[0, rows][:, columns] + slopes[0] * du + slopes[1] * dv[:, None]
    return torch.cat((inverse[None], slopes))
