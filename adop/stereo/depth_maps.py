"""Planes of every photo of a scene, found in three stages, each of which keeps its results on disk."""

from __future__ import annotations

import functools
from collections import OrderedDict
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from adop.backend.choice import Backend
from adop.errors import UserError, one_line
from adop.files import check_readable, write_atomically
from adop.progress import Bar
from adop.scene.photo_cache import PhotoCache
from adop.scene.scene import Scene
from adop.stereo.patch_match import plane_costs, random_planes, sweep_planes
from adop.stereo.problem import StereoProblem, StereoView, Sweep, enlarge_planes, halve_view
from adop.stereo.stereo_config import StereoConfig
from adop.stereo.views import ColourView, Neighbourhood, undistorted_view

MAX_KEPT_VIEWS = 200  # photos without distortion that are kept in memory
# Of the first sweep at a quarter and at a larger size; from sweep to sweep it halves.
FIRST_PERTURBATION, LATER_PERTURBATION = 0.5, 0.1


@dataclass
class StereoScene:
    """What all stages of stereo share."""

    scene: Scene
    cache: PhotoCache
    neighbourhoods: dict[int, Neighbourhood]
    config: StereoConfig
    folder: Path  # of the results of the stages
    backend: Backend = "auto"
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    _kept: OrderedDict[int, ColourView] = field(default_factory=OrderedDict)

    def view(self, photo: int) -> ColourView:
        """Return a photo without distortion."""
        if photo not in self._kept:
            self._kept[photo] = undistorted_view(self.scene, self.cache, photo, self.config.longest_side)
            if len(self._kept) > MAX_KEPT_VIEWS:
                self._kept.popitem(last=False)
        self._kept.move_to_end(photo)
        return self._kept[photo]

    def problem(self, photo: int, halvings: int, stage: str | None) -> StereoProblem:
        """Return the problem of a photo at a size, its sources with the planes of a stage if one is named."""
        near = self.neighbourhoods[photo]
        views = [self._at_size(source, halvings, stage) for source in near.sources]
        config = self.config
        return StereoProblem(
            reference=self._at_size(photo, halvings, None),
            sources=tuple(views),
            min_inverse=near.min_inverse,
            max_inverse=near.max_inverse,
            sources_kept=min(config.sources_kept, len(views)),
        )

    def _at_size(self, photo: int, halvings: int, stage: str | None) -> StereoView:
        view = self.view(photo).view
        for _ in range(halvings):
            view = halve_view(view)
        view = replace(view, image=view.image.to(self.device))
        if stage is None:
            return view
        planes, _ = self.planes(stage, photo)
        height, width = view.image.shape
        if planes.shape[1:] != view.image.shape:
            planes = enlarge_planes(planes, height, width)
        return replace(view, planes=planes)

    def planes(self, stage: str, photo: int) -> tuple[Tensor, Tensor]:
        """Return the planes [3, h, w] and their costs [h, w] that a stage found for a photo. Raises: UserError."""
        planes, costs = read_planes(self.file(stage, photo))
        return planes.to(self.device), costs.to(self.device)

    def file(self, stage: str, photo: int) -> Path:
        """Return the file of a stage's result."""
        return self.folder / stage / f"{photo:05d}.safetensors"


def read_planes(file: Path) -> tuple[Tensor, Tensor]:
    """Return the planes [3, h, w] and their costs [h, w] in a stage's file. Raises: UserError."""
    check_readable(file)
    try:
        found = load_file(file)
        planes, costs = found["planes"].float(), found["costs"].float()
    except (OSError, SafetensorError, KeyError) as error:
        raise UserError(f"{file}: is damaged ({one_line(error)}); delete it, and it is made anew.") from None
    if planes.dim() != 3 or len(planes) != 3 or planes.shape[1:] != costs.shape:
        raise UserError(f"{file}: does not hold planes and their costs; delete it, and it is made anew.")
    return planes, costs


def find_planes(stereo: StereoScene) -> None:
    """Find the planes of all photos and keep them as the stage "fine"; what an earlier call finished is not repeated."""
    config = stereo.config
    coarse, middle = config.coarse_sweeps / 16 + config.middle_sweeps / 4, config.middle_sweeps / 4
    stages = {"photometric": coarse, "consistent": middle, "fine": float(config.fine_sweeps)}
    photos = list(stereo.neighbourhoods)
    with Bar(total=len(photos) * sum(stages.values()), desc="stereo: ", bar_format=BAR) as bar:
        for stage, work in stages.items():
            (stereo.folder / stage).mkdir(parents=True, exist_ok=True)
            for count, photo in enumerate(photos, 1):
                bar.set_description(f"stereo, {stage}, photo {count} of {len(photos)}")
                file = stereo.file(stage, photo)
                if not file.exists():
                    planes, costs = STAGES[stage](stereo, photo)
                    result = {"planes": planes.cpu().contiguous(), "costs": costs.cpu().half()}
                    write_atomically(file, functools.partial(save_file, result))
                bar.update(work)


BAR = "{desc}{percentage:3.0f}%|{bar}| {elapsed}<{remaining}"


def _photometric(stereo: StereoScene, photo: int) -> tuple[Tensor, Tensor]:
    """Search at a quarter of the size from random planes, then at half of it."""
    config = stereo.config
    problem = stereo.problem(photo, 2, None)
    generator = torch.Generator().manual_seed(photo)
    planes = random_planes(problem, generator)
    planes, _ = _improve(problem, planes, config.coarse_sweeps, FIRST_PERTURBATION, stereo.backend)
    problem = stereo.problem(photo, 1, None)
    planes = enlarge_planes(planes, *problem.reference.image.shape)
    return _improve(problem, planes, config.middle_sweeps, LATER_PERTURBATION, stereo.backend)


def _consistent(stereo: StereoScene, photo: int) -> tuple[Tensor, Tensor]:
    """Improve the planes at half of the size, which must now agree with those of the sources."""
    planes, _ = stereo.planes("photometric", photo)
    problem = stereo.problem(photo, 1, "photometric")
    return _improve(problem, planes, stereo.config.middle_sweeps, LATER_PERTURBATION, stereo.backend)


def _fine(stereo: StereoScene, photo: int) -> tuple[Tensor, Tensor]:
    """Improve the planes at full size."""
    planes, _ = stereo.planes("consistent", photo)
    problem = stereo.problem(photo, 0, "consistent")
    planes = enlarge_planes(planes, *problem.reference.image.shape)
    return _improve(problem, planes, stereo.config.fine_sweeps, LATER_PERTURBATION, stereo.backend)


STAGES = {"photometric": _photometric, "consistent": _consistent, "fine": _fine}


def _improve(
    problem: StereoProblem, planes: Tensor, sweeps: int, perturbation: float, backend: Backend
) -> tuple[Tensor, Tensor]:
    costs = plane_costs(problem, planes, backend)
    for number in range(sweeps):
        sweep = Sweep(number, perturbation / 2**number)
        planes, costs = sweep_planes(problem, planes, costs, sweep, backend)
    return planes, costs
