"""Stages of long work: what is shown, and the estimate of the time left."""

import time

import pytest

from adop.progress import Bar, Stages, duration


def test_a_duration_has_minutes_and_seconds_and_hours_where_needed():
    assert [duration(s) for s in (-1, 0.4, 59.6, 61, 3725)] == ["0:00", "0:00", "1:00", "1:01", "1:02:05"]


def test_each_stage_is_shown_with_the_time_left_from_the_start(capsys: pytest.CaptureFixture[str]):
    with Stages("work", {"first": 30.0, "second": 90.0}) as stages:
        stages.begin("second")
    shown = capsys.readouterr().err.splitlines()
    assert shown == ["work, 1 of 2: first, 2:00 left in all", "work, 2 of 2: second, 0:13 left in all"]


def test_a_line_appears_from_time_to_time_though_nothing_advances(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr("adop.progress.QUIET_SECONDS", 0.05)
    with Stages("work", {"only": 1.0}):
        time.sleep(0.4)
    assert 4 <= len(capsys.readouterr().err.splitlines()) <= 9


def test_what_is_measured_corrects_the_estimate():
    """A stage that takes half as long as expected lets the next one be expected to take half as long, too."""
    stages = Stages("work", {"first": 1000.0, "second": 1000.0})
    stages._begun = time.monotonic() - 500
    stages.done(1.0)
    assert stages.status().seconds_left == pytest.approx(1000 * 505 / 1005, rel=1e-3)
    stages.begin("second")
    assert stages.status().seconds_left == pytest.approx(1000 * 505 / 1005, rel=1e-3)


def test_a_bar_tells_the_stages_how_much_is_done_and_is_not_drawn(capsys: pytest.CaptureFixture[str]):
    with Stages("work", {"only": 100.0}) as stages:
        for i in Bar(range(4), desc="hidden", mininterval=0, miniters=1):
            assert stages.status().seconds_left == pytest.approx(
                100 * (1 - i / 4) * 5 / (5 + 25 * i), rel=0.05
            )
    assert "hidden" not in capsys.readouterr().err


def test_bars_in_turn_have_their_expected_shares_and_a_bar_within_one_tells_nothing():
    """Of 1,000 seconds that have passed, and work of 200 that was expected."""

    def left(done: float) -> float:
        return pytest.approx((1000 + 5) / (done + 5) * (200 - done), rel=0.01)

    with Stages("work", {"first": (30.0, 70.0), "second": 100.0}) as stages:
        stages._begun = time.monotonic() - 1000
        for i in Bar(range(2), mininterval=0, miniters=1):
            for _ in Bar(range(5), mininterval=0, miniters=1):
                assert f"({i} of 2)" in str(stages.status())
                assert stages.status().seconds_left == left(30 * i / 2)
        for i in Bar(range(2), mininterval=0, miniters=1):
            assert stages.status().seconds_left == left(30 + 70 * i / 2)
        for _ in Bar(range(2), mininterval=0, miniters=1):  # one more than was expected
            assert stages.status().seconds_left == left(100)


def test_a_bar_without_a_terminal_prints_a_line_from_time_to_time(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    for _ in Bar(range(4), desc="quick", mininterval=0, miniters=1):
        pass
    monkeypatch.setattr("adop.progress.QUIET_SECONDS", 0.0)
    for _ in Bar(range(4), desc="matching", mininterval=0, miniters=1):
        time.sleep(0.01)
    for _ in Bar(iter(range(2)), desc="frames", mininterval=0, miniters=1):
        pass
    output = capsys.readouterr()
    lines = output.err.splitlines()
    assert output.out == "" and "\r" not in output.err
    assert "matching: 50%, 0:00 left" in lines and "frames: 2" in lines
    assert not any("quick" in line for line in lines)
