"""`adop doctor --gpu-bench`: what a GPU takes for drawing, views and training steps, in one table."""

from __future__ import annotations

import functools
import gc
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import torch

from adop.backend.choice import choose_device, machine_name
from adop.bench.frame_speed import time_frames
from adop.bench.raster.benchmark import LEVELS, time_passes, time_with_level_of_detail
from adop.bench.raster.scene import WALL_DISTANCE, BenchScene, bench_camera, make_bench_scene
from adop.bench.training_speed import time_steps
from adop.config import preset, save_config
from adop.doctor.gpu_check import no_gpu
from adop.doctor.wall_scene import make_wall_scene
from adop.errors import UserError
from adop.files import write_text
from adop.ops import RasterConfig
from adop.progress import Stages
from adop.run.checkpoint import save_checkpoint
from adop.run.run import Run, has_bf16, new_run
from adop.training.optimiser import Optimiser

PRESETS = ("quick", "gpu", "large")
RASTER, VIEWS, STEPS, TOGETHER = "rasterizer", "views", "training steps", "two runs at once"
EXPECTED = {RASTER: 60.0, VIEWS: 40.0, STEPS: 90.0, TOGETHER: 80.0}  # seconds, guessed


@dataclass(frozen=True)
class Workload:
    """How much is measured."""

    points: tuple[int, ...] = (1_000_000, 10_000_000, 100_000_000)  # of the rasterizer's walls
    picture: tuple[int, int] = (1920, 1080)  # pixels, of the rasterizer
    sizes: tuple[tuple[int, int], ...] = ((1920, 1080), (1000, 664))  # of views
    scene_points: int = 2_000_000
    many_points: int = 100_000_000  # of the scene with the most points whose views are drawn
    photos: int = 24
    photo_size: tuple[int, int] = (1600, 1066)
    repeats: int = 15
    steps: int = 100
    steps_together: int = 500


@dataclass(frozen=True)
class Figure:
    """One measured number."""

    name: str
    value: float
    unit: str


def gpu_bench(json_file: Path | None, workload: Workload | None = None, device: str = "cuda") -> int:
    """Measure everything on a made-up scene, print a table and return 0. Raises: UserError without a CUDA GPU."""
    if device == "cuda" and not torch.cuda.is_available():
        raise UserError(no_gpu("--gpu-bench"))
    workload, where = workload or Workload(), choose_device(device)
    machine = f"{machine_name(where)}, torch {torch.__version__}"
    print(f"{machine}; medians; pictures of the rasterizer {workload.picture[0]}x{workload.picture[1]}")
    parts = {RASTER: _raster, VIEWS: _views, STEPS: _steps, TOGETHER: _together}
    figures = []
    with (
        tempfile.TemporaryDirectory(prefix="adop-bench-") as folder,
        Stages("benchmark", EXPECTED, print) as stages,
    ):
        wall = Path(folder) / "wall"
        scene = make_wall_scene(wall, workload.scene_points, workload.photos, workload.photo_size)
        bench = _Bench(workload, where, Path(folder), scene)
        try:
            for stage, measure in parts.items():
                stages.begin(stage)
                for figure in measure(bench):
                    figures.append(figure)
                    stages.say(f"{figure.name:<66}{figure.value:10.3f} {figure.unit}")
        finally:
            if json_file is not None:
                result = {"machine": machine, "figures": [asdict(figure) for figure in figures]}
                write_text(json_file, json.dumps(result, indent=1) + "\n")
    return 0


@dataclass(frozen=True)
class _Bench:
    workload: Workload
    device: torch.device
    folder: Path
    scene: Path

    def run(self, name: str) -> Run:
        """Return an untrained run of a preset; a trained one of as many points takes as long."""
        bf16 = has_bf16(self.device)
        config = replace(preset(name), device=str(self.device), scene=str(self.scene), bf16=bf16)
        return new_run(self.scene, self.folder / name, config, lambda _: None)


def _raster(bench: _Bench) -> Iterator[Figure]:
    """Draw the whole wall: every point, with the features' gradient, and with level of detail."""
    for count in bench.workload.points:
        yield from _that_fits(
            bench, f"{count / 1e6:g} M points", functools.partial(_raster_figures, bench, count)
        )


def _raster_figures(bench: _Bench, count: int) -> list[Figure]:
    label, (width, height), repeats = (
        f"{count / 1e6:g} M points",
        bench.workload.picture,
        bench.workload.repeats,
    )
    camera = bench_camera(2 * WALL_DISTANCE).to(bench.device)
    zoom = max(width / camera.width, height / camera.height)
    wall = make_bench_scene(count, device=bench.device)
    scene = replace(wall, camera=camera.cropped(zoom, 0.0, 0.0, width, height))
    every_point = RasterConfig(levels=LEVELS, radius_threshold=0.0)
    times = time_passes(scene, every_point, "auto", repeats, ("forward", "features"))
    detailed = time_with_level_of_detail(scene, repeats)
    return [
        Figure(f"{label}, every one drawn", times["forward"], "ms"),
        Figure(f"{label}, every one drawn", count / times["forward"] / 1e6, "Gpoints/s"),
        Figure(f"{label}, every one drawn, with the features' gradient", times["features"], "ms"),
        Figure(f"{label}, level of detail", detailed.forward_ms, "ms"),
    ]


def _views(bench: _Bench) -> Iterator[Figure]:
    """Render views of the presets' networks, one at a time, and one with very many points."""
    for name in PRESETS:
        yield from _that_fits(bench, f"views of {name}", functools.partial(_view_figures, bench, name))
    many = f"view of gpu, {bench.workload.many_points / 1e6:g} M points"
    yield from _that_fits(bench, many, functools.partial(_many_points_figures, bench, many))


def _view_figures(bench: _Bench, name: str) -> list[Figure]:
    run, figures = bench.run(name), []
    run.pipeline.config = replace(run.pipeline.config, antialias=False)
    for width, height in bench.workload.sizes:
        times = time_frames(run, width, height, bench.workload.repeats)
        label = f"view of {name}, {width}x{height}"
        figures += [Figure(label, times.frame, "ms"), Figure(f"{label}, on the host", times.host, "ms")]
    return figures


def _many_points_figures(bench: _Bench, label: str) -> list[Figure]:
    run = bench.run("gpu")
    run.pipeline.config = replace(run.pipeline.config, antialias=False)
    _put_points(run, make_bench_scene(bench.workload.many_points, device=bench.device))
    times = time_frames(run, *bench.workload.picture, bench.workload.repeats)
    return [Figure(label, times.frame, "ms"), Figure(label, times.per_second, "pictures/s")]


def _steps(bench: _Bench) -> Iterator[Figure]:
    """Take training steps of the presets."""
    for name in PRESETS:
        yield from _that_fits(bench, f"training of {name}", functools.partial(_step_figures, bench, name))


def _step_figures(bench: _Bench, name: str) -> list[Figure]:
    times, _ = time_steps(bench.run(name), bench.workload.steps)
    label = f"training step of {name}"
    return [Figure(label, times.step, "ms"), Figure(f"{label}, CPU time of all threads", times.host, "ms")]


def _together(bench: _Bench) -> Iterator[Figure]:
    """Time steps of one run alone, then of two at once, each a process of its own."""
    run = bench.run("gpu")
    run.folder.mkdir()
    save_config(run.config, run.folder / "config.json")
    optimiser = Optimiser(run.pipeline, run.config.learn, run.config.lr)
    save_checkpoint(run.folder / "checkpoints", run.pipeline, optimiser.state(), run.progress)
    del optimiser
    (alone,) = _rates(bench, run, 1)
    both = _rates(bench, run, 2)
    yield Figure("training steps of gpu, one run alone", alone, "steps/s")
    yield Figure("training steps of gpu, the slower one of two at once", min(both), "steps/s")
    yield Figure("training steps of gpu, the slower one over one alone", 100 * min(both) / alone, "%")


def _rates(bench: _Bench, run: Run, count: int) -> list[float]:
    """Return steps a second of `count` processes that train at once."""
    files = [bench.folder / f"steps_{count}_{number}.json" for number in range(count)]
    command = [sys.executable, "-m", "adop", "bench", "train", str(run.folder), "--device", str(bench.device)]
    command += ["--steps", str(bench.workload.steps_together)]
    processes = [
        subprocess.Popen([*command, "--json", str(file)], stdout=subprocess.DEVNULL, cwd=bench.folder)
        for file in files
    ]
    if any([process.wait() != 0 for process in processes]):
        raise UserError(f"`adop bench train` failed with {count} at once; see above")
    return [float(json.loads(file.read_text())["per_second"]) for file in files]


@torch.no_grad()
def _put_points(run: Run, wall: BenchScene) -> None:
    """Put the wall's points, grey, in the place of the run's."""
    points, learned = wall.points, run.pipeline.points
    learned.resize(len(wall.features))
    learned.set_xyz(points.xyz)
    learned.lod_radius.copy_(points.radius)
    learned.features.fill_(-1.0)


def _that_fits(bench: _Bench, label: str, measure: Callable[[], list[Figure]]) -> list[Figure]:
    """Return what is measured; nothing, aloud, where the GPU's memory is too small for it."""
    try:
        return measure()
    except torch.OutOfMemoryError:
        print(f"{label}: not measured, as it needs more memory than this GPU has")
        return []
    finally:
        gc.collect()
        if bench.device.type == "cuda":
            torch.cuda.empty_cache()
