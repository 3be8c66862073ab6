"""The loop of training: steps of one run or of several in turn, checkpoints, and undoing a step that went wrong."""

from __future__ import annotations

import functools
import math
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from safetensors import SafetensorError

from adop.config import LossConfig
from adop.errors import UserError
from adop.evaluation.evaluate import mean_scores, score_photo
from adop.images.vgg import Vgg
from adop.model.network import NeuralRenderer
from adop.model.pipeline import Pipeline
from adop.preparation.refinement import align_while_training
from adop.ranks import ProcessLostError, first_number, heard, ranks
from adop.run.checkpoint import (
    Progress,
    checkpoint_file,
    checkpoints,
    load_checkpoint,
    load_optimiser_state,
    save_checkpoint,
)
from adop.run.device_photos import photos_on_gpu
from adop.run.photos.photo_lookup import ready_photos
from adop.run.run import Run
from adop.training.log import Log, ProgressLine, Recent
from adop.training.optimiser import Optimiser
from adop.training.processes import agreed, average_network, reduce_step
from adop.training.steps.sampler import BatchPrefetcher
from adop.training.steps.step import draw_batch
from adop.training.steps.step_graph import StepGraphs

LOG_EVERY = 50  # steps
MAX_UNDONE = 3  # steps that went wrong, after which training ends
UNDONE_RATE = 0.5  # factor of the learning rates after each
READ_EVERY = 10  # steps, a divisor of LOG_EVERY: reading numbers from a GPU waits for it
SNAPSHOT_PHOTOS = 4  # held-out photos that are scored while training

Say = Callable[[str], None]
StepCallback = Callable[[Run, dict[str, float]], object]


@dataclass(frozen=True)
class Training:
    """A run that is being trained, and its callbacks."""

    run: Run
    optimiser: Optimiser
    log: Log
    say: Say
    callback: StepCallback | None = None  # called after every step
    label: str = ""  # before its line of progress


def take_steps(
    trainings: Sequence[Training], interrupted: Callable[[], bool], shared: NeuralRenderer | None = None
) -> bool:
    """Take steps of the runs in turn, until all are done or interrupted, and return whether they were interrupted.

    Args: shared: a network that other processes train on other scenes meanwhile; None: there is none.
    """
    loops = [_steps(training, interrupted) for training in trainings]
    try:
        going, busy, stopped = loops, True, False
        while busy and not stopped:
            asked = [next(loop, None) for loop in going]
            going = [loop for loop, answer in zip(going, asked, strict=True) if answer is not None]
            busy, stopped = len(going) > 0, True in asked
            if shared is not None:
                stopped, busy = _average(trainings, shared, len(going), stopped)
        return stopped
    finally:
        for loop in loops:
            loop.close()


def _average(
    trainings: Sequence[Training], shared: NeuralRenderer, steps: int, stopped: bool
) -> tuple[bool, bool]:
    """Return what `average_network` does; where another process is lost, save first."""
    try:
        return average_network(shared, steps, stopped)
    except ProcessLostError:
        for training in trainings:
            try_to_save(training.run, training.optimiser)
        raise


def _steps(training: Training, interrupted: Callable[[], bool]) -> Generator[bool, None, None]:
    """Take a step at a time until the run is done; give whether to stop. Of several processes, all go alike."""
    run, log, callback = training.run, training.log, training.callback
    run.pipeline.photos = ready_photos(run.pipeline, run.cache, run.split["train"], training.say)
    steps = StepGraphs(run, perceptual_loss(run), training.say)
    saved, start = time.monotonic(), time.monotonic() - run.progress.seconds
    line, recent, undone = ProgressLine(training.label), Recent(), 0
    values: dict[str, float] = {}
    means, stopped = {"loss": 0.0}, False
    every_step = callback is not None or run.device.type == "cpu" or ranks().count > 1
    read_every = 1 if every_step else READ_EVERY
    photos = photos_on_gpu(run, training.say)
    batches = BatchPrefetcher(functools.partial(draw_batch, run, photos=photos, processes=ranks()))
    with closing(batches), closing(line):
        while share_done(run) < 1 and not stopped:
            step, share = run.progress.step, share_done(run)
            try:
                recent.add(reduce_step(run.pipeline, steps.learning_step(batches.batch(step))))
                seconds, asked = agreed(time.monotonic() - start, interrupted())
            except ProcessLostError:
                try_to_save(run, training.optimiser)
                raise
            stopped = asked > 0
            is_read = (step + 1) % read_every == 0
            if is_read:
                values, means = recent.read()
            finite = math.isfinite(means["loss"])
            if finite:
                training.optimiser.step(step, share)
                run.progress = Progress(step + 1, seconds)
                log.moves(step + 1, align_while_training(run, step + 1, share))
            if not finite or (_is_checked(run) and not_finite(run.pipeline)):
                undone, recent, means = undone + 1, Recent(), {"loss": 0.0}
                undo(training, undone)
                yield stopped
                continue
            if is_read:
                line.show(step + 1, share_done(run), means["loss"], means["psnr"])
            request = callback(run, values) if callback is not None else None
            if (step + 1) % LOG_EVERY == 0:
                log.write(step + 1, means | {"seconds": run.progress.seconds})
            if (step + 1) % run.config.evaluate_every == 0 and share_done(run) < 1 and ranks().first:
                _log_snapshot(run, log)
            if request == "save" or time.monotonic() - saved > run.config.checkpoint_seconds:
                try_to_save(run, training.optimiser)
                saved = time.monotonic()
            yield stopped


def _is_checked(run: Run) -> bool:
    """Return whether the parameters are looked at after this step, which takes a moment."""
    return run.progress.step % LOG_EVERY == 0 or share_done(run) >= 1


def perceptual_loss(run: Run) -> Vgg | None:
    """Return the network of the perceptual loss, or None where the loss does not use it."""
    loss = run.config.loss
    return Vgg(loss.vgg_weights).to(run.device) if loss.vgg > 0 and loss.vgg_weights else None


def check_loss(loss: LossConfig) -> None:
    """Raise UserError where the perceptual loss has no weights, or they cannot be read."""
    if loss.vgg > 0:
        if not loss.vgg_weights:
            raise UserError(
                "--loss.vgg needs --loss.vgg-weights: a safetensors file with torchvision's weights of VGG-19"
            )
        Vgg(loss.vgg_weights)


def share_done(run: Run) -> float:
    """Return how much of the run is done, 1 at its end."""
    if run.config.minutes is not None:
        return run.progress.seconds / (60 * run.config.minutes)
    return run.progress.step / run.config.steps


def save(run: Run, optimiser: Optimiser) -> None:
    """Write a checkpoint of a run and its optimiser."""
    save_checkpoint(run.folder / "checkpoints", run.pipeline, optimiser.state(), run.progress)


def undo(training: Training, times: int) -> None:
    """Return to the newest checkpoint, with smaller learning rates, after a step that left no number to go on with.

    Args: times: how often this has happened in this training, at least 1.
    Raises: UserError where it happened too often, or there is no checkpoint.
    """
    run, reached = training.run, training.run.progress.step
    broken = not_finite(run.pipeline) or "the loss"
    saved = newest_checkpoint(run)
    if times > MAX_UNDONE or saved is None:
        raise UserError(
            f"{run.folder}: training went wrong at step {reached} ({broken} became infinite or no number); start again "
            "with smaller learning rates (--lr.network, --lr.features)"
        )
    run.progress = load_checkpoint(saved, run.pipeline)
    training.optimiser.load(load_optimiser_state(saved), str(saved))
    training.optimiser.rate_factor *= UNDONE_RATE**times
    training.log.keep_until(run.progress.step)
    training.say(
        f"step {reached}: {broken} became infinite or no number; training goes on from step {run.progress.step} with "
        f"learning rates times {training.optimiser.rate_factor:g}"
    )


def not_finite(pipeline: Pipeline) -> str:
    """Return the groups of parameters with values that are not finite."""
    found = (name for name, values in pipeline.named_parameters() if not bool(values.isfinite().all()))
    return ", ".join(dict.fromkeys(name.removeprefix("tonemapper.").split(".")[0] for name in found))


def try_to_save(run: Run, optimiser: Optimiser) -> None:
    """Save a checkpoint of finite numbers. If that fails, as on a full disk, report it and train on.

    Of several processes, only the first one saves.
    """
    if not ranks().first or not_finite(run.pipeline):
        return  # the next step's loss shows what is not finite, and is undone
    try:
        save(run, optimiser)
    except (OSError, SafetensorError) as error:
        step = run.progress.step
        with heard():
            print(
                f"\nthe checkpoint of step {step} was not written ({error}); training goes on",
                file=sys.stderr,
            )


def _log_snapshot(run: Run, log: Log) -> None:
    """Score a few held-out photos and log their renders."""
    held_out = run.split["held_out"]
    scores = []
    for photo in held_out[:: max(1, len(held_out) // SNAPSHOT_PHOTOS)][:SNAPSHOT_PHOTOS]:
        score, view = score_photo(run, photo)
        scores.append(score.values())
        log.picture(run.progress.step, f"held_out/{score.photo}", view.fitted)
    if scores:
        log.write(run.progress.step, mean_scores(scores), "held_out")


def newest_checkpoint(run: Run) -> Path | None:
    """Return the newest checkpoint that the first process finds, once every process asks; None where there is none."""
    folder = run.folder / "checkpoints"
    saved = checkpoints(folder) if ranks().first else []
    step = first_number(float(saved[-1].stem.removeprefix("step_")) if saved else -1.0)
    return None if step < 0 else checkpoint_file(folder, int(step))
