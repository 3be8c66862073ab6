"""Checkpoints: every tensor of a run in one safetensors file, written whole or not at all."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from adop.errors import UserError
from adop.files import write_atomically
from adop.model.pipeline import Pipeline
from adop.training.optimiser import Optimiser

FORMAT = "adop-checkpoint-3"


@dataclass(frozen=True)
class Progress:
    """How far a run is."""

    step: int
    seconds: float  # spent training, over all resumes


def save_checkpoint(
    folder: Path, pipeline: Pipeline, optimiser: Optimiser | None, progress: Progress, keep: int = 2
) -> Path:
    """Write `folder/step_00001234.safetensors` and delete all but the newest `keep`."""
    tensors = {f"model.{name}": value for name, value in pipeline.state_dict().items()}
    if optimiser is not None:
        tensors |= {f"optimiser.{name}": value for name, value in optimiser.state().items()}
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    metadata = {"format": FORMAT, "step": str(progress.step), "seconds": repr(progress.seconds)}
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"step_{progress.step:08d}.safetensors"
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoints of a run, oldest first."""
    return sorted(p for p in folder.glob("step_*.safetensors") if re.fullmatch(r"step_\d{8}", p.stem))


def load_checkpoint(path: Path, pipeline: Pipeline) -> Progress:
    """Load the parameters of a checkpoint into the pipeline.

    Raises: UserError where the file is damaged or belongs to another scene or configuration.
    """
    tensors, metadata = _read(path)
    model = _part(tensors, "model.")
    points = model.get("xyz")
    # Room is made for as much as the file holds; any other shape is refused below.
    if points is not None and points.shape[1:] == (3,) and len(points) != len(pipeline.xyz):
        pipeline.resize(len(points))
    environment, present = model.get("environment.map"), pipeline.environment
    if not present.fixed and environment is not None and environment.dim() == 4:
        rows = environment.shape[2]
        if rows > 0 and environment.shape == (1, present.map.shape[1], rows, 2 * rows):
            present.resize(rows)
    expected = pipeline.state_dict()
    for name, value in expected.items():
        if name not in model or model[name].shape != value.shape:
            found = "nothing" if name not in model else f"{list(model[name].shape)}"
            raise UserError(
                f"{path}: {name} should be {list(value.shape)} but is {found}; "
                "the scene or the configuration is not the one that was trained"
            )
    pipeline.load_state_dict(model)
    return Progress(int(metadata["step"]), float(metadata["seconds"]))


def load_optimiser(path: Path, optimiser: Optimiser) -> None:
    """Load the optimiser's state of a checkpoint. Raises: UserError where it holds none."""
    state = _part(_read(path)[0], "optimiser.")
    if not state:
        raise UserError(f"{path}: holds no optimiser state, so training cannot go on from it")
    optimiser.load(state)


def _read(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{path}: cannot be read as a checkpoint ({error}); delete it to use an older one"
        ) from None
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path}: is not a checkpoint of this version of adop ({FORMAT})")
    return tensors, metadata


def _part(tensors: dict[str, Tensor], prefix: str) -> dict[str, torch.Tensor]:
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
