"""PatchMatch stereo of one photo: a plane for each pixel, along which windows of other photos look alike.

A plane is [3]: the inverse depth at the centre of its pixel, and the changes of inverse depth per pixel along u and v.
Inverse depth is linear in the pixels of a pinhole camera, so this is a plane in space.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adop.backend.arguments import PatchMatchArguments, Values
from adop.backend.choice import Backend, choose_backend
from adop.backend.launch import Launch, launch

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
    sources: tuple[
        StereoView, ...
    ]  # at most 12; all with planes, with which those of the reference must agree, or none
    min_inverse: float  # least and largest inverse depth, 1 / scene unit
    max_inverse: float
    sources_kept: int = (
        2  # the mean cost in so many sources counts, the best ones: the others may not see the surface
    )
    max_tilt: float = (
        4.0  # tangent of the largest angle between surface and image plane, in the middle of the photo
    )
    value_spread: float = (
        0.1  # difference in brightness from the centre at which a sample of the window counts a quarter
    )
    min_seen: float = 0.5  # share of the window's weight that a source must show
    min_variance: float = 1e-5  # of grey values: a window with less is without texture
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


def random_planes(problem: StereoProblem, generator: torch.Generator) -> Tensor:
    """Return [3, H, W] planes of random inverse depth, tilted by up to 45 degrees."""
    image = problem.reference.image
    numbers = torch.rand(3, *image.shape, generator=generator, dtype=torch.float64)
    inverse = problem.min_inverse + numbers[0] * (problem.max_inverse - problem.min_inverse)
    slopes = (2 * numbers[1:] - 1) * inverse / problem.reference.intrinsics[0, 0].cpu()
    return torch.cat((inverse[None], slopes)).to(image)


def plane_costs(problem: StereoProblem, planes: Tensor, backend: Backend = "auto") -> Tensor:
    """Return the cost [H, W] of planes [3, H, W]: 0 where all windows look the same, `MAX_COST` where nothing matches."""
    _check(problem, planes)
    if choose_backend(backend, planes.device) == "reference":
        from adop.stereo.reference import reference_costs

        return reference_costs(problem, planes)
    costs = torch.empty_like(planes[0])
    count = costs.numel()
    _run([Launch("patch_match_costs", count)], problem, {"planes": planes.contiguous(), "costs": costs})
    return costs


@dataclass(frozen=True)
class Sweep:
    """How a sweep changes planes."""

    number: int  # each has its own random numbers
    perturbation: float  # of inverse depth relative to itself, and of slopes relative to the largest


def sweep_planes(
    problem: StereoProblem, planes: Tensor, costs: Tensor, sweep: Sweep, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """Return planes [3, H, W] that cost no more, and their costs [H, W].

    Each pixel tries the planes of its neighbours, and small changes of the best one; first the pixels of one colour of
    a checkerboard, then those of the other. The result is the same on any number of threads.
    """
    _check(problem, planes)
    if choose_backend(backend, planes.device) == "reference":
        from adop.stereo.reference import reference_sweep

        return reference_sweep(problem, planes, costs, sweep)
    planes, costs = planes.clone(memory_format=torch.contiguous_format), costs.clone()
    series = [
        Launch("patch_match_sweep", costs.numel(), {"colour": colour, "sweep": 2 * sweep.number + colour})
        for colour in (0, 1)
    ]
    _run(series, problem, {"planes": planes, "costs": costs, "perturbation": sweep.perturbation})
    return planes, costs


def _check(problem: StereoProblem, planes: Tensor) -> None:
    size = tuple(problem.reference.image.shape)
    if tuple(planes.shape) != (3, *size):
        raise ValueError(f"planes: expected [3, {size[0]}, {size[1]}], got {list(planes.shape)}")
    if not 1 <= len(problem.sources) <= 12:
        raise ValueError(f"sources: expected 1 to 12, got {len(problem.sources)}")
    if not 1 <= problem.sources_kept <= min(MAX_SOURCES_KEPT, len(problem.sources)):
        raise ValueError(
            f"sources_kept: expected 1 to {MAX_SOURCES_KEPT} of the sources, got {problem.sources_kept}"
        )


def _run(series: list[Launch], problem: StereoProblem, values: Values) -> None:
    image = problem.reference.image
    forward, backward = (part.to(image).contiguous() for part in transfers(problem))
    sizes = [[source.image.shape[1], source.image.shape[0]] for source in problem.sources]
    source_planes = [
        None if source.planes is None else source.planes.contiguous() for source in problem.sources
    ]
    names = "min_inverse max_inverse max_slope sources_kept value_spread min_seen min_variance shift_weight max_shift"
    settings: Values = {name: getattr(problem, name) for name in names.split()}
    arguments: Values = {
        "image": image.contiguous(),
        "sources": [source.image.contiguous() for source in problem.sources],
        "source_planes": source_planes,
        "source_sizes": torch.tensor(sizes, device=image.device),
        "source_count": len(problem.sources),
        "forward": forward,
        "backward": backward,
        "height": image.shape[0],
        "width": image.shape[1],
        **settings,
        **values,
    }
    launch(PatchMatchArguments, series, arguments, image)


def halve_view(view: StereoView) -> StereoView:
    """Return a photo at half its size, rounded down, without planes; a pixel counts where all that it replaces do."""
    image = torch.nn.functional.avg_pool2d(view.image[None, None], 2)[0, 0]
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
