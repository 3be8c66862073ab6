"""The rasterizer's benchmark: its scene, and the numbers that it writes. Speed itself is not tested."""

import json
import math
from pathlib import Path

import pytest
import torch
from PIL import Image

from adop.bench.raster.benchmark import BenchRasterConfig, bench_raster
from adop.bench.raster.rivals import RIVALS
from adop.bench.raster.scene import WALL_HALF_WIDTH, bench_camera, make_bench_scene
from adop.errors import UserError
from adop.ops import Points, project


def test_the_wall_is_uniform_ordered_and_half_in_view() -> None:
    scene = make_bench_scene(30000)
    points, blocks = scene.points, scene.points.blocks
    assert points.xyz.shape == (30000, 3) and torch.isfinite(points.xyz).all()
    assert blocks is not None and blocks.falling[:-1].all()
    visible = project(scene.camera, Points(points.xyz, points.radius)).visible
    assert 0.45 < float(visible.double().mean()) < 0.55
    # Morton order: neighbours in the list are neighbours on the wall.
    step = (points.xyz[256:] - points.xyz[:-256]).norm(dim=1)
    assert float(step.median()) < WALL_HALF_WIDTH / 4
    # The fourth neighbour of a uniform distribution is about this far away, before sqrt(1 / U) increases the radius.
    density = 30000 / (2 * WALL_HALF_WIDTH * 4.5)
    assert float(points.radius.median()) > math.sqrt(4 / (math.pi * density))
    assert bench_camera().width == 960
    whole = project(bench_camera(20.0), Points(points.xyz, points.radius)).visible
    assert float(whole.double().mean()) > 0.95


def test_a_small_run_writes_all_numbers_and_the_plot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    config = BenchRasterConfig(20000, (2,), 1, 1, tmp_path / "bench.json", tmp_path / "growth.png")
    before = torch.get_num_threads()
    assert bench_raster(config) == 0
    assert torch.get_num_threads() == before
    result = json.loads((tmp_path / "bench.json").read_text())
    assert result["ratio"]["reference_forward"] > 0 and result["ratio"]["reference_forward_backward"] > 0
    assert result["growth"]["points_2x"] > 0 and result["growth"]["near_points_2x"] > 0
    assert all(row["per_pixel"] >= 1 for row in result["growth"]["rows"])
    assert result["threads"]["two_over_one"] > 0
    assert [row["name"] for row in result["rivals"]] == [rival.name for rival in RIVALS]
    assert all(row["forward_ms"] or row["note"] for row in result["rivals"])
    assert set(result["ns_per_point"]) == {"forward", "features", "everything"}
    said = capsys.readouterr().out
    assert "torch reference" in said and "M points with level of detail" in said
    with Image.open(tmp_path / "growth.png") as image:
        assert image.size == (760, 460) and len(image.getcolors(1 << 20) or []) > 3


def test_numbers_that_cannot_be_measured_are_refused() -> None:
    for config in (BenchRasterConfig(points=0), BenchRasterConfig(growth=(0,)), BenchRasterConfig(repeats=0)):
        with pytest.raises(UserError, match=r": expected 1 or more, got 0"):
            bench_raster(config)
