"""PatchMatch stereo of one photo: a plane for each pixel, along which windows of other photos look alike."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from adop.backend.arguments import PatchMatchArguments, Values
from adop.backend.choice import Backend, choose_backend
from adop.backend.launch import Launch, launch
from adop.stereo.problem import MAX_SOURCES_KEPT, StereoProblem, Sweep, transfers
from adop.stereo.reference import reference_costs, reference_sweep


def random_planes(problem: StereoProblem, generator: torch.Generator) -> Tensor:
    """Return [3, H, W] planes of random inverse depth, as many for each factor of depth, and of random tilt."""
    image = problem.reference.image
    numbers = torch.rand(3, *image.shape, generator=generator, dtype=torch.float64)
    inverse = problem.min_inverse * (problem.max_inverse / problem.min_inverse) ** numbers[0]
    tilt = torch.tan((2 * numbers[1:] - 1) * math.atan(problem.max_tilt))
    slopes = tilt * inverse / problem.reference.intrinsics[0, 0].cpu()
    return torch.cat((inverse[None], slopes)).to(image)


def plane_costs(problem: StereoProblem, planes: Tensor, backend: Backend = "auto") -> Tensor:
    """Return the cost [H, W] of planes [3, H, W]: 0 where all windows look the same, `MAX_COST` where nothing matches."""
    _check(problem, planes)
    if choose_backend(backend, planes.device) == "reference":
        return reference_costs(problem, planes)
    costs = torch.empty_like(planes[0])
    count = costs.numel()
    _run([Launch("patch_match_costs", count)], problem, {"planes": planes.contiguous(), "costs": costs})
    return costs


def sweep_planes(
    problem: StereoProblem, planes: Tensor, costs: Tensor, sweep: Sweep, backend: Backend = "auto"
) -> tuple[Tensor, Tensor]:
    """Return planes [3, H, W] that cost no more, and their costs [H, W].

    Each pixel tries the planes of its neighbours, and small changes of the best one; first the pixels of one colour of
    a checkerboard, then those of the other. The result is the same on any number of threads.
    """
    _check(problem, planes)
    if choose_backend(backend, planes.device) == "reference":
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
