"""How fast a run of very many points opens and renders, and how much memory that takes.

    python tests/measure_large_scene.py --points 100000000 --folder /tmp/large

`--room` gives the points less memory than they take, as a GPU does whose memory is too small: `--device cuda --room 2`
measures how fast blocks of points are brought to it.

The scene is made up: the benchmarks' wall, strip by strip, so that making it needs little memory either. It takes 68
bytes of disk a point, and is left in the folder, so that a second call only measures, in a process of its own.
"""

from __future__ import annotations

import argparse
import dataclasses
import functools
import json
import subprocess
import sys
from pathlib import Path

import torch

from adop.bench.raster.scene import WALL_BOTTOM, WALL_DISTANCE, WALL_HALF_WIDTH, WALL_TOP, random_radii
from adop.config import preset, save_config
from adop.doctor.wall_scene import make_wall_scene
from adop.model.point_store import Tile
from adop.run.checkpoint import PACKED, save_packed
from adop.run.run import new_run
from adop.scene.point_cloud import block_order

TILE = 1 << 20  # points
PROGRAM = """
import json, sys, time
begun = time.perf_counter()
import torch, adop
from adop.run.checkpoint import PACKED, load_packed
folder, device, room = sys.argv[1:]
run = adop.load(folder, device=device, say=lambda _: None)
if float(room) > 0:
    load_packed(run.folder / PACKED, run.pipeline, int(float(room) * 2**30))
opened = time.perf_counter() - begun
camera = run.photo_camera(len(run.scene.photos) // 2)
width, height = 960, 540
zoom = max(width / camera.width, height / camera.height)
views = {"whole photo": zoom, "four times as near": 4 * zoom, "sixteen times": 16 * zoom}
seconds = {}
with torch.no_grad():
    for name, scale in views.items():
        left, top = (scale * camera.width - width) / 2, (scale * camera.height - height) / 2
        view = camera.cropped(scale, left, top, width, height)
        for attempt in ("first", "again"):
            begun = time.perf_counter()
            image = run.render(view).image.cpu()
            seconds[f"{name}, {attempt}"] = time.perf_counter() - begun
        assert bool(image.isfinite().all()) and float(image.std()) > 0.01
    status = dict(line.split(":", 1) for line in open("/proc/self/status"))
    # What is mapped from the file counts too, although the system can drop it.
    peak = int(status["VmHWM"].split()[0]) / 2**20
    begun, moves = time.perf_counter(), 8
    for step in range(1, 1 + moves):
        run.render(view.cropped(1.0, 60.0 * step, 0.0, width, height)).image.cpu()
    seconds["sixteen times, moving aside"] = (time.perf_counter() - begun) / moves
count, kept = len(run.pipeline.points), len(run.pipeline.points().xyz)
print(json.dumps({"points": count, "room_for": kept, "opened_s": opened, "views_s": seconds, "peak_gib": peak}))
"""


def wall_tile(number: int, tiles: int, points: int, width: int) -> Tile:
    """Return the points of one of the upright strips of the wall, with a radius as in `make_bench_scene`."""
    generator = torch.Generator().manual_seed(number)
    density = points * tiles / (2 * WALL_HALF_WIDTH * (WALL_BOTTOM - WALL_TOP))
    position = torch.rand(points, 2, generator=generator)
    x = -WALL_HALF_WIDTH + 2 * WALL_HALF_WIDTH * (number + position[:, 0]) / tiles
    y = WALL_TOP + (WALL_BOTTOM - WALL_TOP) * position[:, 1]
    z = WALL_DISTANCE + 0.01 * torch.randn(points, generator=generator)
    radius = random_radii(points, density, generator)
    xyz = torch.stack((x, y, z), 1)
    order = torch.from_numpy(block_order(xyz.numpy(), radius.numpy()))
    features = torch.zeros(points, width)
    features[:, :3] = torch.stack((x.sin(), y.sin(), (x * y).sin()), 1) - 1.5
    return Tile(xyz[order], radius[order], None, features[order])


def make_run(folder: Path, points: int) -> Path:
    """Write a run of that many points and return its folder."""
    run_folder = folder / f"run_{points}"
    if (run_folder / PACKED).exists():
        return run_folder
    scene = make_wall_scene(folder / f"wall_{points}", 200_000, 9, (1280, 720))
    config = dataclasses.replace(preset("quick"), device="cpu", scene=str(scene.resolve()), bf16=False)
    run = new_run(scene, run_folder, config, print)
    run_folder.mkdir(exist_ok=True)
    save_config(config, run_folder / "config.json")
    tiles, width = -(-points // TILE), run.pipeline.points.features.shape[1]
    made = [functools.partial(wall_tile, number, tiles, points // tiles, width) for number in range(tiles)]
    save_packed(run_folder / PACKED, run.pipeline, run.progress, made)
    return run_folder


def main() -> None:
    """Make the run where it is not there, and measure it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=100_000_000)
    parser.add_argument("--folder", type=Path, required=True)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--room", type=float, default=0.0, help="GiB for points; 0: as much as they need")
    words = parser.parse_args()
    run = make_run(words.folder, words.points)
    command = [sys.executable, "-c", PROGRAM, str(run), words.device, str(words.room)]
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
    print(json.dumps(json.loads(done.stdout), indent=1))


if __name__ == "__main__":
    main()
