"""`adop bench frame` and `adop bench train`: parts add up, nothing stays wrapped, and the run folder is untouched."""

import json
from pathlib import Path

import pytest

from adop.bench.frame_speed import PARTS, BenchFrameConfig, bench_frame, parse_size
from adop.bench.training_speed import BenchTrainConfig, bench_training
from adop.errors import UserError


def test_the_parts_of_a_view_add_up(trained_folder: Path, tmp_path: Path, capsys):
    before = [getattr(owner, name) for _, owner, name in PARTS]
    output = tmp_path / "frame.json"
    config = BenchFrameConfig(trained_folder, ("96x54", "200x60"), repeats=3, json=output, device="cpu")
    small, wide = bench_frame(config)
    assert [getattr(owner, name) for _, owner, name in PARTS] == before
    assert (small.width, small.height, wide.width, wide.height) == (96, 54, 200, 60)
    for times in (small, wide):
        assert {"draw", "hole filling", "network", "physical camera"} <= set(times.parts)
        assert sum(times.parts.values()) == pytest.approx(times.frame, rel=0.5)
        assert times.host == times.frame and times.parts_host == times.parts
    saved = json.loads(output.read_text())["frames"]
    assert saved[0]["frame"] == small.frame and saved[1]["per_second"] == pytest.approx(1e3 / wide.frame)
    assert "96x54" in capsys.readouterr().out


@pytest.mark.parametrize("text", ["", "1920", "1920x", "x1080", "0x5", "-3x4", "99999x10", "1e3x10", "9x9x9"])
def test_what_is_no_size_is_refused(text: str):
    with pytest.raises(UserError, match="--sizes"):
        parse_size(text)


def test_training_steps_are_timed_in_memory(trained_folder: Path, tmp_path: Path, capsys):
    before = {file: file.stat().st_mtime_ns for file in trained_folder.rglob("*")}
    times = bench_training(
        BenchTrainConfig(trained_folder, steps=2, json=tmp_path / "train.json", device="cpu")
    )
    assert {file: file.stat().st_mtime_ns for file in trained_folder.rglob("*")} == before
    assert times.step > 0 and times.host > 0 and "network" in times.parts
    assert json.loads((tmp_path / "train.json").read_text())["step"] == times.step
    assert "steps a second" in capsys.readouterr().out
