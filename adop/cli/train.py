"""`adop train`: train a scene."""

from __future__ import annotations

import contextlib
import dataclasses
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import tyro

from adop.cli.parse import check_options
from adop.config import TrainConfig, load_config, preset
from adop.errors import UserError
from adop.evaluation.tables import score_table
from adop.files import OutputFolder
from adop.ranges import Port

if TYPE_CHECKING:
    from adop.viewer.training_view import LiveView

MAY_CHANGE_ON_RESUME = {"steps", "minutes", "evaluate_every", "checkpoint_seconds", "device", "cuda_graphs"}


@dataclass(frozen=True)
class StartOptions:
    """The options that decide which values the others start from."""

    output: Path | None = None
    """Run folder. None: runs/ and the name of the scene's folder."""
    resume: bool = False
    """Continue the run in the output folder from its newest checkpoint."""
    config: Path | None = None
    """JSON file with options (a run's config.json, or a part of one). Options on the command line come first."""
    preset: str | None = None
    """Name of the preset that the other options start from."""


@dataclass(frozen=True)
class TrainOptions:
    """Train a scene: points, network, environment and physical camera together, from its photos.

    The run folder then holds config.json, metrics.jsonl, checkpoints/, exposure.json, eval/eval.json and eval/index.html.
    """

    scenes: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Scene folder (`adop capture` or `adop import` makes one). None: the demo scene that ships with adop. Several: one
    network learns them all, and the output has a run of each."""
    output: OutputFolder | None = StartOptions.output
    """Run folder. None: runs/ and the name of the scene's folder."""
    resume: bool = StartOptions.resume
    """Continue the run in the output folder from its newest checkpoint."""
    profile: bool = False
    """Time every stage of the training steps and print the times at the end. Turns CUDA graphs off."""
    config: Path | None = StartOptions.config
    """JSON file with options (a run's config.json, or a part of one). Options on the command line come first."""
    view: bool = False
    """Show the scene in the browser during training."""
    host: str = "127.0.0.1"
    """Address at which the viewer listens; addresses beyond this machine need a token (see `adop view --help`)."""
    port: Port = 8090
    """Port of the viewer. 0: a free one."""
    token: str | None = None
    """Token that a browser must present. None: make one if the viewer is open to other machines."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = field(default_factory=TrainConfig)


def parse_train_options(name: str, words: list[str]) -> tuple[TrainOptions, TrainConfig]:
    """Return the options, and the configuration that they started from.

    A first parser reads the options that choose the start: a run to be resumed, a file or a preset. The second
    parser reads all the others, with the chosen values as its defaults.
    """
    start, others = tyro.cli(StartOptions, prog=name, args=words, return_unknown_args=True, add_help=False)
    chosen = preset(start.preset or "quick")
    if start.resume and start.output is None:
        raise UserError("--resume continues the run of a folder; name it with --output")
    begun = _begun(start.resume, start.output)
    if begun is not None:
        base = load_config(begun)
    elif start.config is not None:
        base = load_config(start.config)
    else:
        base = chosen
    train = base if start.preset is None else dataclasses.replace(base, preset=chosen.preset)
    defaults = TrainOptions(output=start.output, resume=start.resume, config=start.config, train=train)
    options = tyro.cli(TrainOptions, prog=name, args=others, default=defaults)
    check_options(options)
    return options, base


def _begun(resume: bool, output: Path | None) -> Path | None:
    """Return the configuration of the run to resume, or of one of the runs of several scenes; None where none is."""
    if not resume or output is None:
        return None
    own = output / "config.json"
    return own if own.exists() else min(output.glob("*/config.json"), default=None)


def train_command(name: str, words: list[str]) -> int:
    """Run `adop train` and return the exit status."""
    options, base = parse_train_options(name, words)
    from adop.ranks import is_first_process
    from adop.scene.scene import demo_scene_folder

    scenes = list(options.scenes)
    if not scenes:
        scenes = [Path(options.train.scene) if options.train.scene else demo_scene_folder()]
    output = options.output or Path("runs") / "+".join(scene.resolve().name for scene in scenes)
    begun = _begun(options.resume, options.output)
    if begun is not None:
        _check_resume(base, options.train)
        if len(scenes) == 1 and begun.parent != output:
            raise UserError(
                f"{output}: has runs of several scenes; name these scenes to continue them together"
            )
    if len(scenes) > 1:
        _train_scenes(options, scenes, output)
        return 0
    (scene,) = scenes
    if not options.view or not is_first_process():
        _train(options, scene, output, None)
        return 0
    from adop.viewer.training_view import LiveView

    live = LiveView(options.host, options.port, options.token)
    try:
        _train(options, scene, output, live)
    except BaseException:
        live.close()
        raise
    live.finish()
    return 0


def _check_resume(begun: TrainConfig, given: TrainConfig) -> None:
    """Raise UserError where options were given that cannot change in the middle of a run."""
    names = [field.name for field in dataclasses.fields(TrainConfig)]
    changed = [name for name in names if getattr(begun, name) != getattr(given, name)]
    fixed = [name.replace("_", "-") for name in changed if name not in MAY_CHANGE_ON_RESUME]
    if fixed:
        raise UserError(f"--resume continues the run with its own options; leave out {', '.join(fixed)}")


def _train(options: TrainOptions, scene: Path, output: Path, live: LiveView | None) -> None:
    """Train with the options and print the scores."""
    from adop.ranks import is_first_process
    from adop.training.train import train

    config = dataclasses.replace(options.train, scene=str(scene.resolve()))
    profile = None
    if options.profile:
        from adop.bench.step_profile import StepProfile

        profile = StepProfile()
    watch = None
    if live is not None:
        live.show_points(scene, output, config)
        watch = live.watch
    with profile or contextlib.nullcontext():
        result = train(scene, output, config, options.resume, callback=live, watch=watch)
    if profile and is_first_process():
        print(profile.table())
    _print_scores(output, result)


def _print_scores(output: Path, result: dict[str, Any], title: str = "") -> None:
    """Print the scores of a run, if it has any, below a title."""
    if result:
        print(f"{title}{score_table(result)}")
        print(f"results: {output / 'eval' / 'index.html'}")


def _train_scenes(options: TrainOptions, scenes: list[Path], output: Path) -> None:
    """Train one network on several scenes and print the scores of each."""
    if options.view or options.profile:
        raise UserError("--view and --profile show one scene; leave them out where several are trained")
    from adop.training.train import train_scenes

    results = train_scenes(scenes, output, options.train, options.resume)
    for name, result in results.items():
        _print_scores(output / name, result, f"{name}\n")
