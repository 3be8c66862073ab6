"""The viewer's server: what it serves, what it refuses, how it starts and stops."""

from __future__ import annotations

import io
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from PIL import Image
from websockets.exceptions import InvalidStatus

from adop.errors import UserError
from adop.run.run import Run
from adop.viewer.app import open_run_or_scene, view_run
from adop.viewer.server.guard import Guard, guard_for
from adop.viewer.server.server import Viewer
from support.http import get
from support.viewer_client import Client


def test_only_the_page_and_its_files_are_served(viewer: Viewer, run: Run):
    for path in (
        "",
        "main.js",
        "style.css",
        "icon.svg",
        "connection.js",
        "navigation.js",
        "overlay.js",
        "plots.js",
        "timeline.js",
    ):
        status, body, headers = get(viewer.url + path)
        assert status == 200 and body, path
        assert headers["Content-Security-Policy"].startswith("default-src 'none'")
    status, body, _ = get(viewer.url + "photo/2/small.jpg")
    assert status == 200 and max(Image.open(io.BytesIO(body)).size) == 224
    for path in (
        "config.json", "../config.json", "%2e%2e/config.json", "photo/9999/small.jpg", "photo/-1/small.jpg",
        "photo/1/../../config.json", "video/..%2f..%2fx.mp4", "video/nowhere.mp4", "page/index.html", "ws/x",
    ):  # fmt: skip
        assert get(viewer.url + path)[0] == 404, path
    link = run.folder / "renders" / "link.mp4"
    link.parent.mkdir(exist_ok=True)
    link.symlink_to("/etc/hostname")
    assert get(viewer.url + "video/link.mp4")[0] == 404


def test_requests_from_other_sites_and_to_other_names_are_refused(viewer: Viewer):
    host = f"127.0.0.1:{viewer.port}"
    assert get(viewer.url, Host="evil.example")[0] == 403
    assert get(viewer.url, Host=host, Origin="http://evil.example")[0] == 403
    assert get(viewer.url, Host=host, Origin=f"http://{host}")[0] == 200
    assert get(viewer.url, Host=f"localhost:{viewer.port + 1}")[0] == 200  # a forwarded port
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(InvalidStatus, match="403"):
            Client(viewer.url, additional_headers=headers)


def test_a_token_is_accepted_from_the_address_once_and_then_from_a_cookie(run: Run):
    with view_run(run, token="secret-word") as viewer:
        bare = viewer.url.split("?")[0]
        assert viewer.url.endswith("/?token=secret-word")
        assert get(bare)[0] == get(bare + "?token=wrong")[0] == get(bare + "photo/0/small.jpg")[0] == 403
        status, _, headers = get(viewer.url)
        assert status == 303 and headers["Location"] == "./"
        cookie = headers["Set-Cookie"]
        assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
        assert get(bare, Cookie=cookie.split(";")[0])[0] == 200
        assert get(bare, Cookie="=;;")[0] == 403
        with pytest.raises(InvalidStatus, match="403"):
            Client(bare)
        with Client(bare, additional_headers={"Cookie": cookie.split(";")[0]}) as client:
            client.frame_at_rest()


def test_a_viewer_open_to_other_machines_always_has_a_token():
    assert guard_for("127.0.0.1", None).token is None
    one, two = guard_for("0.0.0.0", None).token, guard_for("0.0.0.0", None).token
    assert one and two and one != two and len(one) >= 20
    guard = Guard("word")
    assert guard.refusal("any.name:80", None, "word", None) is None
    assert guard.refusal("any.name:80", "http://other.name", "word", None) is not None
    assert Guard(None).refusal(None, None, None, None) is not None
    for host in (
        "[::1",
        "several",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "",
        "evil@localhost\\x",
    ):
        assert Guard(None).refusal(host, None, None, None) is not None, host
    assert guard.refusal("any", None, "\udc80", None) is not None
    for host in ("localhost:1", "127.0.0.1:9000", "[::1]:9000", "LOCALHOST"):
        assert Guard(None).refusal(host, f"http://{host}", None, None) is None, host


def test_a_port_in_use_is_reported(viewer: Viewer, run: Run):
    with pytest.raises(UserError, match="choose another --port"):
        view_run(run, port=viewer.port)


def test_a_scene_can_be_viewed_before_it_is_trained(small_folder: Path, tmp_path: Path):
    run = open_run_or_scene(small_folder, None, "cpu", lambda _: None)
    with view_run(run, folder=tmp_path) as viewer, Client(viewer.url) as client:
        client.send(type="size", width=160, height=90)
        assert client.frame_at_rest().std() > 10
        assert client.newest("hello")["trained"] is False
    with pytest.raises(UserError, match="neither a run"):
        open_run_or_scene(tmp_path, None, "cpu", print)


def test_a_closed_viewer_leaves_no_threads(run: Run):
    before = set(threading.enumerate())
    with view_run(run) as viewer:
        client = Client(viewer.url)
        client.step()
        client.socket.close()
    left = {t.name for t in set(threading.enumerate()) - before if t.is_alive() and t.name.startswith("adop")}
    assert not left


def test_the_command_starts_stops_and_reports_mistakes(run: Run, tmp_path: Path):
    command = [str(Path(sys.executable).with_name("adop")), "view"]
    done = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "neither a run" in done.stderr and "Traceback" not in done.stderr
    process = subprocess.Popen(
        [*command, str(run.folder), "--port", "0", "--host", "0.0.0.0"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    printed = process.stdout.readline() + process.stdout.readline()
    assert "?token=" in printed and "nothing is encrypted" in printed
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and not errors
