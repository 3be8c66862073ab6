"""The exported response, applied by FFmpeg, and the table of exposures."""

from __future__ import annotations

import csv
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
import torch

from adop.errors import UserError
from adop.export.export import export_run
from adop.export.export_config import ExportConfig
from adop.run.run import Run


def through_ffmpeg(light: np.ndarray, cube: Path) -> np.ndarray:
    """What FFmpeg's filter lut1d makes of linear light [H, W, 3] in [0, 1], in steps of 1/65535."""
    frame = av.VideoFrame.from_ndarray(np.rint(light * 65535).astype(np.uint16), format="rgb48le")
    graph = av.filter.Graph()
    graph.link_nodes(
        graph.add_buffer(width=frame.width, height=frame.height, format=frame.format, time_base="1/25"),
        graph.add("format", "gbrp16le"),
        graph.add("lut1d", f"file={cube}:interp=linear"),
        graph.add("format", "rgb48le"),
        graph.add("buffersink"),
    ).configure()
    graph.push(frame)
    return graph.pull().to_ndarray() / 65535


def test_the_cube_is_the_learned_response(refined_run: Run, tmp_path: Path, rng: np.random.Generator):
    export_run(refined_run, "lut", tmp_path / "lens.cube", report=lambda _: None)
    light = rng.random((64, 64, 3)) ** 3  # many dark values
    tonemapper = refined_run.pipeline.tonemapper
    with torch.no_grad():
        sensor = torch.from_numpy(light).float().permute(2, 0, 1)[None]
        expected = tonemapper.apply_response(sensor, torch.tensor([0]))[0].permute(1, 2, 0).numpy()
    lines = [line for line in (tmp_path / "lens.cube").read_text().splitlines() if not line.startswith("#")]
    assert lines[1:4] == ["LUT_1D_SIZE 4096", "DOMAIN_MIN 0 0 0", "DOMAIN_MAX 1 1 1"]
    rows = np.array([line.split() for line in lines[4:]], float)
    assert rows.shape == (4096, 3) and (np.diff(rows, axis=0) >= 0).all()
    domain = np.linspace(0, 1, 4096)
    found = np.stack([np.interp(light[..., c], domain, rows[:, c]) for c in range(3)], axis=-1)
    assert np.abs(found - expected).max() < 5e-4
    assert np.abs(through_ffmpeg(light, tmp_path / "lens.cube") - expected).max() < 1e-3


def test_one_of_several_lenses_must_be_chosen(refined_run: Run, plain_run: Run, tmp_path: Path):
    lens = plain_run.scene.lenses[0]
    plain_run.scene = replace(plain_run.scene, lenses=(lens, lens))
    tonemapper = plain_run.pipeline.tonemapper
    own = torch.cat((tonemapper.response_logits, refined_run.pipeline.tonemapper.response_logits))
    tonemapper.response_logits = torch.nn.Parameter(own.detach())
    with pytest.raises(UserError, match=r"several lenses; choose one from 0 to 1 \(--lens\)"):
        export_run(plain_run, "lut", tmp_path / "lens.cube", report=lambda _: None)
    config = ExportConfig(lens=1, lut_samples=64)
    export_run(plain_run, "lut", tmp_path / "one.cube", config, report=lambda _: None)
    config = ExportConfig(lut_samples=64)
    export_run(refined_run, "lut", tmp_path / "other.cube", config, report=lambda _: None)
    tables = [(tmp_path / name).read_text().splitlines()[-64:] for name in ("one.cube", "other.cube")]
    assert tables[0] == tables[1]


def test_the_table_holds_what_was_learned_of_each_photo(refined_run: Run, tmp_path: Path):
    export_run(refined_run, "csv", tmp_path / "photos.csv", report=lambda _: None)
    with open(tmp_path / "photos.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    photos = refined_run.scene.photos
    assert [row["name"] for row in rows] == [photo.name for photo in photos]
    assert [row["split"] for row in rows] == ["held_out", *["train"] * 7, "held_out", "train"]
    for index, row in enumerate(rows):
        settings = refined_run.photo_settings(index)
        assert float(row["exposure_ev"]) == pytest.approx(settings.exposure, abs=1e-5)
        balance = [float(row[f"white_balance_{name}"]) for name in ("red", "green", "blue")]
        assert balance == pytest.approx(list(settings.white_balance), abs=1e-5)
        assert float(row["exif_ev"]) == pytest.approx(photos[index].exposure, abs=1e-5)
    moved = [abs(float(row["exposure_ev"])) for row in rows]
    assert max(moved) > 0.1


def test_a_photo_without_exif_has_no_ev_in_the_table(plain_run: Run, tmp_path: Path):
    photos = tuple(replace(photo, exposure=None) for photo in plain_run.scene.photos)
    plain_run.scene = replace(plain_run.scene, photos=photos)
    export_run(plain_run, "csv", tmp_path / "photos.csv", report=lambda _: None)
    with open(tmp_path / "photos.csv", newline="") as file:
        assert {row["exif_ev"] for row in csv.DictReader(file)} == {""}
