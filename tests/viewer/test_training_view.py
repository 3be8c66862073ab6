"""The viewer of a run that is being trained."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import signal
import socket
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from websockets.exceptions import ConnectionClosed

from adop.config import RenderConfig, TrainConfig
from adop.errors import UserError
from adop.preparation.start import CAMERAS, ENVIRONMENT, GAPS, HOLES, OCCLUDERS, PHYSICAL_CAMERA
from adop.run.checkpoint import checkpoints
from adop.run.run import load
from adop.scene.write import save_scene
from adop.training.train import train
from adop.viewer.training_view import Gate, LiveView
from support.small_scene import small_scene
from support.viewer_client import Client

STAGES = {CAMERAS, PHYSICAL_CAMERA, OCCLUDERS, HOLES, GAPS, ENVIRONMENT}


@pytest.fixture(scope="module")
def ball_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small scene that trains in a moment."""
    folder = tmp_path_factory.mktemp("ball")
    save_scene(small_scene(folder / "photos"), folder / "scene")
    return folder / "scene"


def config(folder: Path, steps: int) -> TrainConfig:
    """Return a configuration for a short training of the scene in `folder`."""
    return TrainConfig(
        steps=steps, crop=32, render=RenderConfig(levels=3, fill_levels=3), test_every=0, scene=str(folder)
    )


def connect_to_run(url: str) -> Client:
    """Return a client of the viewer once it shows the run, after the points."""
    end = time.monotonic() + 60
    while time.monotonic() < end:
        client = Client(url)
        with contextlib.suppress(ConnectionClosed):
            if client.newest("hello")["trained"]:
                return client
        client.socket.close()
        time.sleep(0.1)
    raise AssertionError("the run was not shown")


def test_the_points_are_shown_until_training_begins(ball_folder: Path, tmp_path: Path):
    """Before the first step: the points, and the stages. Then browsers are disconnected, and find the run."""
    live, seen = LiveView(port=0, say=lambda _: None), []
    live.show_points(ball_folder, tmp_path / "run", config(ball_folder, 2))
    assert live.viewer is not None
    with Client(live.viewer.url) as client:
        client.send(type="size", width=96, height=54)
        points = client.frame_at_rest()
        assert not client.newest("hello")["trained"] and points.std() > 10

        def callback(run, values):
            live(run, values)
            if not seen:
                with pytest.raises(ConnectionClosed):
                    client.until(lambda: False)
                with Client(live.viewer.url) as later:
                    seen.append(later.newest("hello")["trained"])

        train(
            ball_folder, tmp_path / "run", config(ball_folder, 2),
            say=lambda _: None, callback=callback, watch=live.watch,
        )  # fmt: skip
    status = [text["training"] for text in client.texts if text["type"] == "status"]
    assert {s["stage"] for s in status if "stage" in s} <= STAGES
    assert any(s.get("stages") == len(STAGES) and s["left"] >= 0 for s in status)
    assert seen == [True] and live.status()["share"] == 1.0 and live.status()["left"] == 0
    live.close()


def test_a_viewed_run_is_paused_saved_and_resumed(ball_folder: Path, tmp_path: Path):
    messages: list[str] = []
    live = LiveView(port=0, say=messages.append)
    losses: list[float] = []

    def callback(run, values):
        losses.append(values["loss"])
        return live(run, values)

    training = threading.Thread(
        target=train,
        args=(ball_folder, tmp_path / "run", config(ball_folder, 200), False, lambda _: None, callback),
    )
    training.start()
    while live.viewer is None:
        time.sleep(0.05)
        assert training.is_alive()
    try:
        with Client(live.viewer.url) as client:
            client.send(type="size", width=160, height=90)
            first = client.frame_at_rest()
            client.send(type="move", orbit=[0.1, 0])
            client.until(lambda: client.header["moving"])
            client.send(type="training", action="pause")
            client.until(lambda: client.newest("status")["training"]["paused"])
            time.sleep(0.3)
            steps = len(losses)
            client.send(type="home")
            paused = client.frame_at_rest()  # frames are still rendered while training is paused
            assert len(losses) == steps and paused.shape == first.shape
            client.send(type="training", action="save")
            client.send(type="training", action="resume")
            client.until(lambda: client.texts[-1].get("training", {}).get("step", 0) > steps + 15, 60)
            client.until(lambda: any(text["type"] == "history" for text in client.texts), 60)
            rows = [row for text in client.texts if text["type"] == "history" for row in text["rows"]]
            assert [row[0] for row in rows] == list(range(len(rows)))
            assert rows[0][2] == pytest.approx(sum(losses[:10]) / 10)
            _, saved = checkpoints(tmp_path / "run" / "checkpoints")  # the first is that of the start
            assert steps <= int(saved.stem.split("_")[1]) < 200
    finally:
        training.join(timeout=120)
        live.finish()
    assert len(losses) == 200 and any(live.viewer.url in text for text in messages)
    assert load(tmp_path / "run", say=lambda _: None).progress.step == 200


def test_viewing_does_not_change_the_losses(ball_folder: Path, tmp_path: Path):
    """The losses are the same with a browser whose camera moves all the time."""
    alone: list[float] = []
    train(
        ball_folder, tmp_path / "alone", config(ball_folder, 12),
        say=lambda _: None, callback=lambda _, values: alone.append(values["loss"]),
    )  # fmt: skip
    live, viewed = LiveView(port=0, say=lambda _: None), []
    frames: list[int] = []

    def move_camera() -> None:
        assert live.viewer is not None
        with contextlib.suppress(ConnectionClosed, OSError), Client(live.viewer.url) as client:
            client.send(type="size", width=96, height=54)
            while True:
                client.send(type="move", orbit=[0.02, 0])
                client.step()
                frames.append(client.frames)

    def callback(run, values):
        viewed.append(values["loss"])
        live(run, values)
        if len(viewed) == 1:
            threading.Thread(target=move_camera, daemon=True).start()
        time.sleep(0.1)  # so that a step takes as long as several frames
        live(run, values)

    train(ball_folder, tmp_path / "viewed", config(ball_folder, 12), say=lambda _: None, callback=callback)
    live.close()
    assert max(frames) > 3
    assert viewed == alone


def test_nobody_enters_the_gate_while_it_is_closed():
    gate, inside = Gate(), []

    def enter() -> None:
        with gate:
            inside.append(1)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join(0.1)
    assert not inside and gate.is_awaited
    gate.open_until(lambda: bool(inside))
    thread.join(1)
    assert inside and not gate.is_awaited


def test_a_port_in_use_is_reported_at_once():
    with socket.create_server(("127.0.0.1", 0)) as used, pytest.raises(UserError, match="--port"):
        LiveView(port=used.getsockname()[1])


@pytest.mark.parametrize("asked", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.long)])
def test_ctrl_c_and_sigterm_stop_a_paused_run_with_a_checkpoint(
    ball_folder: Path, tmp_path: Path, asked: signal.Signals
):
    output = tmp_path / "run"
    (tmp_path / "config.json").write_text(
        json.dumps({**dataclasses.asdict(config(ball_folder, 5000)), "scene": str(ball_folder)})
    )
    options = ["--output", str(output), "--view", "--port", "0"]
    process = subprocess.Popen(
        [
            str(Path(sys.executable).with_name("adop")),
            "train",
            "--config",
            str(tmp_path / "config.json"),
            *options,
        ],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    try:
        assert process.stdout is not None
        url = next(line.split()[1] for line in process.stdout if line.startswith("viewer:"))
        with connect_to_run(url) as client:
            client.send(type="size", width=96, height=54)
            client.frame_at_rest(60)
            client.send(type="training", action="pause")
            client.until(lambda: client.newest("status")["training"]["paused"])
            time.sleep(0.5)
            process.send_signal(asked)
            assert process.wait(timeout=60) == 130
        assert checkpoints(output / "checkpoints")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
