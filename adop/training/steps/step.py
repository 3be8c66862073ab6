"""A training step up to its gradients: its batch, what the host decides, and what runs on the device."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adop.config import TrainConfig
from adop.images.vgg import Vgg
from adop.model.pipeline import Pipeline
from adop.model.views.view import ChosenPhotos, ViewInputs
from adop.ops import sample_ghosts
from adop.ranks import Ranks, ranks, sum_
from adop.reprojection.photo_table import NONE
from adop.run.device_photos import DevicePhotos, crop_table, cut_crops
from adop.run.run import Run
from adop.training.steps.loss import BatchPart, training_loss
from adop.training.steps.sampler import Batch, CropConfig, Pixels, batch_of, cut, sample, step_generator

THINNING_STEPS = 4  # densities between that of all points and the least
WITHOUT_PHOTOS = 0.1  # share of the crops
PRIOR_EVERY = 4  # steps: the physical camera changes slowly, and its prior costs a fiftieth of a step


@dataclass(frozen=True)
class StepInputs:
    """What a step computes with, on the pipeline's device."""

    view: ViewInputs
    photos: Tensor  # [B] index of the photo
    pixels: Pixels
    prior: bool  # whether the physical camera's prior is part of this step's loss
    part: BatchPart | None  # of a batch that several processes share


def draw_batch(
    run: Run, step: int, photos: DevicePhotos | None = None, processes: Ranks | None = None
) -> Batch:
    """Return the batch of a step, which depends on the run's seed and the step alone; of several processes, its part.

    Args:
        photos: on the run's GPU, where the step will cut the crops; None: they are cut here, on the CPU.
        processes: that share the batch; None: those of `ranks`, which only the main thread may ask for.
    """
    config, generator = run.config, step_generator(run.config.seed, step)
    wanted = CropConfig(config.batch, config.crop, config.zoom)
    whole = sample(run.scene, run.split["train"], wanted, generator)
    crops = whole.part(processes or ranks())
    if photos is not None:
        table = crop_table(photos, crops.photos, crops.windows, crops.side)
        return batch_of(crops, table, len(whole.photos))
    pixels = cut(run.cache, crops)
    pixels = pixels.pinned() if run.device.type == "cuda" else pixels
    return batch_of(crops, pixels, len(whole.photos))


def batch_pixels(batch: Batch, device: torch.device) -> Pixels:
    """Return the batch's pixels on a device, without waiting for it."""
    if isinstance(batch.pixels, Pixels):
        target, mask = batch.pixels.target, batch.pixels.mask
        return Pixels(target.to(device, non_blocking=True), mask.to(device, non_blocking=True))
    return Pixels(*cut_crops(batch.pixels))


def step_inputs(run: Run, batch: Batch) -> StepInputs:
    """Return the inputs of the run's present step; all decisions of the host are made here."""
    pipeline, config, step = run.pipeline, run.config, run.progress.step
    device, side = pipeline.device, batch.side
    pixels = batch_pixels(batch, device)
    photos = batch.photos.to(device, non_blocking=True)
    views = pipeline.cameras.view_info(batch.photos.tolist(), batch.crop[:, 0].tolist(), trained=True)
    camera = pipeline.camera(batch.photos, batch.crop, (side, side))
    ghosts = None
    if pipeline.moves_by_gradient() and config.refine.position_gradient == "ghost":
        draw, own = step_generator(config.seed + 1, step), ranks()
        ghosts = sample_ghosts(pipeline.raster, batch.whole, len(pipeline.points), draw)
        ghosts = ghosts[own.rank :: own.count].to(device)
    view = pipeline.view_inputs(camera, views, ghosts, own=batch.photos.tolist())
    chosen = _some(view.photos, batch.whole, config, step)
    return StepInputs(
        view=replace(view, photos=chosen, thinning=thinning(config, step)),
        photos=photos,
        pixels=pixels,
        prior=step % PRIOR_EVERY == 0,
        part=None if ranks().count == 1 else BatchPart(len(photos) / batch.whole, sum_(pixels.mask.sum())),
    )


def _some(photos: ChosenPhotos | None, whole: int, config: TrainConfig, step: int) -> ChosenPhotos | None:
    """Return the photos that a step's crops look up: of some crops none, so that the network can do without.

    Args: whole: how many crops the batch of all processes has.
    """
    if photos is None:
        return None
    own, generator = ranks(), step_generator(config.seed + 3, step)
    without = torch.rand(whole, 1, generator=generator)[own.rank :: own.count] < WITHOUT_PHOTOS
    return replace(photos, rows=photos.rows.masked_fill(without.to(photos.rows.device), NONE))


def thinning(config: TrainConfig, step: int) -> float:
    """Return by which factor the smallest drawn radius of a step is larger, at random from 1 to `config.thinning`.

    A pixel shows the mean of its points, which could learn the photos' noise together and would show it in any view
    that mixes them otherwise. So subsets of them must show the photos too. A few factors, because each has its own CUDA
    graph.
    """
    chosen = int(torch.randint(THINNING_STEPS, (), generator=step_generator(config.seed + 2, step)))
    return max(config.thinning, 1.0) ** (chosen / (THINNING_STEPS - 1))


def step_loss(
    pipeline: Pipeline, config: TrainConfig, inputs: StepInputs, vgg: Vgg | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Render the inputs' views; return the scalar to minimise, and the numbers to log: loss, PSNR and the loss's terms.

    Where the environment is looked up sparsely, nothing here waits for the device or asks it for a number.
    """
    tonemapper, photos = pipeline.tonemapper, inputs.photos
    rendered = pipeline.radiance(inputs.view)
    photometry = tonemapper.photometry(photos, trained=True)
    image = pipeline.photo(rendered.image, inputs.view.camera, photos, photometry, leak=True)
    loss = training_loss(image, inputs.pixels, config.loss, vgg, pipeline.backend, inputs.part)
    total = loss.total
    if inputs.prior:
        share = 1.0 if inputs.part is None else inputs.part.share
        total = total + share * PRIOR_EVERY * config.loss.camera_prior * tonemapper.prior()
    terms = {name: term.detach() for name, term in loss.terms.items()}
    return total, {"loss": loss.total.detach(), "psnr": loss.psnr} | terms
