"""The GPU check of training and pictures: what is replayed as CUDA graphs, crops, and the sparse optimiser."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor

from adop.config import TrainConfig
from adop.ops import Backend
from adop.run.checkpoint import Progress
from adop.run.device_photos import crop_table, cut_crops, load_photos, pack_photos
from adop.run.photos.photo_lookup import ready_photos
from adop.run.render import render_photo
from adop.run.run import new_run
from adop.training.sparse_adam import AdamSettings, RowMoments, sparse_adam_
from adop.training.steps.sampler import cut_window
from adop.training.steps.step import draw_batch
from adop.training.steps.step_graph import StepGraphs

STEPS = 12  # several of each kind: the first of a kind is captured, the others replay it with other photos
CROPPED = ((700, 900), (640, 480), (531, 1000))  # height and width of photos to crop, pixels
CROPS = {  # by their side: a window of each photo, smaller, of that size, and larger
    256: [(0, 0, 171), (224, 384, 256), (100, 0, 531)],
    512: [(200, 0, 700), (0, 128, 480), (488, 19, 512)],
}
PICTURES = 4
CHANGE = 0.02  # standard deviation of the change of every parameter between two steps


def replay_error(device: Backend, bf16: bool, scene: Path, say: Callable[[str], None] = print) -> float:
    """Return the largest relative error of the gradients of training steps that are replayed as CUDA graphs.

    They are compared with the same steps run one operation at a time. Between steps every learned parameter changes.

    Returns: infinity if a step on a GPU was not replayed. On a CPU no step is; there the result is zero.
    """
    generator = torch.Generator().manual_seed(9)
    config = TrainConfig(device=device, crop=160, bf16=bf16)
    run = new_run(scene, Path(), config, lambda _: None)
    pipeline = run.pipeline
    plain_run = replace(run, config=replace(config, cuda_graphs=False))
    photos = load_photos(run)
    replayed, plain = StepGraphs(run, None, say), StepGraphs(plain_run, None, say)
    parameters = [parameter for parameter in pipeline.parameters() if parameter.requires_grad]

    def gradients(steps: StepGraphs, step: int) -> list[Tensor]:
        pipeline.zero_grad(set_to_none=True)
        steps.run.progress = Progress(step, 0.0)
        steps.learning_step(draw_batch(run, step, photos))
        return [parameter.grad.clone() for parameter in parameters if parameter.grad is not None]

    errors = []
    for step in range(STEPS):
        # The network's last layer starts at zero, and then so are the gradients of all layers before it.
        _change(parameters, generator)
        pairs = zip(gradients(replayed, step), gradients(plain, step), strict=True)
        errors += [float((found - e).norm() / e.norm().clamp_min(1e-9)) for found, e in pairs]
    return max(errors) if device == "cpu" or replayed.replayed == STEPS else float("inf")


@torch.no_grad()
def _change(parameters: Sequence[Tensor], generator: torch.Generator) -> None:
    for parameter in parameters:
        parameter.add_(CHANGE * torch.randn(parameter.shape, generator=generator).to(parameter.device))


def picture_error(device: Backend, scene: Path) -> float:
    """Return the largest relative error of pictures of several photos' cameras that are replayed as a CUDA graph.

    They are compared with the same pictures rendered one operation at a time. Between two pictures the features and the
    network change.

    Returns: infinity if a picture on a GPU was not replayed. On a CPU none is; there the result is zero.
    """
    generator = torch.Generator().manual_seed(9)
    run = new_run(scene, Path(), TrainConfig(device=device, bf16=False), lambda _: None)
    pipeline, errors = run.pipeline, []
    pipeline.photos = ready_photos(pipeline, run.cache, run.split["train"], lambda _: None)
    for photo in run.split["train"][:PICTURES]:
        _change([pipeline.points.features, *pipeline.network.parameters()], generator)
        with torch.no_grad():
            found = render_photo(run, photo).radiance
            with pipeline.every_operation():
                expected = render_photo(run, photo).radiance
        errors.append(float((found - expected).norm() / expected.norm()))
    return max(errors) if device == "cpu" or pipeline.replayed == PICTURES else float("inf")


def adam_error(device: Backend) -> float:
    """Return the relative error of a step of the sparse optimiser on a device, against the torch reference."""
    generator = torch.Generator().manual_seed(0)
    start, gradient = (torch.randn(10000, 4, generator=generator) for _ in range(2))
    gradient[::3] = 0

    def stepped(device: str, backend: Backend) -> Tensor:
        parameter = start.to(device, copy=True)
        mean, square = torch.zeros(2, 10000, 4, device=device)
        moments = RowMoments(mean, square, torch.zeros(10000, dtype=torch.int32, device=device))
        sparse_adam_(parameter, gradient.to(device), moments, AdamSettings(0.1, full_steps=0.5), backend)
        return parameter.cpu()

    found, expected = stepped(device, device), stepped("cpu", "reference")
    return float((found - expected).norm() / expected.norm())


def crop_error(device: Backend) -> float:
    """Return the largest difference between crops cut by the kernels on a device and those of Pillow, 0 to 1."""
    generator = torch.Generator().manual_seed(3)
    photos = [torch.randint(256, (*size, 3), generator=generator, dtype=torch.uint8) for size in CROPPED]
    counts = [torch.rand(photo.shape[:2], generator=generator) > 0.02 for photo in photos]
    masks = [None, *counts[1:]]
    pixels = sum(photo[..., 0].numel() for photo in photos)
    packed = pack_photos(zip(range(len(photos)), photos, masks, strict=True), pixels, torch.device(device))
    largest = 0.0
    for side, windows in CROPS.items():
        expected = [cut_window(*part, side) for part in zip(photos, masks, windows, strict=True)]
        table = crop_table(packed, list(range(len(photos))), windows, side)
        for found, parts in zip(cut_crops(table), zip(*expected, strict=True), strict=True):
            stacked = torch.stack([torch.from_numpy(part) for part in parts])
            largest = max(largest, float((found.cpu() - stacked).abs().max()))
    return largest
