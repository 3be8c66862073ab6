"""A training step up to its gradients: its batch, what the host decides, and what runs on the device."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adop.config import TrainConfig
from adop.images.vgg import Vgg
from adop.model.cameras import ViewInfo
from adop.model.pipeline import Pipeline, ViewInputs
from adop.ops import sample_ghosts
from adop.run.run import Run
from adop.training.loss import training_loss
from adop.training.sampler import Batch, CropConfig, sample, step_generator

PRIOR_EVERY = 4  # steps: the physical camera changes slowly, and its prior costs a fiftieth of a step


@dataclass(frozen=True)
class StepInputs:
    """What a step computes with, on the pipeline's device."""

    view: ViewInputs
    views: ViewInfo
    photos: Tensor  # [B] index of the photo
    target: Tensor  # [B, 3, H, W] in [0, 1]
    mask: Tensor  # [B, 1, H, W]
    prior: bool  # whether the physical camera's prior is part of this step's loss


def draw_batch(run: Run, step: int) -> Batch:
    """Return the batch of a step, which depends on the run's seed and the step alone; pinned where a GPU will read it."""
    config, generator = run.config, step_generator(run.config.seed, step)
    crops = CropConfig(config.batch, config.crop, config.zoom)
    batch = sample(run.scene, run.cache, run.split["train"], crops, generator)
    return batch.pinned() if run.device.type == "cuda" else batch


def step_inputs(run: Run, batch: Batch) -> StepInputs:
    """Return the inputs of the run's present step; all decisions of the host are made here."""
    pipeline, config, step = run.pipeline, run.config, run.progress.step
    device, side = pipeline.device, batch.target.shape[2]
    photos = batch.photos.to(device, non_blocking=True)
    views = pipeline.cameras.view_info(batch.photos.tolist(), batch.crop[:, 0].tolist(), trained=True)
    camera = pipeline.camera(batch.photos, batch.crop, (side, side))
    ghosts = None
    if pipeline.moves_by_gradient() and config.refine.position_gradient == "ghost":
        draw = step_generator(config.seed + 1, step)
        ghosts = sample_ghosts(pipeline.raster, len(camera), len(pipeline.points), draw).to(device)
    return StepInputs(
        view=pipeline.view_inputs(camera, views, ghosts),
        views=views,
        photos=photos,
        target=batch.target.to(device, non_blocking=True),
        mask=batch.mask.to(device, non_blocking=True),
        prior=step % PRIOR_EVERY == 0,
    )


def step_loss(
    pipeline: Pipeline, config: TrainConfig, inputs: StepInputs, vgg: Vgg | None
) -> tuple[Tensor, dict[str, Tensor]]:
    """Render the inputs' views; return the scalar to minimise, and the numbers to log: loss, PSNR and the loss's terms.

    Where the environment is looked up sparsely, nothing here waits for the device or asks it for a number.
    """
    tonemapper, photos = pipeline.tonemapper, inputs.photos
    rendered = pipeline.radiance(inputs.view)
    photometry = tonemapper.photometry(photos, inputs.views.trained)
    image = pipeline.photo(rendered.image, inputs.view.camera, photos, photometry, leak=True)
    loss = training_loss(image, inputs.target, inputs.mask, config.loss, vgg, pipeline.backend)
    total = loss.total
    if inputs.prior:
        total = total + PRIOR_EVERY * config.loss.camera_prior * tonemapper.prior()
    terms = {name: term.detach() for name, term in loss.terms.items()}
    return total, {"loss": loss.total.detach(), "psnr": loss.psnr} | terms
