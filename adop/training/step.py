"""A training step: its batch, what it needs on the device, and the work there up to the gradients."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adop.config.config import TrainConfig
from adop.images.vgg import Vgg
from adop.model.cameras import ViewInfo
from adop.model.pipeline import Pipeline, ViewInputs
from adop.ops import sample_ghosts
from adop.run.run import Run
from adop.training.loss import training_loss
from adop.training.sampler import Batch, sample, step_generator

PRIOR_EVERY = 4  # steps: the camera's prior changes slowly, and asking it each time is a fiftieth of a step


@dataclass(frozen=True)
class StepInputs:
    """What a step works on, on the pipeline's device."""

    view: ViewInputs
    views: ViewInfo
    photos: Tensor  # [B] index of the photo
    target: Tensor  # [B, 3, H, W] in [0, 1]
    mask: Tensor  # [B, 1, H, W]
    prior: bool  # whether the physical camera's prior counts in this step


def draw_batch(run: Run, step: int) -> Batch:
    """Return the batch of a step, a function of the run's seed and the step; in pinned memory where a GPU takes it."""
    config, generator = run.config, step_generator(run.config.seed, step)
    batch = sample(
        run.scene, run.cache, run.split["train"], config.batch, config.crop, config.zoom, generator
    )
    return batch.pinned() if run.device.type == "cuda" else batch


def step_inputs(run: Run, batch: Batch) -> StepInputs:
    """Return what the step of the run's progress works on: all that is decided on the host is decided here."""
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
    """Render the inputs' views; return what is to be minimised, and the loss, its PSNR and its terms to be logged.

    Where the environment is looked up sparsely, nothing here waits for the device or asks it for a number.
    """
    tonemapper, photos = pipeline.tonemapper, inputs.photos
    rendered = pipeline.radiance(inputs.view)
    photometry = tonemapper.photometry(photos, inputs.views.trained)
    image = pipeline.photo(rendered.image, inputs.view.camera, photos, photometry, leak=True)
    loss = training_loss(image, inputs.target, inputs.mask, config.loss, vgg, config.render.backend)
    total = loss.total
    if inputs.prior:
        total = total + PRIOR_EVERY * config.loss.camera_prior * tonemapper.prior()
    terms = {name: term.detach() for name, term in loss.terms.items()}
    return total, {"loss": loss.total.detach(), "psnr": loss.psnr} | terms
