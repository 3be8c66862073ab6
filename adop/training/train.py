"""Training: photos, cameras and points become a run folder with checkpoints, metrics and pictures."""

from __future__ import annotations

import dataclasses
import functools
import math
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from adop.backend.choice import choose_device, machine_name
from adop.config import TrainConfig, save_config
from adop.errors import UserError
from adop.evaluation.evaluate import PLOTS, SCORES, evaluate, mean_scores, score_photo, scoring_seconds
from adop.evaluation.run_plots import plot_run
from adop.images.vgg import Vgg
from adop.interrupts import interrupts
from adop.model.pipeline import Pipeline
from adop.preparation.refinement import (
    align_while_training,
    check_method,
    report_learned,
)
from adop.preparation.start import preparation, start_from_photos
from adop.progress import Stages
from adop.ranges import check_ranges
from adop.ranks import ProcessLostError, first_number, joined, rank_device, ranks, wait
from adop.run.checkpoint import (
    PACKED,
    Progress,
    checkpoint_file,
    checkpoints,
    load_checkpoint,
    load_optimiser_state,
    save_checkpoint,
)
from adop.run.device_photos import photos_on_gpu
from adop.run.exposure import save_exposure
from adop.run.memory import estimate_memory, free_memory, memory_advice
from adop.run.photos.occluders import load_occluders, save_occluders
from adop.run.photos.photo_lookup import ready_photos
from adop.run.run import Run, has_bf16, new_run
from adop.training.log import Log, ProgressLine, Recent
from adop.training.optimiser import Optimiser
from adop.training.processes import agreed, check_processes, reduce_step
from adop.training.sampler import BatchPrefetcher
from adop.training.step import draw_batch
from adop.training.step_graph import StepGraphs

LOG_EVERY = 50  # steps
# What a run folder may have before its first step; paths and renders are the viewer's.
LEFT_BY_START = {"config.json", "occluders", "checkpoints", "paths", "renders"}
MAX_UNDONE = 3  # steps that went wrong, after which training ends
UNDONE_RATE = 0.5  # factor of the learning rates after each
READ_EVERY = 10  # steps, a divisor of LOG_EVERY: reading numbers from a GPU waits for it
EXPOSURES = "exposure of new views"
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
    callback: StepCallback | None  # called after every step


def train(  # noqa: PLR0913 (public; the last four are optional hooks)
    scene_folder: Path,
    output: Path,
    config: TrainConfig,
    resume: bool = False,
    say: Say = print,
    callback: StepCallback | None = None,
    disturb: Callable[[Run], None] | None = None,
    watch: Callable[[Stages], None] | None = None,
) -> dict[str, Any]:
    """Train a scene and return its evaluation, as `eval/eval.json` holds it; without held-out photos, an empty one.

    Of the processes that `torchrun` starts, all but the first return an empty one too.

    Args:
        scene_folder: an ADOP scene folder.
        output: the run folder; it is made, or continued with `resume`.
        say: called with each sentence of progress.
        callback: called after every step with the run and the step's numbers; if it returns "save", a checkpoint is
            written.
        disturb: called once before anything is taken from the photos, with the run; benchmarks add errors here.
        watch: called with the stages of the preparation before they begin, to show them elsewhere.

    Raises: UserError for mistakes that the user can correct. KeyboardInterrupt on Ctrl-C, after a checkpoint was saved.
    """
    advice = "`--resume` continues from the newest checkpoint"
    with joined(config.device, advice), deterministic(choose_device(rank_device(config.device))):
        with _said_if_interrupted(say, "interrupted before the first step; the same command starts again"):
            run = _open_run(scene_folder, output, config, resume, say)
            start = functools.partial(_start, run, say, disturb, watch)
            optimiser = _begin(run, resume, start, say)
        with closing(Log(output, run.progress.step, say, writes=ranks().first)) as log:
            return _train_and_evaluate(Training(run, optimiser, log, say, callback))


@contextmanager
def _said_if_interrupted(say: Say, sentence: str) -> Iterator[None]:
    """Say what to do where Ctrl-C is pressed meanwhile."""
    try:
        yield
    except KeyboardInterrupt:
        say(sentence)
        raise


@contextmanager
def deterministic(device: torch.device) -> Iterator[None]:
    """Make torch add in the same order in every run on a CPU, so that a resumed run ends with the same numbers."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    # No op here reads uninitialised memory, so there is no need to fill it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _begin(run: Run, resume: bool, start: Callable[[], None], say: Say) -> Optimiser:
    """Return the optimiser of a run at its newest checkpoint, or started by `start`.

    Of several processes, the first one starts the run, and the others load the checkpoint of its start.
    """
    saved = _newest_checkpoint(run) if resume else None
    if saved is None:
        if ranks().first:
            start()
            optimiser = Optimiser(run.pipeline, run.config.learn, run.config.lr)
            # The start took minutes, and is what a step that goes wrong is undone to.
            _try_to_save(run, optimiser)
        saved = None if ranks().count == 1 else _newest_checkpoint(run)
        if ranks().first:
            return optimiser
    if saved is None:
        raise UserError(f"{run.folder / 'checkpoints'}: the first process could not write its start there")
    run.progress = load_checkpoint(saved, run.pipeline)
    run.split["train"] = load_occluders(run.folder, run.scene, run.cache, run.split["train"])
    optimiser = Optimiser(run.pipeline, run.config.learn, run.config.lr)
    optimiser.load(load_optimiser_state(saved), str(saved))
    done = ", the last; more --steps (or --minutes) train on" if share_done(run) >= 1 else ""
    say(f"resumed at step {run.progress.step}{done}")
    return optimiser


def _newest_checkpoint(run: Run) -> Path | None:
    """Return the newest checkpoint that the first process finds, once every process asks; None where there is none."""
    folder = run.folder / "checkpoints"
    saved = checkpoints(folder) if ranks().first else []
    step = first_number(float(saved[-1].stem.removeprefix("step_")) if saved else -1.0)
    return None if step < 0 else checkpoint_file(folder, int(step))


def _start(
    run: Run,
    say: Say,
    disturb: Callable[[Run], None] | None,
    watch: Callable[[Stages], None] | None,
) -> None:
    """Take from the photos what training starts from."""
    if disturb is not None:
        disturb(run)
    stages = preparation(run, say)
    if watch is not None:
        watch(stages)
    start_from_photos(run, stages)
    save_occluders(run.folder, run.scene, run.cache)


def _open_run(scene_folder: Path, output: Path, config: TrainConfig, resume: bool, say: Say) -> Run:
    """Return the run at its beginning, with its folder made and its configuration saved."""
    check_ranges(config)
    check_method(config)
    begun = {file.name for file in output.iterdir()} if output.exists() else set()
    # What an interrupted start left is made again.
    left_by_start = begun <= LEFT_BY_START and not checkpoints(output / "checkpoints")
    if begun and not resume and not left_by_start and ranks().first:
        raise UserError(
            f"{output}: is not empty; add --resume to continue the run there, or choose another --output"
        )
    if resume and (output / PACKED).exists() and not checkpoints(output / "checkpoints"):
        raise UserError(
            f"{output}: has only {PACKED}, which can be shown but not trained further; choose another --output"
        )
    if config.bf16 is None:
        config = dataclasses.replace(config, bf16=has_bf16(choose_device(config.device)))
    torch.manual_seed(config.seed)
    here = dataclasses.replace(config, device=rank_device(config.device))
    if not ranks().first:
        wait()  # until the first process has prepared the points, which takes much memory
    run = new_run(scene_folder, output, here, say)
    if ranks().first:
        wait()
    check_processes(run)
    if ranks().first:
        output.mkdir(parents=True, exist_ok=True)
        save_config(config, output / "config.json")
    say(
        f"{run.scene.name}: {len(run.split['train'])} photos to train on, {len(run.split['held_out'])} held out, "
        f"{len(run.pipeline.points):,} points, on {run.device}"
    )
    report_learned(run, say)
    say(memory_advice(estimate_memory(run), free_memory(run.device), config))
    return run


def _train_and_evaluate(training: Training) -> dict[str, Any]:
    run, say = training.run, training.say
    with interrupts() as interrupted:
        stopped = _train(training, interrupted)
        try:
            if ranks().first and not not_finite(run.pipeline):
                _save(run, training.optimiser)
        except (OSError, SafetensorError) as error:
            raise UserError(
                f"{run.folder}: the last checkpoint cannot be written ({error}); free some space, then --resume "
                "continues from the checkpoint before"
            ) from None
        wait()
    if stopped:
        say(f"stopped at step {run.progress.step}; continue with --resume")
        raise KeyboardInterrupt
    after = "interrupted after the last step; --resume computes the scores again"
    with _said_if_interrupted(say, after), _conclusion(run, say) as stages:
        stages.begin(EXPOSURES)
        run.exposure = None
        model = run.exposure_model()
        if ranks().first:
            save_exposure(model, run.folder)
        stages.say(model.describe())
        if not run.split["held_out"]:
            return {}
        stages.begin(PLOTS)
        if ranks().first:
            plot_run(run, run.folder / "eval")
        stages.begin(SCORES)
        result = evaluate(run, trained_on=machine_name(run.device))
    if ranks().first:
        training.log.write(run.progress.step, result["mean"], "held_out")
    return result


def _conclusion(run: Run, say: Say) -> Stages:
    """Return the stages of what follows the last step."""
    trained, held_out = len(run.split["train"]), len(run.split["held_out"])
    expected = {
        EXPOSURES: 0.2 * (trained + held_out),
        PLOTS: 3.0 * (held_out > 0),
        SCORES: scoring_seconds(run),
    }
    return Stages("after the last step", expected, say)


def _train(training: Training, interrupted: Callable[[], bool]) -> bool:
    """Take steps until the run is done or interrupted, and return whether it was. Of several processes, all go alike."""
    run, log, callback = training.run, training.log, training.callback
    run.pipeline.photos = ready_photos(run.pipeline, run.cache, run.split["train"], training.say)
    steps = StepGraphs(run, perceptual_loss(run), training.say)
    saved, start = time.monotonic(), time.monotonic() - run.progress.seconds
    line, recent, undone = ProgressLine(), Recent(), 0
    values: dict[str, float] = {}
    means, stopped = {"loss": 0.0}, False
    every_step = callback is not None or run.device.type == "cpu" or ranks().count > 1
    read_every = 1 if every_step else READ_EVERY
    photos = photos_on_gpu(run, training.say)
    batches = BatchPrefetcher(functools.partial(draw_batch, run, photos=photos))
    while share_done(run) < 1 and not stopped:
        step, share = run.progress.step, share_done(run)
        try:
            recent.add(reduce_step(run.pipeline, steps.learning_step(batches.batch(step))))
            seconds, asked = agreed(time.monotonic() - start, interrupted())
        except ProcessLostError:
            _try_to_save(run, training.optimiser)
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
            continue
        if is_read:
            line.show(step + 1, share_done(run), means["loss"], means["psnr"])
        request = callback(run, values) if callback is not None else None
        if (step + 1) % LOG_EVERY == 0:
            log.write(step + 1, means | {"seconds": run.progress.seconds})
        if (step + 1) % run.config.evaluate_every == 0 and share_done(run) < 1 and ranks().first:
            _log_snapshot(run, log)
        if request == "save" or time.monotonic() - saved > run.config.checkpoint_seconds:
            _try_to_save(run, training.optimiser)
            saved = time.monotonic()
    batches.close()
    line.close()
    return stopped


def _is_checked(run: Run) -> bool:
    """Return whether the parameters are looked at after this step, which takes a moment."""
    return run.progress.step % LOG_EVERY == 0 or share_done(run) >= 1


def perceptual_loss(run: Run) -> Vgg | None:
    """Return the network of the perceptual loss, or None where the loss does not use it."""
    loss = run.config.loss
    return Vgg(loss.vgg_weights).to(run.device) if loss.vgg > 0 and loss.vgg_weights else None


def share_done(run: Run) -> float:
    """Return how much of the run is done, 1 at its end."""
    if run.config.minutes is not None:
        return run.progress.seconds / (60 * run.config.minutes)
    return run.progress.step / run.config.steps


def _save(run: Run, optimiser: Optimiser) -> None:
    save_checkpoint(run.folder / "checkpoints", run.pipeline, optimiser.state(), run.progress)


def undo(training: Training, times: int) -> None:
    """Return to the newest checkpoint, with smaller learning rates, after a step that left no number to go on with.

    Args: times: how often this has happened in this training, at least 1.
    Raises: UserError where it happened too often, or there is no checkpoint.
    """
    run, reached = training.run, training.run.progress.step
    broken = not_finite(run.pipeline) or "the loss"
    saved = _newest_checkpoint(run)
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


def _try_to_save(run: Run, optimiser: Optimiser) -> None:
    """Save a checkpoint of finite numbers. If that fails, as on a full disk, report it and train on.

    Of several processes, only the first one saves.
    """
    if not ranks().first or not_finite(run.pipeline):
        return  # the next step's loss shows what is not finite, and is undone
    try:
        _save(run, optimiser)
    except (OSError, SafetensorError) as error:
        step = run.progress.step
        print(f"\nthe checkpoint of step {step} was not written ({error}); training goes on", file=sys.stderr)


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
