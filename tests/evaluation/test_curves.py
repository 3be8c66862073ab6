"""The curves of a training as metrics.jsonl has them."""

import random
from pathlib import Path

import numpy as np
import pytest

from adop.evaluation.pages.curves import MAX_ROWS, read_curves, run_curves
from support.evaluated_runs import metric_lines
from support.mutations import mutated


def test_the_logged_values_are_read(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text(metric_lines(200))
    curves = read_curves(tmp_path / "metrics.jsonl", 200, 77.0)
    assert curves.step.tolist() == [50, 100, 150, 200]
    assert curves.seconds.tolist() == [25, 50, 75, 100] and curves.timed
    assert curves.loss.tolist() == pytest.approx([0.2, 0.1, 1 / 15, 0.05])
    assert curves.psnr.tolist() == [15.5, 16, 16.5, 17]
    assert curves.held_out.tolist() == [[100, 17.5]]


def test_seconds_that_were_not_logged_are_spread_over_the_steps(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text(metric_lines(200, None))
    curves = read_curves(tmp_path / "metrics.jsonl", 400, 100.0)
    assert curves.seconds.tolist() == [12.5, 25, 37.5, 50] and not curves.timed


def test_lines_that_are_no_values_are_left_out(tmp_path: Path):
    broken = '{"step": 1\n[1]\nnull\n{"kind": "train", "step": true, "loss": 1, "psnr": 1}\n'
    wrong = '{"kind": "train", "step": 60, "loss": NaN, "psnr": 1}\n'
    wrong += '{"kind": "train", "step": 1e300, "loss": 1, "psnr": 1}\n'
    (tmp_path / "metrics.jsonl").write_bytes(
        broken.encode() + b"\xff\xfe\n" + wrong.encode() + metric_lines(100).encode()
    )
    curves = read_curves(tmp_path / "metrics.jsonl", 100, 50.0)
    assert curves.step.tolist() == [50, 100]
    assert len(run_curves(curves)) == 2
    assert run_curves(read_curves(tmp_path / "none", 100, 50.0)) == []


def test_long_trainings_are_thinned_out_evenly(tmp_path: Path):
    (tmp_path / "metrics.jsonl").write_text(metric_lines(50 * 5000))
    curves = read_curves(tmp_path / "metrics.jsonl", 250_000, 1.0)
    assert 1000 < len(curves) <= MAX_ROWS and len(set(np.diff(curves.step))) == 1
    assert np.allclose(curves.seconds, 0.5 * curves.step)


def test_no_damage_to_the_file_ends_a_page(tmp_path: Path):
    for seed in range(100):
        damaged = mutated(metric_lines(200).encode(), "text", random.Random(seed))
        (tmp_path / "metrics.jsonl").write_bytes(damaged)
        curves = read_curves(tmp_path / "metrics.jsonl", 200, 77.0)
        for values in (curves.step, curves.seconds, curves.loss, curves.psnr):
            assert len(values) == len(curves) <= 50 and np.isfinite(values).all()
