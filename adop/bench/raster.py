"""The rasterizer against its rivals, in ratios, in one run on one machine."""

import json
import platform
import resource
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from adop.bench.raster_plot import plot_growth
from adop.bench.raster_rivals import RIVALS, Rival
from adop.bench.raster_scene import DISTANCE, HEIGHT, WIDTH, BenchScene, bench_camera, make_bench_scene
from adop.ops import Backend, Points, RasterConfig, draw, project
from adop.run.run import choose_device


@dataclass(frozen=True)
class BenchRasterConfig:
    """The rasterizer's benchmark."""

    points: int = 1_000_000
    """Points of the facade; half of them are in view."""
    growth: tuple[int, ...] = (10, 100)
    """Also draw this many times as many points; 100 needs 10 GiB of memory and some minutes to make."""
    threads: int = 0
    """Threads of the CPU; 0 takes torch's number."""
    repeats: int = 15
    """Medians are of this many runs."""
    json: Path | None = None
    """Write all figures here."""
    plot: Path | None = None
    """Write a picture of how the cost grows here (PNG)."""
    device: str = "auto"
    """auto takes a CUDA GPU where there is one."""


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Return the median wall time of `run` in milliseconds, to its end on a GPU, after two runs that do not count."""
    times = []
    for i in range(repeats + 2):
        _wait()
        start = time.perf_counter()
        run()
        _wait()
        if i >= 2:
            times.append((time.perf_counter() - start) * 1e3)
    return statistics.median(times)


def _wait() -> None:
    if torch.cuda.is_initialized():
        torch.cuda.synchronize()


def bench_raster(config: BenchRasterConfig) -> int:
    """Measure, print a table, write JSON and plot where asked; return 0.

    Raises: UserError for a device that is not there.
    """
    device = choose_device(config.device)
    before = torch.get_num_threads()
    threads = config.threads or before
    try:
        torch.set_num_threads(threads)
        result = _measure(config, device)
    finally:
        torch.set_num_threads(before)
    print_table(result)
    if config.json:
        config.json.write_text(json.dumps(result, indent=1) + "\n")
    if config.plot:
        plot_growth(result["growth"]["rows"], config.plot)
    return 0


def _measure(config: BenchRasterConfig, device: torch.device) -> dict[str, Any]:
    scene = make_bench_scene(config.points).to(device)
    all_levels = RasterConfig(radius_threshold=0.0)
    visible = project(scene.camera, Points(scene.points.xyz, scene.points.radius)).visible
    ours = passes(scene, all_levels, "auto", config.repeats)
    slow = passes(scene, all_levels, "reference", min(config.repeats, 5))
    result: dict[str, Any] = {
        "machine": f"{_machine(device)}, torch {torch.__version__}",
        "picture": f"{WIDTH}x{HEIGHT}, 4 levels, 4 features, {config.points} points",
        "visible": float(visible.double().mean()),
        "milliseconds": {"ours": ours, "reference": slow},
        "ns_per_point": {name: ms * 1e6 / config.points for name, ms in ours.items()},
        "ns_per_visible_point": {name: ms * 1e6 / int(visible.sum()) for name, ms in ours.items()},
        "ratio": {
            "reference_forward": slow["forward"] / ours["forward"],
            "reference_forward_backward": slow["features"] / ours["features"],
        },
        "threads": {"two_over_one": thread_ratio(scene, all_levels, config.repeats)},
        "bandwidth": bandwidth(scene, int(visible.sum()), ours["forward"], config.repeats),
        "rivals": [rival_row(rival, scene, ours["forward"], config.repeats) for rival in RIVALS],
    }
    result["growth"] = growth(config, scene)
    return result


def _machine(device: torch.device) -> str:
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    return f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads"


def passes(scene: BenchScene, config: RasterConfig, backend: Backend, repeats: int) -> dict[str, float]:
    """Return milliseconds of forward, with the feature gradient, and with all gradients."""
    camera, points = scene.camera, scene.points
    features = scene.features.clone().requires_grad_()
    xyz = points.xyz.clone().requires_grad_()
    pose, intrinsics = (t.clone().requires_grad_() for t in (camera.world_to_camera, camera.intrinsics))
    moved = Points(xyz, points.radius, None, points.blocks)
    view = type(camera)(camera.model, WIDTH, HEIGHT, intrinsics, camera.distortion, pose)
    generator = torch.Generator().manual_seed(0)
    ghosts = (torch.rand(1, len(features), generator=generator) < config.ghost_fraction).to(features.device)
    with torch.no_grad():
        images = draw(camera, points, features, config, backend=backend).features
    grads = [torch.randn(image.shape, generator=generator).to(image.device) for image in images]

    def forward() -> None:
        with torch.no_grad():
            draw(camera, points, features, config, backend=backend)

    def backward() -> None:
        torch.autograd.grad(draw(camera, points, features, config, backend=backend).features, features, grads)

    def everything() -> None:
        levels = draw(view, moved, features, config, None, ghosts, backend)
        torch.autograd.grad(levels.features, (features, xyz, pose, intrinsics), grads)

    runs = {"forward": forward, "features": backward, "everything": everything}
    return {name: median_ms(run, repeats) for name, run in runs.items()}


def thread_ratio(scene: BenchScene, config: RasterConfig, repeats: int) -> float | None:
    """Return how much faster two threads of a CPU are than one, forward, measured in turns; None of a GPU."""
    if scene.features.device.type != "cpu":
        return None
    before = torch.get_num_threads()
    times: dict[int, list[float]] = {1: [], 2: []}
    try:
        for _ in range(max(1, repeats // 3)):
            for threads in times:
                torch.set_num_threads(threads)
                with torch.no_grad():
                    run = median_ms(lambda: draw(scene.camera, scene.points, scene.features, config), 3)
                times[threads].append(run)
    finally:
        torch.set_num_threads(before)
    return statistics.median(times[1]) / statistics.median(times[2])


def bandwidth(scene: BenchScene, visible: int, milliseconds: float, repeats: int) -> dict[str, float]:
    """Return the machine's measured rates and the share of them that the forward pass reaches."""
    device = scene.features.device
    source = torch.rand(32 << 20, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.numel() * 4 / median_ms(lambda: target.copy_(source), repeats) / 1e6
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, target.numel(), (1 << 21,), generator=generator).to(device)
    values = torch.rand(1 << 21, device=device)
    writes = len(index) / median_ms(lambda: target.index_put_((index,), values), repeats) / 1e3
    # Points and radii read; features of visible points read; four levels of four features, weight and depth written.
    pixels = sum((WIDTH >> level) * (HEIGHT >> level) for level in range(4))
    moved = scene.features.shape[0] * 16 + visible * 16 + pixels * 24
    touched = visible * 4 / milliseconds / 1e3  # one cell at each of four levels
    return {
        "copy_gb_per_s": copy,
        "random_million_writes_per_s": writes,
        "share_of_copy": moved / milliseconds / 1e6 / copy,
        "cells_per_random_write": touched / writes,
    }


def rival_row(rival: Rival, scene: BenchScene, ours: float, repeats: int) -> dict[str, Any]:
    """Return a rival's row; without a time where it cannot run here, and then why."""
    run, note = rival.prepare(scene)
    if run is None:
        return {"name": rival.name, "forward_ms": None, "ratio": None, "note": note}
    forward = median_ms(run, min(repeats, 7))
    return {"name": rival.name, "forward_ms": forward, "ratio": forward / ours, "note": note}


def growth(config: BenchRasterConfig, scene: BenchScene) -> dict[str, Any]:
    """Return how the time with level of detail grows with the number of points, from two places.

    "far" has the whole wall in view: there a million points are as dense as the level of detail draws them, so more
    points should cost nothing. "near" is the view of the other figures: a million points leave holes in it that more
    points fill, so that more is drawn. `points_10x` and so on are the far view's.
    """
    device = scene.features.device
    views = {"far": bench_camera(2 * DISTANCE).to(device), "near": scene.camera}
    rows: dict[str, list[dict[str, float]]] = {name: [] for name in views}
    for factor in (1, *config.growth):
        grown = scene if factor == 1 else make_bench_scene(config.points * factor).to(device)
        for name, camera in views.items():
            rows[name].append(
                grown_row(replace(grown, camera=camera), config.points * factor, config.repeats)
            )
        del grown
    result: dict[str, Any] = {}
    for name, prefix in (("far", ""), ("near", "near_")):
        for factor, row in zip(config.growth, rows[name][1:], strict=True):
            result[f"{prefix}points_{factor}x"] = row["forward_ms"] / rows[name][0]["forward_ms"]
    return {**result, "rows": rows["far"], "near_rows": rows["near"]}


def grown_row(scene: BenchScene, points: int, repeats: int) -> dict[str, float]:
    """Return the time of a cloud, how many points a covered pixel blends, and the memory so far: of the process, or
    what torch took on a GPU."""
    lod = RasterConfig()
    with torch.no_grad():
        weights = draw(scene.camera, scene.points, scene.features, lod).weight
        forward = median_ms(lambda: draw(scene.camera, scene.points, scene.features, lod), repeats)
    on_gpu = scene.features.device.type == "cuda"
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    peak = torch.cuda.max_memory_allocated() / 2**30 if on_gpu else process
    blended = float(torch.stack([w.sum() for w in weights]).sum())
    density = float(weights[0].sum() / (weights[0] > 0).sum().clamp_min(1))
    return {
        "points": points,
        "forward_ms": forward,
        "blended": blended,
        "per_pixel": density,
        "peak_gib": peak,
    }


def print_table(result: dict[str, Any]) -> None:
    """Print all figures."""
    print(f"{result['machine']}; {result['picture']}, {result['visible']:.0%} in view")
    for name, label in (
        ("forward", "forward"),
        ("features", "+ feature gradient"),
        ("everything", "+ points, pose, intrinsics"),
    ):
        ms, ns = result["milliseconds"]["ours"][name], result["ns_per_point"][name]
        visible, slow = result["ns_per_visible_point"][name], result["milliseconds"]["reference"][name]
        text = f"{label:<28} {ms:8.2f} ms {ns:7.2f} ns per point {visible:7.2f} per visible point"
        print(f"{text}, torch reference {slow:8.1f} ms = {slow / ms:5.1f} x")
    if result["threads"]["two_over_one"] is not None:
        print(f"two threads over one: {result['threads']['two_over_one']:.2f}")
    b = result["bandwidth"]
    print(
        f"memory: copies at {b['copy_gb_per_s']:.1f} GB/s, of which forward reaches {b['share_of_copy']:.0%}; "
        f"{b['random_million_writes_per_s']:.0f} million random writes a second, "
        f"forward touches {b['cells_per_random_write']:.1f} times as many cells"
    )
    for row in result["rivals"]:
        time_text = (
            "did not run"
            if row["forward_ms"] is None
            else f"{row['forward_ms']:8.1f} ms = {row['ratio']:5.1f} x"
        )
        print(f"rival {row['name']:<22} {time_text}  ({row['note']})")
    for name, rows in (("whole wall", "rows"), ("half of it", "near_rows")):
        first = result["growth"][rows][0]["forward_ms"]
        for row in result["growth"][rows]:
            print(
                f"{row['points'] / 1e6:8.1f} M points with level of detail, {name} in view: "
                f"{row['forward_ms']:7.2f} ms = {row['forward_ms'] / first:4.2f} x, {row['blended'] / 1e6:.2f} M "
                f"blended, {row['per_pixel']:.2f} in a covered pixel, {row['peak_gib']:.1f} GiB"
            )
