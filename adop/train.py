"""Training: photos, cameras and points in; a run folder with checkpoints, metrics and pictures out."""

from __future__ import annotations

import dataclasses
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from tqdm import tqdm

from adop.calibrate import calibrate
from adop.checkpoint import Progress, checkpoints, load_checkpoint, save_checkpoint
from adop.config import TrainConfig, save_config
from adop.errors import UserError
from adop.evaluate import evaluate, score_photo
from adop.loss import Vgg, training_loss
from adop.metrics import psnr
from adop.optim import Optimiser
from adop.photometry import colour_points, estimate_exposures, fill_environment, gather, known_exposures
from adop.report import to_uint8
from adop.run import Run, choose_device, has_bf16, open_scene, split_photos
from adop.sampler import Batch, sample, step_generator


def start_from_photos(run: Run, say: Callable[[str], None]) -> None:
    """Start exposures (where EXIF has none), the points' colours and the environment from the training photos."""
    gathered = {}
    for photo in tqdm(run.split["train"], desc="looking up points", leave=False, disable=None):
        gathered[photo] = gather(run.pipeline, run.cache, photo, run.config.render.backend)
    tonemapper = run.pipeline.tonemapper
    if known_exposures(run.scene) is None:
        exposure = estimate_exposures(gathered, len(run.pipeline.xyz), len(run.scene.photos))
        tonemapper.exposure_start.copy_(exposure)
        tonemapper.exposure_trust.fill_(1.0)
    error = calibrate(run.pipeline, gathered, run.config.camera, run.config.seed)
    say(f"physical camera: fitted to points that several photos see, median error {255 * error:.1f} of 255")
    colour_points(run.pipeline, gathered)
    share = fill_environment(run.pipeline, run.cache, run.split["train"])
    say(f"environment: {100 * share:.0f} % of the photos' rays meet no point")


def learning_step(run: Run, optimiser: Optimiser, batch: Batch, vgg: Vgg | None) -> dict[str, Tensor]:
    """Render the batch and call backward; return the loss, its terms and the PSNR."""
    pipeline, config = run.pipeline, run.config
    device = pipeline.xyz.device
    side = batch.target.shape[2]
    camera = pipeline.camera(batch.photos, batch.crop, (side, side))
    radiance = pipeline.radiance(camera, pipeline.photo_lens[batch.photos])
    image = pipeline.photo(radiance.picture, camera, batch.photos, leak=True)
    target, mask = batch.target.to(device), batch.mask.to(device)
    loss = training_loss(image, target, mask, config.loss, vgg)
    total = loss.total + config.loss.camera_prior * pipeline.tonemapper.prior()
    total.backward()
    return {"loss": total.detach(), "psnr": psnr(image.detach().clamp(0, 1), target, mask).mean()} | {
        name: term.detach() for name, term in loss.terms.items()
    }


class Log:
    """metrics.jsonl and TensorBoard of a run."""

    def __init__(self, folder: Path, step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        self.path = folder / "metrics.jsonl"
        if self.path.exists():
            lines = [line for line in self.path.read_text().splitlines() if _step_of(line) <= step]
            self.path.write_text("".join(line + "\n" for line in lines))
        self.board = SummaryWriter(str(folder / "tensorboard"), purge_step=step + 1)

    def write(self, step: int, values: dict[str, float], kind: str = "train") -> None:
        """Append one line, and the same to TensorBoard."""
        with open(self.path, "a") as file:
            file.write(json.dumps({"step": step, "kind": kind} | values) + "\n")
        for name, value in values.items():
            self.board.add_scalar(f"{kind}/{name}", value, step)

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """Add a picture [3, H, W] to TensorBoard."""
        self.board.add_image(name, to_uint8(image), step, dataformats="HWC")


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError):
        return 2**62


def prepare(
    scene_folder: Path, output: Path, config: TrainConfig, resume: bool, say: Callable[[str], None]
) -> tuple[Run, Optimiser]:
    """Make or reopen the run folder, load the scene, and start or continue the pipeline."""
    if output.exists() and any(output.iterdir()) and not resume:
        raise UserError(
            f"{output}: is not empty; add --resume to continue the run there, or choose another --output"
        )
    if config.bf16 is None:
        config = dataclasses.replace(config, bf16=has_bf16(choose_device(config.device)))
    torch.manual_seed(config.seed)
    pipeline, scene, cache = open_scene(scene_folder, config, say)
    split = split_photos(len(scene.photos), config.hold_out)
    run = Run(output, config, scene, cache, pipeline, split, Progress(0, 0.0))
    output.mkdir(parents=True, exist_ok=True)
    save_config(config, output / "config.json")
    say(
        f"{scene.name}: {len(split['train'])} photos to train on, {len(split['held_out'])} held out, "
        f"{len(pipeline.xyz):,} points, on {pipeline.xyz.device}"
    )
    saved = checkpoints(output / "checkpoints") if resume else []
    optimiser = Optimiser(pipeline, config)
    if saved:
        run.progress = load_checkpoint(saved[-1], pipeline, optimiser)
        say(f"resumed at step {run.progress.step}")
    else:
        start_from_photos(run, say)
    return run, optimiser


def train(
    scene_folder: Path,
    output: Path,
    config: TrainConfig,
    resume: bool = False,
    say: Callable[[str], None] = print,
    callback: Callable[[Run, dict[str, float]], None] | None = None,
) -> dict[str, Any]:
    """Train a scene and return its evaluation, as `eval/eval.json` holds it.

    Args:
        scene_folder: an ADOP scene folder.
        output: the run folder, made anew, or continued with `resume`.
        callback: called after every step with the run and the step's numbers.

    Raises: UserError for what a user can mend. Ctrl-C saves a checkpoint before it is raised on.
    """
    run, optimiser = prepare(scene_folder, output, config, resume, say)
    vgg = (
        Vgg(config.loss.vgg_weights).to(run.pipeline.xyz.device)
        if config.loss.vgg > 0 and config.loss.vgg_weights
        else None
    )
    log = Log(output, run.progress.step)
    try:
        _loop(run, optimiser, vgg, log, callback)
    except KeyboardInterrupt:
        save_checkpoint(output / "checkpoints", run.pipeline, optimiser, run.progress)
        say(f"stopped at step {run.progress.step}; continue with --resume")
        raise
    save_checkpoint(output / "checkpoints", run.pipeline, optimiser, run.progress)
    if not run.split["held_out"]:
        return {}
    say("evaluating held-out photos")
    about = {"step": run.progress.step, "seconds": run.progress.seconds}
    result = evaluate(run.pipeline, run.scene, run.cache, run.split, output / "eval", about)
    log.write(run.progress.step, result["mean"], "held_out")
    return result


def _loop(
    run: Run,
    optimiser: Optimiser,
    vgg: Vgg | None,
    log: Log,
    callback: Callable[[Run, dict[str, float]], None] | None,
) -> None:
    config, start = run.config, time.monotonic() - run.progress.seconds
    saved = time.monotonic()
    bar = tqdm(
        total=config.steps if config.minutes is None else None,
        initial=run.progress.step,
        unit="step",
        disable=None,
    )
    sums: dict[str, float] = {}
    while not _finished(run):
        step = run.progress.step
        batch = sample(
            run.scene,
            run.cache,
            run.split["train"],
            config.batch,
            config.crop,
            config.zoom,
            step_generator(config.seed, step),
        )
        values = learning_step(run, optimiser, batch, vgg)
        optimiser.step(step, _share_done(run))
        run.progress = Progress(step + 1, time.monotonic() - start)
        for name, value in values.items():
            sums[name] = sums.get(name, 0.0) + float(value)
        if callback is not None:
            callback(run, {name: float(value) for name, value in values.items()})
        bar.update()
        if (step + 1) % 50 == 0:
            means = {name: value / 50 for name, value in sums.items()}
            sums = {}
            left = (
                "" if config.minutes is None else f", {config.minutes * 60 - run.progress.seconds:.0f} s left"
            )
            bar.set_postfix_str(f"loss {means['loss']:.4f}, {means['psnr']:.2f} dB{left}")
            log.write(step + 1, means)
        if (step + 1) % config.evaluate_every == 0 and not _finished(run):
            _glance(run, log)
        if time.monotonic() - saved > config.checkpoint_seconds:
            save_checkpoint(run.folder / "checkpoints", run.pipeline, optimiser, run.progress)
            saved = time.monotonic()
    bar.close()


def _share_done(run: Run) -> float:
    if run.config.minutes is not None:
        return run.progress.seconds / (60 * run.config.minutes)
    return run.progress.step / run.config.steps


def _finished(run: Run) -> bool:
    return _share_done(run) >= 1


def _glance(run: Run, log: Log) -> None:
    """Score up to four held-out photos and keep their pictures."""
    photos = run.split["held_out"][:: max(1, len(run.split["held_out"]) // 4)][:4]
    scores = []
    for photo in photos:
        score, view = score_photo(run.pipeline, run.scene, run.cache, photo)
        scores.append(score)
        log.picture(run.progress.step, f"held_out/{score.photo}", view.fitted)
    if scores:
        means = {
            name: sum(getattr(s, name) for s in scores) / len(scores)
            for name in ("psnr", "psnr_fitted", "ssim")
        }
        log.write(run.progress.step, means, "held_out")
