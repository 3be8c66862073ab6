"""Training: photos, cameras and points in; a run folder with checkpoints, metrics and pictures out."""

from __future__ import annotations

import dataclasses
import functools
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from tqdm import tqdm

from adop.config import TrainConfig, save_config
from adop.errors import UserError
from adop.evaluation.evaluate import evaluate, score_photo
from adop.evaluation.run_plots import plot_run
from adop.images.vgg import Vgg
from adop.initialisation.environment import initialise_environment
from adop.initialisation.grow import grow_points
from adop.initialisation.photometry import (
    PointSamples,
    colour_points,
    estimate_exposures,
    sample_points,
)
from adop.initialisation.physical_camera import calibrate
from adop.initialisation.prune import remove_unsupported
from adop.interrupts import interrupts
from adop.run.checkpoint import Progress, checkpoints, load_checkpoint, load_optimiser_state, save_checkpoint
from adop.run.photos import known_exposures
from adop.run.run import Run, choose_device, has_bf16, new_run
from adop.training.log import Log, ProgressLine, Recent
from adop.training.optimiser import Optimiser
from adop.training.refinement import (
    check_groups,
    refine_again,
    refine_start,
    refine_together,
    refines_together,
    say_groups,
)
from adop.training.sampler import BatchPrefetcher
from adop.training.step import draw_batch
from adop.training.step_graph import StepGraphs

LOG_EVERY = 50  # steps
READ_EVERY = 10  # steps, a part of the above: to read a GPU's numbers is to wait for it


def start_from_photos(run: Run, say: Callable[[str], None]) -> None:
    """Start cameras, exposures (where EXIF has none), the points' colours and the environment from the photos."""
    refine_start(run, say)
    if refines_together(run):
        own = run.pipeline.points.features.detach().clone()
        colour_from_photos(run, say)
        refine_together(run, own, say)
    point_samples = colour_from_photos(run, say)
    if run.config.prune.enabled:
        removed = remove_unsupported(run.pipeline, point_samples, run.config.prune)
        say(f"points: {removed:,} removed that photos see and do not show")
    if run.config.grow.enabled:
        added = grow_points(run.pipeline, run.cache, run.split["train"], run.config.grow)
        say(f"holes: {added:,} points added where several photos agree")
    share = initialise_environment(run.pipeline, run.cache, run.split["train"])
    environment = run.pipeline.environment
    size = f"{environment.map.shape[2]} rows" if environment.enabled else "one colour"
    say(f"environment: {size}; {100 * share:.0f} % of the photos' rays meet no point")


def colour_from_photos(run: Run, say: Callable[[str], None]) -> dict[int, PointSamples]:
    """Fit the physical camera and the points' colours to the photos; return what each photo shows of the points."""
    point_samples = {}
    for photo in tqdm(run.split["train"], desc="sampling photos at points", leave=False, disable=None):
        point_samples[photo] = sample_points(run.pipeline, run.cache, photo)
    tonemapper = run.pipeline.tonemapper
    if known_exposures(run.scene) is None:
        exposure = estimate_exposures(point_samples, len(run.pipeline.points.xyz), len(run.scene.photos))
        tonemapper.exposure_start.copy_(exposure)
        tonemapper.exposure_trust.fill_(1.0)
    error = calibrate(run.pipeline, point_samples, run.config.learn, run.config.seed)
    say(f"physical camera: fitted to points that several photos see, median error {255 * error:.1f} of 255")
    colour_points(run.pipeline, point_samples)
    return point_samples


def prepare(
    scene_folder: Path,
    output: Path,
    config: TrainConfig,
    resume: bool,
    say: Callable[[str], None],
    disturb: Callable[[Run], None] | None = None,
) -> tuple[Run, Optimiser]:
    """Make or reopen the run folder, load the scene, and start or continue the pipeline."""
    check_groups(config)
    if output.exists() and any(output.iterdir()) and not resume:
        raise UserError(
            f"{output}: is not empty; add --resume to continue the run there, or choose another --output"
        )
    if config.bf16 is None:
        config = dataclasses.replace(config, bf16=has_bf16(choose_device(config.device)))
    torch.manual_seed(config.seed)
    run = new_run(scene_folder, output, config, say)
    pipeline, scene, split = run.pipeline, run.scene, run.split
    output.mkdir(parents=True, exist_ok=True)
    save_config(config, output / "config.json")
    say(
        f"{scene.name}: {len(split['train'])} photos to train on, {len(split['held_out'])} held out, "
        f"{len(pipeline.points.xyz):,} points, on {pipeline.device}"
    )
    say_groups(run, say)
    saved = checkpoints(output / "checkpoints") if resume else []
    if saved:
        run.progress = load_checkpoint(saved[-1], pipeline)
        say(f"resumed at step {run.progress.step}")
    else:
        if disturb is not None:
            disturb(run)
        start_from_photos(run, say)
    optimiser = Optimiser(pipeline, config)
    if saved:
        optimiser.load(load_optimiser_state(saved[-1]))
    return run, optimiser


def train(
    scene_folder: Path,
    output: Path,
    config: TrainConfig,
    resume: bool = False,
    say: Callable[[str], None] = print,
    callback: Callable[[Run, dict[str, float]], object] | None = None,
    disturb: Callable[[Run], None] | None = None,
) -> dict[str, Any]:
    """Train a scene and return its evaluation, as `eval/eval.json` holds it.

    Args:
        scene_folder: an ADOP scene folder.
        output: the run folder, made anew, or continued with `resume`.
        callback: called after every step with the run and the step's numbers; returns "save" to have a checkpoint
            written now.
        disturb: called once, before anything is taken from the photos; benchmarks make cameras and points wrong here.

    Raises: UserError for what a user can mend. Ctrl-C saves a checkpoint before it is raised on.
    """
    with repeatable(choose_device(config.device)):
        run, optimiser = prepare(scene_folder, output, config, resume, say, disturb)
        weights = config.loss.vgg_weights if config.loss.vgg > 0 else None
        vgg = Vgg(weights).to(run.device) if weights else None
        with closing(Log(output, run.progress.step, say)) as log:
            return _learn(run, optimiser, vgg, log, say, callback)


def _learn(
    run: Run,
    optimiser: Optimiser,
    vgg: Vgg | None,
    log: Log,
    say: Callable[[str], None],
    callback: Callable[[Run, dict[str, float]], object] | None,
) -> dict[str, Any]:
    output = run.folder
    with interrupts() as interrupted:
        _loop(run, optimiser, StepGraphs(run, vgg, say), log, callback, interrupted)
    try:
        save_checkpoint(output / "checkpoints", run.pipeline, optimiser.state(), run.progress)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{output}: the last checkpoint cannot be written ({error}); make room, then --resume continues "
            "from the one before"
        ) from None
    if interrupted():
        say(f"stopped at step {run.progress.step}; continue with --resume")
        raise KeyboardInterrupt
    if not run.split["held_out"]:
        return {}
    say("evaluating held-out photos")
    plot_run(run, output / "eval")
    result = evaluate(run)
    log.write(run.progress.step, result["mean"], "held_out")
    return result


@contextmanager
def repeatable(device: torch.device) -> Iterator[None]:
    """Let torch add in the same order in every run on a CPU, so that a resumed run ends at the same numbers."""
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(before or device.type == "cpu")
    # Filling what is about to be overwritten costs time and changes nothing: no op here reads it.
    torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before)


def _loop(
    run: Run,
    optimiser: Optimiser,
    steps: StepGraphs,
    log: Log,
    callback: Callable[[Run, dict[str, float]], object] | None,
    interrupted: Callable[[], bool],
) -> None:
    config, start = run.config, time.monotonic() - run.progress.seconds
    saved, line, recent = time.monotonic(), ProgressLine(), Recent()
    read_every = 1 if callback is not None or run.device.type == "cpu" else READ_EVERY

    batches = BatchPrefetcher(functools.partial(draw_batch, run))
    while _share_done(run) < 1 and not interrupted():
        step = run.progress.step
        batch = batches.batch(step)
        found = steps.learning_step(batch)
        optimiser.step(step, _share_done(run))
        recent.add(found)
        log.moved(step + 1, refine_again(run, step + 1, _share_done(run)))
        run.progress = Progress(step + 1, time.monotonic() - start)
        if (step + 1) % read_every == 0:
            values, means = recent.read()
            line.show(step + 1, _share_done(run), means["loss"], means["psnr"])
        wish = callback(run, values) if callback is not None else None
        if (step + 1) % LOG_EVERY == 0:
            log.write(step + 1, means)
        if (step + 1) % config.evaluate_every == 0 and _share_done(run) < 1:
            _glance(run, log)
        if wish == "save" or time.monotonic() - saved > config.checkpoint_seconds:
            _try_to_save(run, optimiser)
            saved = time.monotonic()
    batches.close()
    line.close()


def _try_to_save(run: Run, optimiser: Optimiser) -> None:
    """Save a checkpoint; a full disk ends no run, it goes on and tries again later."""
    try:
        save_checkpoint(run.folder / "checkpoints", run.pipeline, optimiser.state(), run.progress)
    except (OSError, SafetensorError) as error:
        print(f"\ncheckpoint at step {run.progress.step} not written ({error}); going on", file=sys.stderr)


def _share_done(run: Run) -> float:
    if run.config.minutes is not None:
        return run.progress.seconds / (60 * run.config.minutes)
    return run.progress.step / run.config.steps


def _glance(run: Run, log: Log) -> None:
    """Score up to four held-out photos and keep their pictures."""
    photos = run.split["held_out"][:: max(1, len(run.split["held_out"]) // 4)][:4]
    scores = []
    for photo in photos:
        score, view = score_photo(run, photo)
        scores.append(score)
        log.picture(run.progress.step, f"held_out/{score.photo}", view.fitted)
    if scores:
        means = {
            name: sum(getattr(s, name) for s in scores) / len(scores)
            for name in ("psnr", "psnr_fitted", "ssim")
        }
        log.write(run.progress.step, means, "held_out")
