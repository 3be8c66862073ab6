"""The readers of what lies in a run's folder beside its checkpoint, and of stereo's, with a small valid input of each."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from adop.bench.raster.scene import bench_camera
from adop.evaluation.pages.comparison import compare_runs, comparison_json
from adop.model.point_store import Tile, read_point_store, write_point_store
from adop.ops import Points, RasterConfig, draw
from adop.render.crop_box import CropBox, load_crop_box, save_crop_box
from adop.stereo.depth_maps import read_planes
from adop.viewer.session.files import Files, Note, load_notes
from support.evaluated_runs import metric_lines, write_run
from support.hostile_imports import Reader


def _make_crop_box(folder: Path) -> None:
    save_crop_box(folder, CropBox(np.zeros(3), np.eye(3), np.array([1.0, 2.0, 3.0])))


def _make_notes(folder: Path) -> None:
    files = Files(folder)
    files.add_note(Note((1.0, 2.0, 3.0), "a chair"))
    files.set_scale(0.5)


def _make_evaluation(folder: Path) -> None:
    for name in ("one", "other"):
        write_run(folder / name, ["a.jpg", "b.jpg"], size=(16, 12), metrics=metric_lines(200))


def _read_evaluation(folder: Path) -> None:
    json.dumps(comparison_json(compare_runs([folder / "one", folder / "other"])), allow_nan=False)


def _make_planes(folder: Path) -> None:
    planes = {"planes": torch.rand(3, 6, 8), "costs": torch.rand(6, 8).half()}
    save_file(planes, folder / "planes.safetensors")


def _make_packed_points(folder: Path) -> None:
    xyz = torch.rand(300, 3) * 2 + torch.tensor([-1.0, -1.0, 9.0])
    tile = Tile(xyz, torch.rand(300), None, torch.rand(300, 4))
    write_point_store(folder / "packed.safetensors", [lambda: tile], {}, {})


def _draw_packed_points(folder: Path) -> None:
    stored, _, _ = read_point_store(folder / "packed.safetensors")
    points = Points(stored.xyz, stored.radius, stored.normals, stored.blocks)
    draw(bench_camera().scaled(0.05), points, stored.features, RasterConfig(levels=2))


def run_readers() -> dict[str, Reader]:
    """Return the readers by their names."""
    evaluation = {"one/eval/eval.json": "json", "one/metrics.jsonl": "text", "one/config.json": "json"}
    return {
        "crop box": Reader(_make_crop_box, load_crop_box, {"crop_box.json": "json"}),
        "notes": Reader(_make_notes, load_notes, {"notes.json": "json"}),
        "evaluation": Reader(_make_evaluation, _read_evaluation, evaluation),
        "packed points": Reader(
            _make_packed_points, _draw_packed_points, {"packed.safetensors": "safetensors"}
        ),
        "stereo planes": Reader(
            _make_planes,
            lambda folder: read_planes(folder / "planes.safetensors"),
            {"planes.safetensors": "safetensors"},
        ),
    }
