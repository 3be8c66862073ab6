"""The commands behind the command line: each parses its own options and calls one function."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from adop.config import TrainConfig, load_config, preset
from adop.errors import UserError

MAY_CHANGE_ON_RESUME = {"steps", "minutes", "evaluate_every", "checkpoint_seconds", "device"}


@dataclass(frozen=True)
class TrainOptions:
    """Train a scene: points, network, environment and physical camera together, from its photos.

    A run folder holds config.json, metrics.jsonl, tensorboard/, checkpoints/, eval/eval.json and eval/index.html.
    """

    scene: tyro.conf.Positional[Path | None] = None
    """Scene folder (`adop import` makes one); without it, the demo scene that ships with adop."""
    output: Path = Path("runs/demo")
    """Run folder."""
    resume: bool = False
    """Continue the run in the output folder from its newest checkpoint."""
    config: Path | None = None
    """Take the values of this JSON file (a run's config.json, or a part of one); options given here win."""
    train: Annotated[TrainConfig, tyro.conf.arg(name="")] = dataclasses.field(default_factory=TrainConfig)


def _option(arguments: list[str], name: str) -> str | None:
    for index, argument in enumerate(arguments):
        if argument == name and index + 1 < len(arguments):
            return arguments[index + 1]
        if argument.startswith(name + "="):
            return argument.split("=", 1)[1]
    return None


def _start_config(arguments: list[str]) -> TrainConfig:
    """Return what the options are laid over: the resumed run's configuration, a file's, or a preset."""
    output = Path(_option(arguments, "--output") or "runs/demo")
    if "--resume" in arguments and (output / "config.json").exists():
        return load_config(output / "config.json")
    file = _option(arguments, "--config")
    if file is not None:
        return load_config(Path(file))
    return preset(_option(arguments, "--preset") or "quick")


def _parse(options: type, name: str, arguments: list[str], default: Any = None) -> Any:
    extra = {} if default is None else {"default": default}
    return tyro.cli(options, prog=name, args=arguments, **extra)


def train_command(name: str, arguments: list[str]) -> int:
    """adop train."""
    base = _start_config(arguments)
    options = _parse(TrainOptions, name, arguments, TrainOptions(train=base))
    if options.resume and (options.output / "config.json").exists():
        changed = [
            field.name
            for field in dataclasses.fields(TrainConfig)
            if getattr(base, field.name) != getattr(options.train, field.name)
        ]
        fixed = [field for field in changed if field not in MAY_CHANGE_ON_RESUME]
        if fixed:
            raise UserError(f"--resume continues the run as it was begun; leave out {', '.join(fixed)}")
    from adop.scene import demo_scene_folder
    from adop.train import train

    scene = options.scene or (Path(options.train.scene) if options.train.scene else demo_scene_folder())
    config = dataclasses.replace(options.train, scene=str(Path(scene).resolve()))
    result = train(Path(scene), options.output, config, options.resume)
    if result:
        print(_table(result))
        print(f"pictures: {options.output / 'eval' / 'index.html'}")
    return 0


def _table(result: dict[str, Any]) -> str:
    lines = [f"{'held-out photos':20}  PSNR    PSNR fitted  SSIM"]
    for label, values in (("trained", result["mean"]), ("points, untrained", result["baseline_points"])):
        lines.append(f"{label:20}  {values['psnr']:5.2f}   {values['psnr_fitted']:5.2f}        {values['ssim']:.4f}")
    return "\n".join(lines)


COMMANDS: dict[str, Callable[[str, list[str]], int]] = {
    "train": train_command,
}
