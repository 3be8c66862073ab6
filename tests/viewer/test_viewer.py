"""The viewer's server: what a page can request, what it gets, and what is refused."""

from __future__ import annotations

import io
import itertools
import json
import signal
import subprocess
import sys
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image
from support.viewer_client import Client
from websockets.exceptions import InvalidStatus

from adop.errors import UserError
from adop.images.writers import to_uint8
from adop.render.camera_path import pinhole
from adop.render.camera_settings import CameraSettings
from adop.render.key_frames import KeyFrame, KeyPath, save_key_path
from adop.run.run import Run, load
from adop.viewer.app import open_run_or_scene, view_run
from adop.viewer.drawing.layers import LAYERS
from adop.viewer.drawing.render_thread import RenderCancelledError, RenderThread, render_radiance
from adop.viewer.server.guard import Guard, guard_for
from adop.viewer.server.server import Viewer


@pytest.fixture(scope="module")
def run(trained_folder: Path) -> Run:
    return load(trained_folder, say=lambda _: None)


@pytest.fixture
def viewer(run: Run) -> Iterator[Viewer]:
    with view_run(run) as viewer:
        yield viewer


@pytest.fixture
def client(viewer: Viewer) -> Iterator[Client]:
    with Client(viewer.url) as client:
        client.send(type="size", width=160, height=90)
        client.frame_at_rest()
        yield client


def mean(pixels: np.ndarray) -> float:
    """Return the mean value of an image."""
    return float(pixels.astype(float).mean())


def test_a_page_gets_a_hello_message_and_a_frame(client: Client, run: Run):
    hello = client.newest("hello")
    assert hello["points"] == len(run.pipeline.points.xyz) and len(hello["photos"]) == len(run.scene.photos)
    assert client.pixels.shape == (90, 160, 3) and client.pixels.std() > 10
    assert {"points", "network", "develop", "encode"} <= set(client.header["stages"])
    assert client.newest("status")["training"]["live"] is False


def test_moving_changes_the_view_and_rest_gives_a_full_size_frame(client: Client):
    before = client.pixels
    client.send(type="move", orbit=[0.2, 0.05])
    client.step()
    after = client.frame_at_rest()
    assert np.abs(after.astype(float) - before).mean() > 5
    client.send(type="home")
    assert np.array_equal(client.frame_at_rest(), before)


def test_one_stop_doubles_the_light_without_rendering_again(client: Client):
    client.send(type="settings", response="linear", exposure=1.0)
    dark = client.frame_at_rest()
    client.send(type="settings", exposure=0.0)
    bright = client.frame_at_rest()
    assert not client.header["rendered"]
    inside = (bright > 40) & (bright < 200)
    assert np.median(bright[inside] / dark[inside].clip(1).astype(float)) == pytest.approx(2, rel=0.05)


def test_temperature_response_vignette_and_clipping(client: Client):
    plain = client.pixels.astype(float)
    client.send(type="settings", temperature=9000)
    warm = client.frame_at_rest().astype(float)
    assert warm[..., 0].mean() - warm[..., 2].mean() > plain[..., 0].mean() - plain[..., 2].mean() + 5
    client.send(type="settings", temperature=6500, response="filmic")
    assert np.abs(client.frame_at_rest() - plain).mean() > 2
    client.send(type="settings", response="learned", exposure=-4)
    client.send(type="display", show_clipping=True)
    client.until(lambda: bool(((client.pixels[..., 0] > 200) & (client.pixels[..., 1] < 90)).mean() > 0.2))
    assert client.header["histogram"]["clipped"] > 0.2
    client.send(type="settings", vignette=True)
    assert client.newest("state")["vignette"] in (True, False)


def test_automatic_exposure_settles_smoothly(client: Client):
    client.send(type="settings", exposure=5)
    dark = mean(client.frame_at_rest())
    client.send(type="settings", auto_exposure=True)
    exposures = []
    while len(exposures) < 4 or exposures[-1] != exposures[-2]:
        client.step()
        if not exposures or client.header["exposure"] != exposures[-1] or len(exposures) > 3:
            exposures.append(client.header["exposure"])
    assert mean(client.pixels) > dark + 40
    assert all(a >= b for a, b in itertools.pairwise(exposures))


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_has_an_image_of_its_own(client: Client, layer: str):
    neural = client.pixels
    client.send(type="display", layer=layer, level=2 if layer in ("level", "weight", "mask") else 0)
    shown = client.frame_at_rest()
    assert shown.shape == neural.shape and shown.std() > 3
    assert (layer == "neural") == (np.abs(shown.astype(float) - neural).mean() < 0.5)
    assert not client.header["rendered"]
    if layer == "error":
        assert client.header["note"].startswith("compared with ")


def test_image_and_points_are_shown_side_by_side(client: Client):
    client.send(type="display", side_by_side=True)
    both = client.frame_at_rest()
    assert both.shape == (90, 160, 3)
    assert np.abs(both[:, :80].astype(float) - both[:, 80:]).mean() > 10


def test_a_photos_view_and_exposure_match_the_photo(client: Client, run: Run):
    client.send(type="photo", photo=3)
    client.send(type="match_photo", photo=3)
    client.send(type="settings", vignette=True)
    render = client.frame_at_rest().astype(float)
    assert client.header["photo"] == 3 and render.shape[:2] == (90, 120)
    photo = Image.fromarray(run.cache.get(3).numpy()).resize((120, 90), Image.Resampling.BOX)
    assert np.abs(render - np.asarray(photo)).mean() < 30
    settings = run.photo_settings(3)
    state = client.newest("state")
    assert state["exposure"] == pytest.approx(settings.exposure, abs=1e-3)
    client.send(type="move", dolly=[0.1])
    client.frame_at_rest()
    assert client.header["photo"] is None and client.pixels.shape == (90, 160, 3)


def test_a_double_click_sets_the_pivot(viewer: Viewer, client: Client):
    (session,) = viewer._sessions
    before = session.state.viewpoint
    client.send(type="pivot", u=0.5, v=0.9)
    client.send(type="settings", exposure=0.1)
    client.frame_at_rest()
    after = session.state.viewpoint
    assert after.pivot.tolist() != before.pivot.tolist()
    local = np.linalg.inv(after.camera_to_world) @ np.append(after.pivot, 1)
    pixel = after.focal * local[:2] / local[2] * 90 + (80, 45)
    assert pixel == pytest.approx([80, 81], abs=0.5)


def keys(run: Run, count: int = 3) -> list[dict]:
    """Return key frames at the cameras of photos, as the page sends them."""
    return [
        {
            "time": float(i),
            "camera_to_world": np.linalg.inv(run.scene.photos[2 * i].world_to_camera).flatten().tolist(),
            "focal": 1.0 + 0.1 * i,
            "exposure": 0.5 * i,
        }
        for i in range(count)
    ]


def test_the_same_camera_has_the_same_pixels_in_the_api_the_command_line_and_the_viewer(
    client: Client, run: Run, tmp_path: Path
):
    """A path is saved by the viewer and rendered by the viewer, by `adop render` and from Python."""
    client.send(type="size", width=320, height=180)
    client.send(type="path", keys=keys(run), width=320, height=180, rate=1)
    client.send(type="save_path", name="same")
    saved = Path(client.newest("saved")["file"])
    client.send(type="seek", time=1.0)
    client.frame_at_rest()
    for kind in ("png", "exr"):
        client.send(type="snapshot", kind=kind)
    client.until(lambda: len(client.files) == 2)
    shown = np.asarray(Image.open(io.BytesIO(client.files[0][1])))
    (tmp_path / "shown.exr").write_bytes(client.files[1][1])

    options = ["--formats", "png", "exr", "--output", str(tmp_path / "frames")]
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("adop")),
            "render",
            str(run.folder),
            "--cameras",
            str(saved),
            *options,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(iio.imread(tmp_path / "frames" / "00001.png"), shown)

    frame = KeyPath(
        tuple(
            KeyFrame(key["time"], frame_of(key)) for key in keys(run)
        ), 320, 180, 1
    ).sampled().frames[1]  # fmt: skip
    camera = pinhole(frame, 320, 180, torch.device("cpu"))
    view = run.render(camera, CameraSettings(exposure=frame.exposure))
    assert np.array_equal(to_uint8(view.image[0]), shown)
    assert np.array_equal(view.numpy().image[0], shown)
    exr = [
        OpenEXR.File(str(tmp_path / name)).channels()["RGB"].pixels
        for name in ("shown.exr", "frames/00001.exr")
    ]
    assert np.array_equal(exr[0], exr[1])
    assert np.array_equal(exr[0], view.numpy().radiance[0])
    # The frame on the page is the same image, compressed as JPEG.
    assert np.abs(client.pixels.astype(float) - shown).mean() < 3


def frame_of(key: dict):
    from adop.render.camera_path import Frame

    matrix = np.linalg.inv(np.array(key["camera_to_world"]).reshape(4, 4))
    return Frame(matrix, key["focal"], key["exposure"])


def test_a_path_is_saved_loaded_played_and_rendered(client: Client, run: Run):
    client.send(type="path", keys=keys(run), width=96, height=54, rate=4)
    client.send(type="render_path", name="walk", kind="mp4")

    def progress() -> dict:
        return next((t["export"] for t in reversed(client.texts) if t["type"] == "status"), {})

    client.until(lambda: progress().get("state") == "done", 30)
    assert progress()["total"] == progress()["done"] == 9
    frames = iio.imread(run.folder / "renders" / "walk.mp4", plugin="pyav")
    assert frames.shape == (9, 54, 96, 3) and np.abs(frames[0].astype(float) - frames[-1]).mean() > 5
    client.send(type="path", keys=[], width=96, height=54, rate=4)
    client.send(type="load_path", name="walk")
    client.send(type="seek", time=1.5)
    client.frame_at_rest()
    assert client.header["exposure"] == pytest.approx(0.75, abs=0.05)
    client.send(type="render_path", name="walk", kind="exr")
    client.until(lambda: progress().get("kind") == "exr" and progress()["state"] == "done", 30)
    assert len(list((run.folder / "renders" / "walk-exr").glob("*.exr"))) == 9


def test_a_render_can_be_cancelled_and_leaves_nothing(client: Client, run: Run, viewer: Viewer):
    client.send(type="path", keys=keys(run), width=640, height=360, rate=240)
    client.send(type="render_path", name="long", kind="mp4")
    client.newest("saved")
    client.send(type="render_path", name="other", kind="mp4")
    assert "being rendered" in client.newest("error")["message"]
    client.send(type="cancel_render")
    client.until(
        lambda: any(t["type"] == "status" and t["export"]["state"] == "cancelled" for t in client.texts), 30
    )
    assert not list((run.folder / "renders").glob("*long*"))


def test_each_browser_has_its_own_view(viewer: Viewer, client: Client):
    with Client(viewer.url) as other:
        other.send(type="size", width=160, height=90)
        other.send(type="move", orbit=[0.4, 0])
        other.frame_at_rest()
        assert np.abs(other.pixels.astype(float) - client.pixels).mean() > 5
        assert viewer.browsers == 2
        client.send(type="settings", exposure=0.2)
        client.frame_at_rest()


def test_rendering_can_be_cancelled(run: Run):
    camera = run.photo_camera(0)
    asked: list[int] = []
    with pytest.raises(RenderCancelledError):
        render_radiance(run.pipeline, camera, None, lambda: len(asked) > 2 or bool(asked.append(1)))
    assert len(asked) == 3  # rendering has stopped; no hook is left:
    assert render_radiance(run.pipeline, camera).radiance.image.shape[1] == 3
    assert not run.pipeline.network._forward_pre_hooks and not run.pipeline.environment._forward_hooks


def test_jobs_run_in_order_and_raise_their_errors_at_the_caller(run: Run):
    render_thread, order = RenderThread(run), []
    release = threading.Event()
    threads = [threading.Thread(target=lambda: render_thread.submit(release.wait))]
    threads[0].start()
    for number in range(4):
        thread = threading.Thread(target=lambda n=number: render_thread.submit(lambda: order.append(n)))
        thread.start()
        thread.join(0.05)
        threads.append(thread)
    release.set()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        render_thread.submit(lambda: 1 / 0)
    render_thread.close()


@pytest.mark.parametrize(
    ("message", "answer"),
    [
        ("nonsense", "JSON"),
        ("[1]", "object"),
        ('{"type": "fly me"}', "no message of type"),
        ('{"type": "move", "orbit": [1e999, 0]}', "expected a number"),
        ('{"type": "move", "orbit": [NaN, 0]}', "expected a number"),
        ('{"type": "move", "orbit": [1]}', "2 numbers"),
        ('{"type": "size", "width": "big", "height": 3}', "expected a number"),
        ('{"type": "photo", "photo": -1}', "from 0 to"),
        ('{"type": "photo", "photo": 99999}', "from 0 to"),
        ('{"type": "display", "layer": "../secrets"}', "one of"),
        ('{"type": "save_path", "name": "../../etc/passwd"}', "a name has at most"),
        ('{"type": "load_path", "name": "/etc/passwd"}', "a name has at most"),
        ('{"type": "render_path", "name": "a/b", "kind": "mp4"}', "a name has at most"),
        ('{"type": "load_path", "name": "nowhere"}', "cannot be read"),
        ('{"type": "snapshot", "kind": "exe"}', "one of"),
        ('{"type": "path", "keys": [{"time": 0}], "width": 1, "height": 1, "rate": 1}', "16 numbers"),
        ('{"type": "path", "keys": 3, "width": 1, "height": 1, "rate": 1}', "list of key frames"),
        ('{"type": "seek", "time": 1}', "no key frame"),
        ("[" * 100000, "JSON"),
    ],
)
def test_an_invalid_message_is_answered_with_an_error_and_the_session_continues(
    client: Client, message: str, answer: str
):
    client.send(type="path", keys=[], width=96, height=54, rate=4)
    client.socket.send(message)
    assert answer in client.newest("error")["message"]
    client.send(type="settings", exposure=0.5)
    client.frame_at_rest()


def test_huge_values_are_clamped(client: Client):
    client.send(type="size", width=1e9, height=-5)
    client.send(type="move", dolly=[1e300], focal=0)
    client.frame_at_rest()
    assert client.pixels.shape[0] >= 16 and client.pixels.shape[1] <= 2048


def get(url: str, **headers: str) -> tuple[int, bytes, dict[str, str]]:
    request = urllib.request.Request(url, headers=headers)
    opener = urllib.request.build_opener(NoRedirect)
    try:
        with opener.open(request, timeout=10) as answer:
            return answer.status, answer.read(), dict(answer.headers)
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), dict(error.headers)


class NoRedirect(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


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
        assert status == 303 and headers["Location"] == "/"
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


def test_saved_paths_are_listed_on_the_page(run: Run, viewer: Viewer):
    save_key_path(run.folder / "paths" / "given.json", KeyPath((KeyFrame(0, frame_of(keys(run)[0])),)))
    (run.folder / "paths" / "Not A Slug.json").write_text("{}")
    with Client(viewer.url) as client:
        assert (
            "given" in client.newest("hello")["paths"] and "Not A Slug" not in client.newest("hello")["paths"]
        )
    assert json.loads((run.folder / "paths" / "given.json").read_text())["camera_type"] == "perspective"


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
