"""`adop bench raster`: the rasterizer against its rivals, as ratios of times from one run on one machine."""

import json
import resource
import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch import Tensor

from adop.backend.choice import choose_device, machine_name
from adop.bench.raster.plot import GrowthRow, plot_growth
from adop.bench.raster.rivals import RIVALS, Rival
from adop.bench.raster.scene import (
    HEIGHT,
    WALL_DISTANCE,
    WIDTH,
    BenchScene,
    bench_camera,
    make_bench_scene,
)
from adop.files import OutputFile, write_text
from adop.ops import Backend, Points, RasterConfig, draw, project
from adop.ranges import Count, Natural, check_ranges

LEVELS = 4
PASSES = {
    "forward": "forward",
    "features": "+ feature gradient",
    "everything": "+ points, pose, intrinsics",
}


@dataclass(frozen=True)
class BenchRasterConfig:
    """Time the rasterizer, other programs that draw points, and how its cost grows with the number of points."""

    points: Count = 1_000_000
    """Number of points on the wall; half of them are in view."""
    growth: tuple[Count, ...] = (10, 100)
    """Also draw this many times as many points; 100 needs 10 GiB of memory and some minutes to make the cloud."""
    threads: Natural = 0
    """CPU threads; 0 keeps torch's number."""
    repeats: Count = 15
    """Number of timed runs; their median counts."""
    json: OutputFile | None = None
    """Write all numbers to this JSON file."""
    plot: OutputFile | None = None
    """Plot time over number of points to this PNG file."""
    device: str = "auto"
    """Device to draw on: cpu, cuda, or auto for a CUDA GPU if there is one."""


def median_ms(run: Callable[[], object], repeats: int) -> float:
    """Return the median wall time of `run` in milliseconds, after two runs that do not count.

    On a GPU a run ends when the GPU has finished its work.
    """
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
    """Run the benchmark, print its table, write JSON and plot; return 0.

    Raises: UserError for a device that is not there, or numbers that cannot be measured.
    """
    check_ranges(config)
    device = choose_device(config.device)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(config.threads or before)
        result = _measure(config, device)
    finally:
        torch.set_num_threads(before)
    print_table(result)
    if config.json:
        write_text(config.json, json.dumps(result, indent=1) + "\n")
    if config.plot:
        rows, near_rows = (
            [GrowthRow(**row) for row in result["growth"][key]] for key in ("rows", "near_rows")
        )
        title = f"Drawing with level of detail, {WIDTH} x {HEIGHT} px\n{result['machine']}"
        plot_growth({"whole wall in view": rows, "half of the wall in view": near_rows}, title, config.plot)
        print(f"plot: {config.plot}")
    return 0


def _measure(config: BenchRasterConfig, device: torch.device) -> dict[str, Any]:
    scene = make_bench_scene(config.points, device=device)
    all_points = RasterConfig(levels=LEVELS, radius_threshold=0.0)
    in_view = project(scene.camera, Points(scene.points.xyz, scene.points.radius)).visible
    visible = int(in_view.sum())
    ours = time_passes(scene, all_points, "auto", config.repeats)
    reference = time_passes(scene, all_points, "reference", min(config.repeats, 5))
    return {
        "machine": f"{machine_name(device)}, torch {torch.__version__}",
        "picture": f"{WIDTH}x{HEIGHT}, {LEVELS} levels, 4 features, {config.points} points",
        "visible": float(in_view.double().mean()),
        "milliseconds": {"ours": ours, "reference": reference},
        "ns_per_point": {name: ms * 1e6 / config.points for name, ms in ours.items()},
        "ns_per_visible_point": {name: ms * 1e6 / visible for name, ms in ours.items()},
        "ratio": {
            "reference_forward": reference["forward"] / ours["forward"],
            "reference_forward_backward": reference["features"] / ours["features"],
        },
        "threads": {"two_over_one": thread_ratio(scene, all_points, config.repeats)},
        "bandwidth": bandwidth(scene, visible, ours["forward"], config.repeats),
        "rivals": [time_rival(rival, scene, ours["forward"], config.repeats) for rival in RIVALS],
        "growth": time_growth(config, scene),
    }


def time_passes(
    scene: BenchScene,
    config: RasterConfig,
    backend: Backend,
    repeats: int,
    names: Sequence[str] = tuple(PASSES),
) -> dict[str, float]:
    """Return milliseconds of the forward pass alone, with the gradient of the features, and with all gradients.

    Args: names: of the `PASSES` that are timed.
    """
    camera, points = scene.camera, scene.points
    leaves = [scene.features, points.xyz, camera.world_to_camera, camera.intrinsics]
    features, xyz, pose, intrinsics = (tensor.clone().requires_grad_() for tensor in leaves)
    learned_points = replace(points, xyz=xyz)
    learned_camera = replace(camera, world_to_camera=pose, intrinsics=intrinsics)
    generator = torch.Generator().manual_seed(0)
    ghosts = (torch.rand(1, len(features), generator=generator) < config.ghost_fraction).to(features.device)
    with torch.no_grad():
        images = draw(camera, points, features, config, backend=backend).features
    weights = [torch.randn(image.shape, generator=generator).to(image.device) for image in images]

    def forward() -> None:
        with torch.no_grad():
            draw(camera, points, features, config, backend=backend)

    def feature_gradient() -> None:
        levels = draw(camera, points, features, config, backend=backend)
        torch.autograd.grad(levels.features, features, weights)

    def all_gradients() -> None:
        levels = draw(learned_camera, learned_points, features, config, None, ghosts, backend)
        torch.autograd.grad(levels.features, (features, xyz, pose, intrinsics), weights)

    runs = {"forward": forward, "features": feature_gradient, "everything": all_gradients}
    return {name: median_ms(runs[name], repeats) for name in names}


def thread_ratio(scene: BenchScene, config: RasterConfig, repeats: int) -> float | None:
    """Return how many times as fast two CPU threads draw as one, measured in turns; None on a GPU."""
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


def bandwidth(scene: BenchScene, visible: int, forward_ms: float, repeats: int) -> dict[str, float]:
    """Return the machine's measured memory rates, and how the forward pass compares with them."""
    device = scene.features.device
    source = torch.rand(32 << 20, device=device)
    target = torch.empty_like(source)
    copy = 2 * source.numel() * 4 / median_ms(lambda: target.copy_(source), repeats) / 1e6
    generator = torch.Generator().manual_seed(0)
    index = torch.randint(0, target.numel(), (1 << 21,), generator=generator).to(device)
    values = torch.rand(1 << 21, device=device)
    writes = len(index) / median_ms(lambda: target.index_put_((index,), values), repeats) / 1e3
    # Read: positions and radii of all points, features of the visible. Written: features, weight, depth of all levels.
    pixels = sum((WIDTH >> level) * (HEIGHT >> level) for level in range(LEVELS))
    moved = scene.features.shape[0] * 16 + visible * 16 + pixels * 24
    touched = visible * LEVELS / forward_ms / 1e3  # one pixel at each level
    return {
        "copy_gb_per_s": copy,
        "random_million_writes_per_s": writes,
        "share_of_copy": moved / forward_ms / 1e6 / copy,
        "cells_per_random_write": touched / writes,
    }


def time_rival(rival: Rival, scene: BenchScene, ours_ms: float, repeats: int) -> dict[str, Any]:
    """Return a rival's time and its ratio to ours; if it cannot run here, no time but the reason."""
    run, note = rival.prepare(scene)
    if run is None:
        return {"name": rival.name, "forward_ms": None, "ratio": None, "note": note}
    forward = median_ms(run, min(repeats, 7))
    return {"name": rival.name, "forward_ms": forward, "ratio": forward / ours_ms, "note": note}


def time_growth(config: BenchRasterConfig, scene: BenchScene) -> dict[str, Any]:
    """Return how the time with level of detail grows with the number of points, in two views.

    The far view ("rows", "points_10x" and so on) shows the whole wall: a million points are already as dense there as
    level of detail draws them, so more points should cost nothing. The near view ("near_rows", "near_points_10x") is
    the one of all other figures: a million points leave holes in it, so more points fill more pixels.
    """
    device = scene.features.device
    views = {"": bench_camera(2 * WALL_DISTANCE).to(device), "near_": scene.camera}
    rows: dict[str, list[GrowthRow]] = {prefix: [] for prefix in views}
    for factor in (1, *config.growth):
        grown = scene if factor == 1 else make_bench_scene(config.points * factor, device=device)
        for prefix, camera in views.items():
            rows[prefix].append(time_with_level_of_detail(replace(grown, camera=camera), config.repeats))
        del grown  # before the next, larger one is made
    result: dict[str, Any] = {}
    for prefix, (first, *larger) in rows.items():
        for factor, row in zip(config.growth, larger, strict=True):
            result[f"{prefix}points_{factor}x"] = row.forward_ms / first.forward_ms
    return result | {f"{prefix}rows": [asdict(row) for row in rows[prefix]] for prefix in views}


@torch.no_grad()
def time_with_level_of_detail(scene: BenchScene, repeats: int) -> GrowthRow:
    """Return the cost of drawing a scene with level of detail."""

    def draw_scene() -> list[Tensor]:
        return draw(scene.camera, scene.points, scene.features, RasterConfig(levels=LEVELS)).weight

    weights = draw_scene()
    forward = median_ms(draw_scene, repeats)
    on_gpu = scene.features.device.type == "cuda"
    process = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return GrowthRow(
        points=len(scene.features),
        forward_ms=forward,
        blended=float(torch.stack([weight.sum() for weight in weights]).sum()),
        per_pixel=float(weights[0].sum() / (weights[0] > 0).sum().clamp_min(1)),
        peak_gib=torch.cuda.max_memory_allocated() / 2**30 if on_gpu else process,
    )


def print_table(result: dict[str, Any]) -> None:
    """Print all figures."""
    print(f"{result['machine']}; {result['picture']}, {result['visible']:.0%} in view")
    for name, label in PASSES.items():
        ms, reference = (result["milliseconds"][version][name] for version in ("ours", "reference"))
        print(
            f"{label:<28} {ms:8.2f} ms {result['ns_per_point'][name]:7.2f} ns per point "
            f"{result['ns_per_visible_point'][name]:7.2f} per visible point, "
            f"torch reference {reference:8.1f} ms = {reference / ms:5.1f} x"
        )
    if result["threads"]["two_over_one"] is not None:
        print(f"two threads are {result['threads']['two_over_one']:.2f} times as fast as one")
    rates = result["bandwidth"]
    print(
        f"memory: copies run at {rates['copy_gb_per_s']:.1f} GB/s, forward at {rates['share_of_copy']:.0%} of that; "
        f"{rates['random_million_writes_per_s']:.0f} million random writes a second, "
        f"forward touches {rates['cells_per_random_write']:.1f} times as many pixels"
    )
    for row in result["rivals"]:
        ms = row["forward_ms"]
        cost = "did not run" if ms is None else f"{ms:8.1f} ms = {row['ratio']:5.1f} x"
        print(f"rival {row['name']:<22} {cost}  ({row['note']})")
    for label, rows in (("whole wall", "rows"), ("half of it", "near_rows")):
        first = result["growth"][rows][0]["forward_ms"]
        for row in result["growth"][rows]:
            print(
                f"{row['points'] / 1e6:8.1f} M points with level of detail, {label} in view: "
                f"{row['forward_ms']:7.2f} ms = {row['forward_ms'] / first:4.2f} x, {row['blended'] / 1e6:.2f} M "
                f"blended, {row['per_pixel']:.2f} in a covered pixel, {row['peak_gib']:.1f} GiB"
            )
