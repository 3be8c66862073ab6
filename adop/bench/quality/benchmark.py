"""`adop bench quality`: held-out scores of presets over training time, beside renders of other programs."""

from __future__ import annotations

import dataclasses
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import tyro

from adop.backend.choice import choose_device, machine_name
from adop.bench.quality.plot import plot_quality, quality_table
from adop.bench.quality.rivals import Rival, find_renders, parse_rivals, score_rival
from adop.config import TrainConfig, preset
from adop.errors import UserError
from adop.evaluation.evaluate import score_held_out
from adop.files import OutputFile, OutputFolder, write_text
from adop.ranges import Count, Positive, Seed
from adop.run.checkpoint import Progress, checkpoints, load_checkpoint, save_checkpoint
from adop.run.photos.scene_photos import scene_split
from adop.run.run import Run, load
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene
from adop.scene.scene import Scene, demo_scene_folder
from adop.training.loop import share_done
from adop.training.train import train

SHARES = (1 / 32, 1 / 16, 1 / 8, 1 / 4, 1 / 2)  # of a training, after which it is scored; and at its end


@dataclass(frozen=True)
class BenchQualityConfig:
    """Train presets on scenes, and plot the scores of the held-out photos over seconds, beside those of rivals.

    The seconds include all that comes before the first step, but not the scoring. Rivals are scored
    plain and colour-corrected: what their exposures would be, only they know.
    """

    scenes: tyro.conf.Positional[tuple[Path, ...]] = ()
    """Scene folders. None: the demo scene."""
    presets: tuple[str, ...] = ("quick",)
    """Presets that are trained side by side."""
    steps: Count | None = None
    """Training steps of every preset. None: each preset's own."""
    minutes: Positive | None = None
    """Train every preset for this many minutes instead of a number of steps."""
    rival: tuple[str, ...] = ()
    """NAME=DIR: renders of another program, an image with the name of each held-out photo. With several scenes,
    DIR has a folder for each, with the name of the scene's folder."""
    rival_seconds: tuple[str, ...] = ()
    """NAME=60: how long that program trained, seconds."""
    output: OutputFolder = Path("runs/bench-quality")
    """Folder for the runs and the plot; must be new or empty."""
    json: OutputFile | None = None
    """Write all numbers to this JSON file."""
    device: str = "auto"
    """Device of torch to train on: cpu, cuda, cuda:1, ... auto uses a CUDA GPU if there is one."""
    seed: Seed = 0
    """Seed of the training."""


@dataclass(frozen=True)
class RivalRenders:
    """A rival's images of the held-out photos of one scene."""

    rival: Rival
    files: list[Path]


def bench_quality(config: BenchQualityConfig) -> int:
    """Run the benchmark, print its table, write JSON and plot; return 0.

    Raises: UserError for options that cannot be used, before anything is trained.
    """
    folders = config.scenes or (demo_scene_folder(),)
    by_name = {folder.resolve().name: folder for folder in folders}
    if len(by_name) < len(folders):
        raise UserError("two of the scenes have folders of the same name")
    configs = {name: _train_config(config, name) for name in config.presets}
    rivals = parse_rivals(config.rival, config.rival_seconds)
    if config.output.exists() and any(config.output.iterdir()):
        raise UserError(f"{config.output}: is not empty; choose another --output")
    loaded = {name: load_scene(folder) for name, folder in by_name.items()}
    renders = {
        name: [_find_rival(rival, scene, configs, len(loaded) > 1) for rival in rivals]
        for name, scene in loaded.items()
    }
    scenes = {
        name: {
            "scene": str(by_name[name]),
            "presets": {
                label: _train_and_score(by_name[name], config.output / f"{name}-{label}", train_config)
                for label, train_config in configs.items()
            },
            "rivals": {
                found.rival.name: _score_rival(found, loaded[name], configs) for found in renders[name]
            },
        }
        for name in by_name
    }
    machine = machine_name(choose_device(config.device))
    print(quality_table(scenes))
    plot_quality(scenes, machine, config.output / "quality.png")
    print(f"plot: {config.output / 'quality.png'}")
    if config.json is not None:
        text = json.dumps({"machine": machine, "scenes": scenes}, indent=2) + "\n"
        write_text(config.json, text)
    return 0


def _train_config(config: BenchQualityConfig, name: str) -> TrainConfig:
    chosen = dataclasses.replace(preset(name), device=config.device, seed=config.seed)
    if config.steps is not None:
        chosen = dataclasses.replace(chosen, steps=config.steps, minutes=None)
    return chosen if config.minutes is None else dataclasses.replace(chosen, minutes=config.minutes)


def _held_out(scene: Scene, configs: dict[str, TrainConfig]) -> list[int]:
    """Return the photos that every preset holds out. Raises: UserError where there are none."""
    every = {config.test_every for config in configs.values()}
    if len(every) > 1:
        raise UserError("the presets hold out different photos, so that their scores cannot be compared")
    held_out = scene_split(scene, every.pop())["held_out"]
    if not held_out:
        raise UserError(f"{scene.folder}: no photo is held out, so there is nothing to score")
    return held_out


def _find_rival(rival: Rival, scene: Scene, configs: dict[str, TrainConfig], several: bool) -> RivalRenders:
    folder = rival.folder / scene.folder.resolve().name if several else rival.folder
    if not folder.is_dir():
        raise UserError(f"{folder}: is not there; with several scenes a rival needs a folder for each")
    return RivalRenders(rival, find_renders(folder, scene, _held_out(scene, configs)))


def _score_rival(found: RivalRenders, scene: Scene, configs: dict[str, TrainConfig]) -> dict[str, Any]:
    photos = _held_out(scene, configs)
    names = [scene.photos[photo].name for photo in photos]
    return score_rival(found.files, PhotoCache(scene), photos, names) | {"seconds": found.rival.seconds}


class Snapshots:
    """A callback of training that saves checkpoints at some of its shares, and says how long it has run without that."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.begun = time.monotonic()
        self.saving = 0.0
        self.due = list(SHARES)
        self.progress = Progress(0, 0.0)

    def __call__(self, run: Run, values: dict[str, float]) -> None:
        """Note the step and its time, and save a checkpoint if one is due."""
        now = time.monotonic()
        self.progress = Progress(run.progress.step, now - self.begun - self.saving)
        share = share_done(run)
        if not self.due or share < self.due[0]:
            return
        self.due = [later for later in self.due if later > share]
        if share < 1:
            save_checkpoint(self.folder, run.pipeline, {}, self.progress, keep=len(SHARES))
            self.saving += time.monotonic() - now


def _train_and_score(scene: Path, folder: Path, config: TrainConfig) -> dict[str, Any]:
    """Train, and return the mean scores over time ("curve") and those of the untrained points.

    The scores on the way are computed afterwards, from checkpoints, so that they take no time of the training.
    """
    config = dataclasses.replace(config, scene=str(scene.resolve()))
    snapshots = Snapshots(folder.with_name(folder.name + "-snapshots"))
    result = train(scene, folder, config, say=lambda text: print(f"  {text}"), callback=snapshots)
    run = load(folder, scene, config.device, say=lambda _: None)
    curve = []
    for file in checkpoints(snapshots.folder):
        progress = load_checkpoint(file, run.pipeline)
        run.pipeline.invalidate()
        curve.append(dataclasses.asdict(progress) | score_held_out(run)["mean"])
    curve.append(dataclasses.asdict(snapshots.progress) | result["mean"])
    shutil.rmtree(snapshots.folder, ignore_errors=True)
    return {"curve": curve, "baseline_points": result["baseline_points"]}
