"""`adop bench train`: how many training steps a second a run takes, and where their time goes."""

from __future__ import annotations

import functools
import json
import time
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
import tyro

from adop.backend.choice import machine_name
from adop.bench.step_profile import StepProfile
from adop.files import OutputFile, write_text
from adop.ranges import Count
from adop.run.device_photos import photos_on_gpu
from adop.run.run import Run, load
from adop.training.loop import perceptual_loss
from adop.training.optimiser import Optimiser
from adop.training.steps.sampler import BatchPrefetcher
from adop.training.steps.step import draw_batch
from adop.training.steps.step_graph import StepGraphs
from adop.training.train import deterministic

WARM_UP = 10  # steps that do not count: threads start, memory is allocated, CUDA graphs are captured


@dataclass(frozen=True)
class BenchTrainConfig:
    """Train a run further for some steps, in memory only, and time them."""

    run: tyro.conf.Positional[Path]
    """Run folder. Nothing is written there."""
    steps: Count = 60
    """Steps that are timed as a whole, and again stage by stage."""
    json: OutputFile | None = None
    """Write all numbers to this JSON file."""
    scene: Path | None = None
    """Scene folder. None: where it was during training."""
    device: str = "auto"
    """Device to train on: cpu, cuda, cuda:1, ... auto uses a CUDA GPU if there is one."""


@dataclass(frozen=True)
class StepTimes:
    """Mean times of a training step, milliseconds."""

    step: float  # from one step to the next
    host: float  # that the CPU works for it, all threads together
    parts: dict[str, float]  # of a step whose stages are waited for, see `StepProfile`

    @property
    def per_second(self) -> float:
        """Steps a second."""
        return 1e3 / self.step


def bench_training(config: BenchTrainConfig) -> StepTimes:
    """Time training steps of a run and print where their time goes."""
    run = load(config.run, config.scene, config.device, packed=False)
    machine = f"{machine_name(run.device)}, torch {torch.__version__}"
    times, profile = time_steps(run, config.steps)
    print(
        f"{machine}; {run.config.batch} crops of {run.config.crop} pixels, {len(run.pipeline.points):,} points"
    )
    print(
        f"{times.per_second:.2f} steps a second: {times.step:.1f} ms a step, of the CPU's time {times.host:.1f} ms"
    )
    print(profile.table())
    if config.json is not None:
        values = {"machine": machine, "per_second": times.per_second} | asdict(times)
        write_text(config.json, json.dumps(values, indent=1) + "\n")
    return times


def time_steps(run: Run, count: int) -> tuple[StepTimes, StepProfile]:
    """Return the times of `count` further steps, and the profile of as many after them. The run is changed."""
    run.pipeline.train()
    with deterministic(run.device):
        trainer = _Trainer(run)
        trainer.take(WARM_UP)
        begun, begun_cpu = time.perf_counter(), time.process_time()
        trainer.take(count)
        seconds, host = time.perf_counter() - begun, time.process_time() - begun_cpu
        trainer.batches.close()
        with StepProfile(warm_up=WARM_UP) as profile:
            profiled = _Trainer(run)
            profiled.take(WARM_UP + count)
            profiled.batches.close()
    return StepTimes(1e3 * seconds / count, 1e3 * host / count, profile.split()), profile


class _Trainer:
    """The training loop without alignment, logs and checkpoints."""

    def __init__(self, run: Run) -> None:
        self.run, self.step = run, run.progress.step
        self.optimiser = Optimiser(run.pipeline, run.config.learn, run.config.lr)
        self.graphs = StepGraphs(run, perceptual_loss(run), print)
        photos = photos_on_gpu(run, lambda _: None)
        self.batches = BatchPrefetcher(functools.partial(draw_batch, run, photos=photos))

    def take(self, steps: int) -> None:
        """Take steps, and wait for the device after the last."""
        for _ in range(steps):
            self.graphs.learning_step(self.batches.batch(self.step))
            self.optimiser.step(self.step, 1.0)
            self.step += 1
        if self.run.device.type == "cuda":
            torch.cuda.synchronize(self.run.device)
