"""What a run logs while it trains."""

import json
import sys
from pathlib import Path

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from adop.training.log import Log, Recent


def test_a_closed_log_is_complete_and_its_folder_may_be_moved(tmp_path: Path):
    run, moved = tmp_path / "run", tmp_path / "moved"
    run.mkdir()
    log = Log(run, 0)
    log.write(3, {"psnr": 21.5}, "held_out")
    log.close()
    run.rename(moved)
    events = EventAccumulator(str(moved / "tensorboard")).Reload()
    assert [(e.step, e.value) for e in events.Scalars("held_out/psnr")] == [(3, 21.5)]
    assert log.board is not None
    assert not log.board.all_writers  # no thread is left that would write into the folder


def test_without_tensorboard_metrics_are_still_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # as if it were not installed
    said: list[str] = []
    log = Log(tmp_path, 0, said.append)
    log.write(3, {"psnr": 21.5}, "held_out")
    log.picture(3, "held_out/photo", torch.zeros(3, 4, 4))
    log.close()
    written = json.loads((tmp_path / "metrics.jsonl").read_text())
    assert written == {"step": 3, "kind": "held_out", "psnr": 21.5}
    assert not (tmp_path / "tensorboard").exists()
    assert len(said) == 1 and "adop[tensorboard]" in said[0]


def test_resuming_drops_lines_after_the_checkpoint(tmp_path: Path):
    log = Log(tmp_path, 0)
    for step in (10, 20, 30):
        log.write(step, {"loss": 1.0})
    log.close()
    Log(tmp_path, 20).close()
    assert [line.split(",")[0] for line in (tmp_path / "metrics.jsonl").read_text().splitlines()] == [
        '{"step": 10',
        '{"step": 20',
    ]


def test_recent_numbers_are_read_on_request() -> None:
    recent = Recent()
    for step in range(60):
        recent.add({"loss": torch.tensor(float(step)), "psnr": torch.tensor(2.0 * step)})
        if step == 3:
            assert recent.read() == ({"loss": 3.0, "psnr": 6.0}, {"loss": 1.5, "psnr": 3.0})
    last, means = recent.read()
    assert last == {"loss": 59.0, "psnr": 118.0}
    assert means == {"loss": sum(range(10, 60)) / 50, "psnr": 2 * sum(range(10, 60)) / 50}
