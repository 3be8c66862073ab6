"""Training: photos, cameras and points become a run folder with checkpoints, metrics and pictures."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError

from adop.backend.choice import choose_device, machine_name
from adop.config import TrainConfig, save_config
from adop.errors import UserError
from adop.evaluation.evaluate import PLOTS, SCORES, evaluate, scoring_seconds
from adop.evaluation.run_plots import plot_run
from adop.interrupts import interrupts
from adop.model.network import NeuralRenderer
from adop.preparation.refinement import check_method, report_learned
from adop.preparation.start import preparation, start_from_photos
from adop.progress import Stages
from adop.ranges import check_ranges
from adop.ranks import (
    alone,
    copy_first_,
    first_number,
    from_all,
    heard,
    joined,
    rank_device,
    ranks,
    together,
    wait,
)
from adop.run.checkpoint import PACKED, checkpoints, load_checkpoint, load_optimiser_state
from adop.run.exposure import save_exposure
from adop.run.memory import estimate_memory, free_memory, memory_advice
from adop.run.photos.occluders import load_occluders, save_occluders
from adop.run.photos.scene_photos import check_masks
from adop.run.run import Run, has_bf16, new_run
from adop.run.start_network import start_network
from adop.run.trained_scene import SCENE_FILE, has_trained_points, save_trained_scene
from adop.training.log import Log
from adop.training.loop import (
    Say,
    StepCallback,
    Training,
    check_loss,
    newest_checkpoint,
    not_finite,
    save,
    share_done,
    take_steps,
    try_to_save,
)
from adop.training.optimiser import Optimiser
from adop.training.processes import average_network, check_processes

# What a run folder may have before its first step; paths and renders are the viewer's.
LEFT_BY_START = {"config.json", SCENE_FILE, "occluders", "checkpoints", "paths", "renders"}
EXPOSURES = "exposure of new views"
RESUME = "`--resume` continues from the newest checkpoint"


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
    with joined(config.device, RESUME), deterministic(choose_device(rank_device(config.device))):
        with _said_if_interrupted(say, "interrupted before the first step; the same command starts again"):
            run = _open_run(scene_folder, output, config, resume, say)
            start = functools.partial(_start, run, say, disturb, watch)
            optimiser = _begin(run, resume, start, say)
        with closing(Log(output, run.progress.step, say, writes=ranks().first)) as log:
            return _train_and_evaluate([Training(run, optimiser, log, say, callback)])[0]


def train_scenes(
    scene_folders: Sequence[Path],
    output: Path,
    config: TrainConfig,
    resume: bool = False,
    say: Say = print,
) -> dict[str, dict[str, Any]]:
    """Train one network on several scenes, a step of each in turn; return the evaluation of each, by its name.

    Each scene becomes a run of its own, `output/NAME`, with which everything can be done as with others. NAME is that of
    the scene's folder. `config.steps` or `config.minutes` are those of each scene, which share the time. Of the processes
    that `torchrun` starts, each trains scenes of its own, and after each turn the network becomes the mean of theirs;
    where there are fewer scenes than processes, they share the crops of each step, as of one scene. All but the first
    process return empty evaluations.

    Args: as for `train`.

    Raises: as `train`; UserError also where two scenes have the same name.

    Source: ADOP (Rückert et al. 2022) trains a network on several scenes likewise.
    """
    named = _named(scene_folders)
    if (output / "config.json").exists():
        raise UserError(f"{output}: is a run itself; choose another --output for the runs of several scenes")
    with (
        joined(config.device, RESUME),
        deterministic(choose_device(rank_device(config.device))),
        ExitStack() as logs,
    ):

        def say_aloud(text: str) -> None:
            with heard() if apart else nullcontext():
                say(text)

        processes = ranks()
        apart = 1 < processes.count <= len(named)
        own = dict(list(named.items())[processes.rank :: processes.count]) if apart else named
        if apart:
            say(f"{len(named)} scenes, shared by {processes.count} processes; the first shows its progress")
            logs.enter_context(alone())
        trainings: list[Training] = []
        network: NeuralRenderer | None = None
        with _said_if_interrupted(say, "interrupted before the first step; --resume continues"):
            for name, scene in own.items():
                of_scene = dataclasses.replace(config, scene=str(scene.resolve()))
                training = _begin_one(scene, output / name, of_scene, resume, say_aloud, network)
                network = training.run.pipeline.network
                logs.enter_context(closing(training.log))
                trainings.append(training)
        if not apart or network is None:
            return dict(zip(own, _train_and_evaluate(trainings), strict=True))
        # A new scene must not take the others' network away; if all are new, the first process's is as good as any.
        done = sum(training.run.progress.step for training in trainings)
        if not average_network(network, done, asked=False)[1]:
            with together():
                copy_first_(parameter.detach() for parameter in network.parameters())
        results = dict(zip(own, _train_and_evaluate(trainings, network), strict=True))
        with together():
            found = {name: result for part in from_all(results) for name, result in part.items()}
        return {name: found[name] if processes.first else {} for name in named}


def _begin_one(
    scene: Path, folder: Path, config: TrainConfig, resume: bool, say: Say, network: NeuralRenderer | None
) -> Training:
    """Return the training of one of several scenes, which begins, or continues if it has begun before.

    Args: network: what the scenes before it share; None: it is the first.
    """
    label = f"{folder.name}: "

    def say_which(text: str) -> None:
        say(label + text)

    resume = resume and first_number(float(folder.exists())) > 0
    run = _open_run(scene, folder, config, resume, say_which)
    if network is not None:
        run.pipeline.network = network
    optimiser = _begin(
        run, resume, functools.partial(_start, run, say_which, None, None, network is None), say_which
    )
    log = Log(folder, run.progress.step, say_which, writes=ranks().first)
    return Training(run, optimiser, log, say_which, label=label)


def _named(scene_folders: Sequence[Path]) -> dict[str, Path]:
    """Return the scenes by the names of their folders. Raises: UserError where two have the same name."""
    named: dict[str, Path] = {}
    for folder in scene_folders:
        name = folder.resolve().name
        if name in named:
            raise UserError(
                f"{named[name]} and {folder} have the same name, and so would their runs; rename one"
            )
        named[name] = folder
    return named


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
    saved = newest_checkpoint(run) if resume else None
    if saved is None:
        if ranks().first:
            start()
            optimiser = Optimiser(run.pipeline, run.config.learn, run.config.lr)
            # The start took minutes, and is what a step that goes wrong is undone to.
            try_to_save(run, optimiser)
        saved = None if ranks().count == 1 else newest_checkpoint(run)
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


def _start(
    run: Run,
    say: Say,
    disturb: Callable[[Run], None] | None,
    watch: Callable[[Stages], None] | None,
    first: bool = True,
) -> None:
    """Take from the photos what training starts from; of several scenes the first takes the network that they share."""
    if disturb is not None:
        disturb(run)
    if first:
        start_network(run, say)
    stages = preparation(run, say)
    if watch is not None:
        watch(stages)
    start_from_photos(run, stages)
    save_occluders(run.folder, run.scene, run.cache)


def _check_output(output: Path, resume: bool, say: Say) -> None:
    """Raise UserError where a folder can neither begin a run nor, with `resume`, continue one."""
    begun = {file.name for file in output.iterdir()} if output.exists() else set()
    has_checkpoints = bool(checkpoints(output / "checkpoints"))
    # What an interrupted start left is made again.
    if begun and not resume and not (begun <= LEFT_BY_START and not has_checkpoints):
        raise UserError(
            f"{output}: is not empty; add --resume to continue the run there, or choose another --output"
        )
    if resume and not (output / "config.json").exists():
        if begun - LEFT_BY_START:
            raise UserError(f"{output}: holds something else than a run; choose another --output")
        say(f"{output}: has no run to continue, so a new one begins")
    if resume and (output / PACKED).exists() and not has_checkpoints:
        raise UserError(
            f"{output}: has only {PACKED}, which can be shown but not trained further; choose another --output"
        )


def _open_run(scene_folder: Path, output: Path, config: TrainConfig, resume: bool, say: Say) -> Run:
    """Return the run at its beginning, with its folder made and its configuration saved."""
    check_ranges(config)
    check_method(config)
    check_loss(config.loss)
    if ranks().first:
        _check_output(output, resume, say)
    if config.bf16 is None:
        config = dataclasses.replace(config, bf16=has_bf16(choose_device(config.device)))
    torch.manual_seed(config.seed)
    here = dataclasses.replace(config, device=rank_device(config.device))
    if not ranks().first:
        wait()  # until the first process has prepared the points, which takes much memory
    run = new_run(scene_folder, output, here, say)
    if ranks().first:
        wait()
        check_masks(run.scene, run.cache)
    check_processes(run)
    if ranks().first:
        continues = resume and bool(checkpoints(output / "checkpoints"))
        if continues:
            run.trained_points = has_trained_points(run.scene, output, say)
        output.mkdir(parents=True, exist_ok=True)
        save_config(config, output / "config.json")
        if not continues:
            save_trained_scene(run.scene, output)
    say(
        f"{run.scene.name}: {len(run.split['train'])} photos to train on, {len(run.split['held_out'])} held out, "
        f"{len(run.pipeline.points):,} points, on {run.device}"
    )
    report_learned(run, say)
    say(memory_advice(estimate_memory(run), free_memory(run.device), config))
    return run


def _train_and_evaluate(
    trainings: Sequence[Training], shared: NeuralRenderer | None = None
) -> list[dict[str, Any]]:
    """Train runs together to their end, save them, and return their evaluations.

    Args: shared: see `take_steps`.
    """
    with interrupts() as interrupted:
        stopped = take_steps(trainings, interrupted, shared)
        for training in trainings:
            _save_at_end(training)
        wait()
    if stopped:
        for training in trainings:
            training.say(f"stopped at step {training.run.progress.step}; continue with --resume")
        raise KeyboardInterrupt
    return [_evaluate(training) for training in trainings]


def _save_at_end(training: Training) -> None:
    run = training.run
    if not ranks().first or not_finite(run.pipeline):
        return
    try:
        save(run, training.optimiser)
    except (OSError, SafetensorError) as error:
        raise UserError(
            f"{run.folder}: the last checkpoint cannot be written ({error}); free some space, then --resume continues "
            "from the checkpoint before"
        ) from None


def _evaluate(training: Training) -> dict[str, Any]:
    run, say = training.run, training.say
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
