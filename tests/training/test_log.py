"""What a run logs while it trains."""

from pathlib import Path

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
    assert not log.board.all_writers  # no thread is left that could write into the folder


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
