"""The viewer with hostile clients: it stays up for the honest one, and its memory is bounded.

`tests/attack_viewer.py` does the same for minutes.
"""

from __future__ import annotations

import contextlib
import gc
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from websockets.exceptions import ConnectionClosed

from adop.errors import UserError
from adop.render.camera_settings import CameraSettings
from adop.render.key_frames import KeyFrame, KeyPath
from adop.run.run import Run
from adop.viewer.app import view_run
from adop.viewer.drawing.kept_results import KeptResults
from adop.viewer.drawing.render_thread import RenderCancelledError, RenderThread
from adop.viewer.server import connections, server
from adop.viewer.server.limits import Allowance, Pace
from adop.viewer.server.server import Viewer
from adop.viewer.session import files
from adop.viewer.session.files import Files
from support.attacks import ATTACKS, dial, message, open_websocket
from support.http import get
from support.viewer_client import Client


@pytest.fixture
def viewer(run: Run, tmp_path: Path) -> Iterator[Viewer]:
    """A viewer that writes into a folder of its own."""
    with view_run(run, folder=tmp_path / "views") as viewer:
        yield viewer


def until(done: Callable[[], object], seconds: float = 10.0) -> None:
    """Wait until `done()`."""
    end = time.monotonic() + seconds
    while not done():
        assert time.monotonic() < end, f"waited {seconds} s"
        time.sleep(0.02)


def closing(client: Client) -> ConnectionClosed:
    """Receive messages until the connection is closed, and return how."""
    with pytest.raises(ConnectionClosed) as closed:
        while True:
            client.step()
    return closed.value


@pytest.mark.parametrize("attack", ATTACKS)
def test_an_honest_client_gets_images_during_an_attack(
    viewer: Viewer, client: Client, tmp_path: Path, attack: str, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setitem(files.MAX_FRAME_PIXELS, "cpu", 640 * 360)  # or a test would take gigabytes
    attacker = threading.Thread(target=ATTACKS[attack], args=("127.0.0.1", viewer.port, 1.0))
    attacker.start()
    before = client.frames
    while attacker.is_alive():
        client.send(type="move", orbit=[0.01, 0])
        client.step()  # raises TimeoutError where nothing comes
    client.send(type="cancel_render")
    client.send(type="home")
    assert client.frame_at_rest().std() > 10 and client.frames > before + 2
    until(lambda: viewer.browsers == 1, 60)  # what was flooded is still read, slowly
    assert {file.name for file in tmp_path.iterdir()} <= {"views"}
    names = {file.name for file in tmp_path.rglob("*.json")}
    assert names <= {"huge.json"}


def test_binary_messages_and_invalid_utf_8_are_answered(client: Client):
    for text in (b"\xff\xfe\x00", b"\xc3\x28", b"\x00" * 50):
        client.texts.clear()
        client.socket.send(text, text=False)
        assert "JSON" in client.newest("error")["message"]
        client.texts.clear()
        client.socket.send(text, text=True)
        assert "JSON" in client.newest("error")["message"]
    client.frame_at_rest()


def test_too_large_too_many_and_too_fragmented_messages_close_the_connection(
    viewer: Viewer, monkeypatch: pytest.MonkeyPatch
):
    with Client(viewer.url) as client:
        client.socket.send("[" * 300_000)
        assert closing(client).rcvd.code == 1009
    with Client(viewer.url) as client:
        client.socket.send(["["] * 100)
        closed = closing(client)
        assert closed.rcvd.code == 1008 and "fragments" in closed.rcvd.reason
    monkeypatch.setattr(server, "MESSAGES", 10)
    monkeypatch.setattr(server, "MESSAGE_BURST", 20)
    with Client(viewer.url) as client:
        with contextlib.suppress(ConnectionClosed):  # where the server is faster
            for _ in range(40):
                client.send(type="move", orbit=[0, 0])
        closed = closing(client)
        assert closed.rcvd.code == 1008 and "10 messages a second" in closed.rcvd.reason
    until(lambda: viewer.browsers == 0)


def test_a_client_that_does_not_read_is_cut_off(
    viewer: Viewer, client: Client, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(connections, "SEND_SECONDS", 0.5)
    with open_websocket("127.0.0.1", viewer.port) as reader:
        until(lambda: viewer.browsers == 2)
        reader.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        answered = message(type="save_path", name="/" + "x" * 50) * 200  # each is answered with an error
        with pytest.raises(OSError):  # reset, closed or timed out: it depends on what was under way
            for _ in range(2000):
                reader.sendall(answered)
    until(lambda: viewer.browsers == 1)
    client.frame_at_rest()


def test_connections_that_say_nothing_are_closed_and_keep_no_one_out(
    viewer: Viewer, client: Client, monkeypatch: pytest.MonkeyPatch
):
    held = [dial("127.0.0.1", viewer.port) for _ in range(3 * connections.MAX_REQUESTS_PER_ADDRESS)]
    assert get(viewer.url)[0] == 200
    with Client(viewer.url) as other:
        other.frame_at_rest()
    client.frame_at_rest()
    until(lambda: threading.active_count() < 3 * connections.MAX_REQUESTS_PER_ADDRESS)
    assert held[0].recv(1) == b""  # the oldest made room
    for connection in held:
        connection.close()


def test_an_unfinished_handshake_is_closed(run: Run, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(server, "OPEN_SECONDS", 0.3)
    with view_run(run) as viewer, dial("127.0.0.1", viewer.port) as connection:
        connection.sendall(b"GET / HTTP/1.1\r\n")
        assert connection.recv(1) == b""


def test_sessions_are_bounded_in_all_and_by_address(viewer: Viewer, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(connections, "MAX_SESSIONS_PER_ADDRESS", 1)
    with Client(viewer.url) as first:
        first.step()
        with Client(viewer.url) as second:
            closed = closing(second)
            assert closed.rcvd.code == 1013 and "your address" in closed.rcvd.reason
        monkeypatch.setattr(connections, "MAX_SESSIONS", 1)
        with Client(viewer.url) as second:
            assert "1 browsers" in closing(second).rcvd.reason
        first.frame_at_rest()
    until(lambda: viewer.browsers == 0)
    with Client(viewer.url) as third:
        third.frame_at_rest()


def test_connecting_too_often_is_refused_for_a_moment(viewer: Viewer, monkeypatch: pytest.MonkeyPatch):
    viewer._connections._connects["127.0.0.1"] = Allowance(rate=5.0, burst=2.0)
    answers = []
    for _ in range(6):
        with dial("127.0.0.1", viewer.port) as connection:
            try:
                connection.sendall(f"GET / HTTP/1.1\r\nHost: localhost:{viewer.port}\r\n\r\n".encode())
                answers.append(connection.recv(4))
            except OSError:
                answers.append(b"")
    assert answers[:2] == [b"HTTP"] * 2 and b"" in answers
    time.sleep(0.3)
    assert get(viewer.url)[0] == 200


def test_the_server_survives_a_lack_of_file_descriptors(tmp_path: Path):
    script = """
import resource, socket, threading
from adop.viewer.server.connections import Connections
resource.setrlimit(resource.RLIMIT_NOFILE, (40, 40))
def serve(connection, address):
    connection.sendall(connection.recv(5))
listener = socket.create_server(("127.0.0.1", 0))
served = Connections(listener, serve)
print(listener.getsockname()[1], flush=True)
input()
served.close()
"""
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=tmp_path
    ) as process:
        assert process.stdout is not None
        port = int(process.stdout.readline())
        held = [dial("127.0.0.1", port) for _ in range(60)]
        time.sleep(0.2)
        for connection in held:
            connection.close()
        with dial("127.0.0.1", port) as connection:
            connection.sendall(b"hello")
            assert connection.recv(5) == b"hello"
        process.communicate("\n", timeout=10)
        assert process.returncode == 0


def test_a_large_video_is_sent_in_parts(viewer: Viewer):
    content = np.random.default_rng(0).bytes(3_000_001)
    video = viewer.shared.files.render_output("large", "mp4")
    video.parent.mkdir(parents=True)
    video.write_bytes(content)
    status, body, headers = get(viewer.url + "video/large.mp4")
    assert status == 200 and body == content and headers["Content-Type"] == "video/mp4"


def test_huge_renders_and_too_many_paths_are_refused(
    viewer: Viewer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    keys = (KeyFrame(0.0, viewer.shared.start.viewpoint.frame()),)
    with pytest.raises(UserError, match="adop render"):
        viewer.shared.exporter.begin("huge", "png", KeyPath(keys, 8192, 8192), CameraSettings())
    monkeypatch.setattr(files, "MAX_PATHS", 2)
    store = Files(tmp_path)
    for name in ("a", "b", "a"):
        store.save_path(name, KeyPath(keys))
    with pytest.raises(UserError, match="2 paths already"):
        store.save_path("c", KeyPath(keys))


def test_short_jobs_do_not_wait_for_all_long_ones(run: Run):
    render_thread, order, release = RenderThread(run), [], threading.Event()
    threads = [threading.Thread(target=lambda: render_thread.submit(release.wait))]
    for number in range(5):
        job = lambda number=number: order.append(number)  # noqa: E731
        seconds = 0.05 if number == 4 else 4.0
        threads.append(threading.Thread(target=render_thread.submit, args=(job, False, seconds)))
    for thread in threads:
        thread.start()
        thread.join(0.05)
    release.set()
    for thread in threads:
        thread.join()
    assert order == [4, 0, 1, 2, 3]
    render_thread.close()
    with pytest.raises(RenderCancelledError):
        render_thread.submit(lambda: None)


def test_a_long_job_gives_way_only_to_a_browser_that_moves(run: Run, monkeypatch: pytest.MonkeyPatch):
    from adop.viewer.drawing import render_thread as module

    render_thread, begun, told = RenderThread(run), threading.Event(), threading.Event()
    answers = []

    def job() -> None:
        answers.append(render_thread.must_give_way(3))
        begun.set()
        told.wait()
        answers.extend([render_thread.must_give_way(3), render_thread.must_give_way(0)])
        monkeypatch.setattr(module, "MAX_HOLD_SECONDS", 0.0)
        answers.append(render_thread.must_give_way(0))

    threads = [threading.Thread(target=render_thread.submit, args=(job,))]
    threads[0].start()
    begun.wait()
    threads.append(threading.Thread(target=render_thread.submit, args=(lambda: None, True)))
    threads[1].start()
    until(lambda: render_thread.has_urgent_job)
    told.set()
    for thread in threads:
        thread.join()
    assert answers == [False, True, False, True]
    render_thread.close()


def test_a_cancelled_job_leaves_nothing_in_memory(run: Run):
    class Image:
        """Something large."""

    def job() -> None:
        image = Image()
        left.append(weakref.ref(image))
        raise RenderCancelledError

    render_thread, left = RenderThread(run), []
    gc.disable()
    try:
        with pytest.raises(RenderCancelledError):
            render_thread.submit(job)
        render_thread.submit(lambda: None)
        until(lambda: left[0]() is None, 2.0)
    finally:
        gc.enable()
    render_thread.close()


def test_kept_results_are_bounded_and_the_newest_stays():
    kept: KeptResults[str] = KeptResults(max_pixels=100)
    for owner, pixels in (("a", 40), ("b", 40)):
        kept.keep(owner, owner.upper(), pixels)
    assert kept.get("a") == "A"  # and so it is newer than b
    kept.keep("c", "C", 50)
    assert (kept.get("a"), kept.get("b"), kept.get("c")) == ("A", None, "C")
    kept.keep("d", "D", 1000)
    assert (kept.get("a"), kept.get("c"), kept.get("d")) == (None, None, "D")
    kept.drop("d")
    assert kept.get("d") is None


def test_an_allowance_refills():
    allowance = Allowance(rate=20.0, burst=3.0)
    assert [allowance.take() for _ in range(4)] == [True, True, True, False]
    assert not allowance.is_full
    time.sleep(0.2)
    assert allowance.is_full and allowance.take()


def test_a_thread_stays_below_its_share():
    pace, begun, worked = Pace(lambda: 0.2), time.monotonic(), time.thread_time()
    while time.monotonic() - begun < 1.5:
        np.linalg.inv(np.eye(60))
        pace.rest()
    share = (time.thread_time() - worked) / (time.monotonic() - begun)
    assert share < 0.2 + 0.35 / 1.5  # what it has saved up, and the last piece of work


def test_a_client_that_answers_late_gets_the_newest_image(client: Client):
    """Images are not queued: two old ones are on their way, and the next shows what was sent last."""
    for _ in range(20):
        client.send(type="move", orbit=[0.05, 0])
        time.sleep(0.02)
    client.send(type="mark", mark=77)
    before = client.frames
    client.until(lambda: client.header.get("mark") == 77)
    assert client.frames - before <= 4
