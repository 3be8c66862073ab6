"""Checkpoints: all tensors of a run in one safetensors file, which appears complete or not at all."""

from __future__ import annotations

import functools
import hashlib
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save, save_file
from torch import Tensor

from adop.errors import UserError, one_line, quoted
from adop.files import check_readable, write_atomically
from adop.model.block_cache import BlockCache
from adop.model.network import NeuralRenderer
from adop.model.pipeline import Pipeline
from adop.model.point_store import Tile, read_point_store, read_texts, write_point_store
from adop.model.points import with_harmonics

PACKED = "packed.safetensors"  # in a run folder, see `save_packed`
TILE = 1 << 20  # points that are packed at a time
POINTS_SHARE = 0.5  # of a GPU's free memory, for the points of a packed run; views take the rest
FORMAT = "adop-checkpoint-4"
OLDER_FORMAT = "adop-checkpoint-3"  # the same tensors, without the prefixes of points and cameras
USE_OLDER = "delete it to use an older one"
POINT_TENSORS = ("xyz", "lod_radius", "normals", "origin", "features", "xyz_delta")
CAMERA_TENSORS = ("poses", "motion", "photo_lens", "photo_size", "intrinsics", "distortion", "pose_delta")


@dataclass(frozen=True)
class Progress:
    """How far the training of a run has come."""

    step: int  # training steps done
    seconds: float  # time spent training, summed over all resumes


def save_checkpoint(
    folder: Path,
    pipeline: Pipeline,
    optimiser_state: dict[str, Tensor],
    progress: Progress,
    keep: int = 2,
) -> Path:
    """Write `folder/step_00001234.safetensors`, delete all but the newest `keep` checkpoints, and return the file.

    Args: optimiser_state: named tensors, which `load_optimiser_state` returns again.
    """
    tensors = {f"model.{name}": value for name, value in pipeline.state_dict().items()}
    tensors |= {f"optimiser.{name}": value for name, value in optimiser_state.items()}
    folder.mkdir(parents=True, exist_ok=True)
    path = checkpoint_file(folder, progress.step)
    for unfinished in folder.glob(".step_*.tmp"):  # of a process that was killed
        unfinished.unlink()
    tensors, metadata = _content(tensors, progress)
    write_atomically(path, lambda temporary: save_file(tensors, temporary, metadata))
    for old in checkpoints(folder)[:-keep]:
        old.unlink()
    return path


def save_network(path: Path, network: NeuralRenderer, progress: Progress) -> None:
    """Write a file of the network alone, from which other runs can start; see `load_network`."""
    tensors = {f"model.network.{name}": value for name, value in network.state_dict().items()}
    content = save(*_content(tensors, progress))
    write_atomically(path, lambda temporary: temporary.write_bytes(content))


def _content(tensors: dict[str, Tensor], progress: Progress) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return what a file holds: tensors as they are saved, and metadata with their hash."""
    tensors = {name: value.detach().cpu().contiguous().clone() for name, value in tensors.items()}
    metadata = {"format": FORMAT, "step": str(progress.step), "seconds": repr(progress.seconds)}
    return tensors, metadata | {"sha256": digest(tensors, metadata)}


def digest(tensors: dict[str, Tensor], metadata: dict[str, str]) -> str:
    """Return the SHA-256 of tensors on the CPU and of the metadata; about a second for a gigabyte."""
    result = hashlib.sha256(repr(sorted((k, v) for k, v in metadata.items() if k != "sha256")).encode())
    for name in sorted(tensors):
        tensor = tensors[name].contiguous()
        result.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        result.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return result.hexdigest()


def checkpoint_file(folder: Path, step: int) -> Path:
    """Return the file of a step's checkpoint."""
    return folder / f"step_{step:08d}.safetensors"


def checkpoints(folder: Path) -> list[Path]:
    """Return the checkpoint files in a folder, oldest first."""
    return sorted(p for p in folder.glob("step_*.safetensors") if re.fullmatch(r"step_\d{8}", p.stem))


def load_checkpoint(path: Path, pipeline: Pipeline) -> Progress:
    """Load the parameters of a checkpoint into the pipeline and return how far the run had come.

    Raises: UserError where the file is damaged, or was trained on another scene or with another configuration.
    """
    tensors, metadata = _read(path)
    model = _with_prefix(tensors, "model.")
    points = model.get("points.xyz")
    # Training changes the number of points and may change the environment's size; other shapes must match.
    if points is not None and points.shape[1:] == (3,) and len(points) != len(pipeline.points):
        pipeline.points.resize(len(points))
    if "points.features" in model:  # runs before 0.2.0 had no harmonics
        model["points.features"] = with_harmonics(model["points.features"], pipeline.points.features)
    _load_model(path, model, pipeline)
    return _progress(path, metadata)


def load_network(path: Path, network: NeuralRenderer) -> bool:
    """Load the network of a run's checkpoint, or of what `save_network` wrote; return whether its kind and size fit.

    Raises: UserError where the file is damaged.
    """
    model = _with_prefix(_read(path, "choose another network")[0], "model.network.")
    expected = network.state_dict()
    if {name: value.shape for name, value in model.items()} != {n: v.shape for n, v in expected.items()}:
        return False
    _check_model(path, model, expected)
    network.load_state_dict(model)
    return True


def _load_model(path: Path, model: dict[str, Tensor], pipeline: Pipeline, points: bool = True) -> None:
    """Load tensors into the pipeline; without `points`, all but those of the points."""
    environment, own = model.get("environment.map"), pipeline.environment
    if not own.fixed and environment is not None and environment.dim() == 4:
        rows = environment.shape[2]
        if rows > 0 and environment.shape == (1, own.map.shape[1], rows, 2 * rows):
            own.resize(rows)
    expected = pipeline.state_dict() if points else _model_without_points(pipeline)
    _check_model(path, model, expected)
    if not torch.equal(model["tonemapper.trained"].cpu(), pipeline.tonemapper.trained.cpu()):
        raise UserError(
            f"{path}: was trained with other photos held out than the scene and configuration say now; restore the "
            "scene's split.txt, or train again"
        )
    pipeline.load_state_dict(model, strict=points)


def _model_without_points(pipeline: Pipeline) -> dict[str, Tensor]:
    return {name: value for name, value in pipeline.state_dict().items() if not name.startswith("points.")}


def save_packed(
    path: Path, pipeline: Pipeline, progress: Progress, tiles: Sequence[Callable[[], Tile]] | None = None
) -> None:
    """Write a pipeline as one file from which views read only the points that they draw, see `adop.model.point_store`.

    Args: tiles: the points; None: those of the pipeline.
    """
    others = {
        f"model.{name}": value.detach().cpu().contiguous()
        for name, value in _model_without_points(pipeline).items()
    }
    saved = checkpoints(path.parent / "checkpoints")
    metadata = {
        "step": str(progress.step),
        "seconds": repr(progress.seconds),
        "checkpoint": checkpoint_hash(saved[-1]) if saved else "",
    }
    write_point_store(path, tiles or _tiles(pipeline), others, metadata)


def checkpoint_hash(path: Path) -> str:
    """Return the hash that a checkpoint says it has."""
    check_readable(path)
    try:
        with safe_open(path, framework="numpy") as file:
            return (file.metadata() or {}).get("sha256", "")
    except (OSError, SafetensorError):
        return ""


def _tiles(pipeline: Pipeline) -> list[Callable[[], Tile]]:
    """Return the pipeline's points, about a million at a time."""
    points, features = pipeline.points, pipeline.points.features
    positions = points.positions()

    def tile(first: int) -> Tile:
        part = slice(first, first + TILE)
        normals = None if points.normals is None else points.normals[part].cpu()
        values = (positions[part], points.lod_radius[part], features[part])
        xyz, radius, rows = (value.detach().cpu() for value in values)
        return Tile(xyz, radius, normals, rows)

    return [functools.partial(tile, first) for first in range(0, len(pipeline.points), TILE)]


def is_packed(folder: Path, say: Callable[[str], None]) -> bool:
    """Return whether a run's folder has what `save_packed` wrote, made of its newest checkpoint.

    Raises: UserError where the file is damaged.
    """
    path, saved = folder / PACKED, checkpoints(folder / "checkpoints")
    if not path.exists():
        return False
    if saved and read_texts(path).get("checkpoint") != checkpoint_hash(saved[-1]):
        say(
            f"{path} was not made of the newest checkpoint, and is not used; `adop pack {folder}` makes it anew"
        )
        return False
    return True


def load_packed(path: Path, pipeline: Pipeline, room: int | None = None) -> Progress:
    """Let the pipeline draw the points of a packed run, and load everything else from it; return how far it had come.

    The points themselves are not checked, as that would read all of them.

    Args: room: bytes that points may take on the pipeline's device; None: `POINTS_SHARE` of what is free on a GPU. On a
        CPU they stay in the file. Where all have room they are copied there, else those blocks that views draw.

    Raises: UserError where the file is damaged or belongs to another scene or configuration.
    """
    stored, tensors, metadata = read_point_store(path)
    if stored.features.shape[1] != pipeline.points.features.shape[1]:
        raise UserError(
            f"{path}: was trained with another configuration; delete it, and use `adop pack` again"
        )
    _load_model(path, _with_prefix(tensors, "model."), pipeline, points=False)
    device = pipeline.device
    if room is None and device.type == "cuda":
        room = int(POINTS_SHARE * torch.cuda.mem_get_info(device)[0])
    if room is None or len(stored.features) * stored.bytes_per_point <= room:
        pipeline.points.use_stored(stored.to(device))
    else:
        pipeline.points.use_stored(stored, BlockCache(stored, device, room))
    return _progress(path, metadata)


def _check_model(path: Path, model: dict[str, Tensor], expected: dict[str, Tensor]) -> None:
    """Raise UserError unless a checkpoint holds a tensor of finite numbers for each expected one, and no other."""
    for name, value in expected.items():
        found = model.get(name)
        if found is None or found.shape != value.shape or found.dtype != value.dtype:
            said = "missing" if found is None else f"{list(found.shape)} of {found.dtype}"
            raise UserError(
                f"{path}: {name} should be {list(value.shape)} of {value.dtype} but is {said}; "
                "the scene or configuration is not the one that was trained with"
            )
        if found.is_floating_point() and not bool(found.isfinite().all()):
            raise UserError(f"{path}: {name} holds values that are not finite; delete it to use an older one")
    unknown = next((name for name in model if name not in expected), None)
    if unknown is not None:
        raise UserError(
            f"{path}: holds {quoted(unknown)}, which the model lacks; "
            "the scene or configuration is not the one that was trained with"
        )


def _progress(path: Path, metadata: dict[str, str]) -> Progress:
    """Return the progress in the metadata of a checkpoint."""
    step, seconds = metadata.get("step", ""), metadata.get("seconds", "")
    try:
        progress = Progress(int(step if len(step) < 18 else "none"), float(seconds))
    except ValueError:
        progress = Progress(-1, math.nan)
    if progress.step < 0 or not 0 <= progress.seconds < math.inf:
        raise UserError(
            f"{path}: does not say how far its run had come (step {quoted(step)}, {quoted(seconds)} seconds); "
            "delete it to use an older one"
        )
    return progress


def load_optimiser_state(path: Path) -> dict[str, Tensor]:
    """Return the optimiser's tensors of a checkpoint. Raises: UserError where it contains none."""
    state = _with_prefix(_read(path)[0], "optimiser.")
    if not state:
        raise UserError(f"{path}: contains no optimiser state, so training cannot continue from it")
    return state


def _read(path: Path, advice: str = USE_OLDER) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors and the metadata of a checkpoint, whose hash is checked where it has one.

    Args: advice: what to do about a damaged one.
    """
    check_readable(path)
    try:
        with safe_open(path, framework="pt") as file:
            metadata = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, RuntimeError) as error:
        raise UserError(f"{path}: is not a readable checkpoint ({one_line(error)}); {advice}") from None
    if "sha256" in metadata and metadata["sha256"] != digest(tensors, metadata):
        raise UserError(f"{path}: is damaged, as its hash is not that of its content; {advice}")
    if metadata.get("format") == OLDER_FORMAT:
        return {_current_name(name): value for name, value in tensors.items()}, metadata
    if metadata.get("format") != FORMAT:
        raise UserError(f"{path}: is not a checkpoint of this version of adop, whose format is {FORMAT}")
    return tensors, metadata


def _current_name(name: str) -> str:
    """Return the name in the current format of a tensor of the older format."""
    kind, _, rest = name.partition(".")
    first = rest.split(".")[0]
    if kind == "model" and first in POINT_TENSORS:
        return f"model.points.{rest}"
    if kind == "model" and first in CAMERA_TENSORS:
        return f"model.cameras.{rest}"
    return name


def _with_prefix(tensors: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    """Return the tensors whose names begin with `prefix`, under the rest of their names."""
    return {name[len(prefix) :]: value for name, value in tensors.items() if name.startswith(prefix)}
