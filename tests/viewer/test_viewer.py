"""The viewer without a browser: what a page can ask for, what it gets, and what nobody gets."""

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
from adop.render.camera_settings import CameraSettings
from adop.render.key_frames import KeyFrame, KeyPath, save_key_path
from adop.render.render import pinhole
from adop.run.run import Run, load
from adop.viewer.app import open_run_or_scene, view_run
from adop.viewer.drawing.layers import LAYERS
from adop.viewer.drawing.studio import AbandonedError, Studio, shoot
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
        client.rested()
        yield client


def mean(pixels: np.ndarray) -> float:
    return float(pixels.astype(float).mean())


def test_a_page_is_greeted_and_gets_a_picture(client: Client, run: Run):
    hello = client.said("hello")
    assert hello["points"] == len(run.pipeline.xyz) and len(hello["photos"]) == len(run.scene.photos)
    assert client.pixels.shape == (90, 160, 3) and client.pixels.std() > 10
    assert {"points", "network", "develop", "encode"} <= set(client.header["stages"])
    assert client.said("status")["training"]["live"] is False


def test_moving_changes_the_picture_and_rest_makes_it_full(client: Client):
    before = client.pixels
    client.send(type="move", orbit=[0.2, 0.05])
    client.step()
    after = client.rested()
    assert np.abs(after.astype(float) - before).mean() > 5
    client.send(type="home")
    assert np.array_equal(client.rested(), before)


def test_a_stop_more_is_brighter_by_a_stop_and_costs_no_new_render(client: Client):
    client.send(type="look", response="linear", exposure=1.0)
    dark = client.rested()
    client.send(type="look", exposure=0.0)
    bright = client.rested()
    assert not client.header["rendered"]
    inside = (bright > 40) & (bright < 200)
    assert np.median(bright[inside] / dark[inside].clip(1).astype(float)) == pytest.approx(2, rel=0.05)


def test_warmth_response_vignette_and_clipping(client: Client):
    plain = client.pixels.astype(float)
    client.send(type="look", temperature=9000)
    warm = client.rested().astype(float)
    assert warm[..., 0].mean() - warm[..., 2].mean() > plain[..., 0].mean() - plain[..., 2].mean() + 5
    client.send(type="look", temperature=6500, response="filmic")
    assert np.abs(client.rested() - plain).mean() > 2
    client.send(type="look", response="learned", exposure=-4)
    client.send(type="show", clipping=True)
    client.until(lambda: bool(((client.pixels[..., 0] > 200) & (client.pixels[..., 1] < 90)).mean() > 0.2))
    assert client.header["histogram"]["clipped"] > 0.2
    client.send(type="look", vignette=True)
    assert client.said("state")["vignette"] in (True, False)


def test_auto_exposure_settles_smoothly(client: Client):
    client.send(type="look", exposure=5)
    dark = mean(client.rested())
    client.send(type="look", auto=True)
    exposures = []
    while len(exposures) < 4 or exposures[-1] != exposures[-2]:
        client.step()
        if not exposures or client.header["exposure"] != exposures[-1] or len(exposures) > 3:
            exposures.append(client.header["exposure"])
    assert mean(client.pixels) > dark + 40
    assert all(a >= b for a, b in itertools.pairwise(exposures))


@pytest.mark.parametrize("layer", LAYERS)
def test_every_layer_shows_something_of_its_own(client: Client, layer: str):
    neural = client.pixels
    client.send(type="show", layer=layer, level=2 if layer in ("level", "weight", "mask") else 0)
    shown = client.rested()
    assert shown.shape == neural.shape and shown.std() > 3
    assert (layer == "neural") == (np.abs(shown.astype(float) - neural).mean() < 0.5)
    assert not client.header["rendered"]
    if layer == "error":
        assert client.header["note"].startswith("against ")


def test_both_stand_side_by_side(client: Client):
    client.send(type="show", beside=True)
    both = client.rested()
    assert both.shape == (90, 160, 3)
    assert np.abs(both[:, :80].astype(float) - both[:, 80:]).mean() > 10


def test_a_photo_is_seen_as_it_was_taken_and_exposed(client: Client, run: Run):
    client.send(type="photo", photo=3)
    client.send(type="expose", photo=3)
    client.send(type="look", vignette=True)
    render = client.rested().astype(float)
    assert client.header["photo"] == 3 and render.shape[:2] == (90, 120)
    photo = Image.fromarray(run.cache.get(3).numpy()).resize((120, 90), Image.Resampling.BOX)
    assert np.abs(render - np.asarray(photo)).mean() < 30
    look = run.photo_settings(3)
    state = client.said("state")
    assert state["exposure"] == pytest.approx(look.exposure, abs=1e-3)
    client.send(type="move", dolly=[0.1])
    client.rested()
    assert client.header["photo"] is None and client.pixels.shape == (90, 160, 3)


def test_a_double_click_chooses_a_point_to_turn_about(viewer: Viewer, client: Client):
    (session,) = viewer._sessions
    before = session.state.eye
    client.send(type="pivot", u=0.5, v=0.9)
    client.send(type="look", exposure=0.1)
    client.rested()
    after = session.state.eye
    assert after.pivot.tolist() != before.pivot.tolist()
    local = np.linalg.inv(after.camera_to_world) @ np.append(after.pivot, 1)
    place = after.focal * local[:2] / local[2] * 90 + (80, 45)
    assert place == pytest.approx([80, 81], abs=0.5)


def keys(run: Run, count: int = 3) -> list[dict]:
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
    """One path of one frame, saved by the viewer; rendered by it, by `adop render` and by Python."""
    client.send(type="size", width=320, height=180)
    client.send(type="path", keys=keys(run), width=320, height=180, rate=1)
    client.send(type="save", name="same")
    saved = Path(client.said("saved")["file"])
    client.send(type="at", time=1.0)
    client.rested()
    for kind in ("png", "exr"):
        client.send(type="snapshot", kind=kind)
    client.until(lambda: len(client.files) == 2)
    shown = np.asarray(Image.open(io.BytesIO(client.files[0][1])))
    (tmp_path / "shown.exr").write_bytes(client.files[1][1])

    wanted = ["--formats", "png", "exr", "--output", str(tmp_path / "frames")]
    done = subprocess.run(
        [
            str(Path(sys.executable).with_name("adop")),
            "render",
            str(run.folder),
            "--cameras",
            str(saved),
            *wanted,
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert np.array_equal(iio.imread(tmp_path / "frames" / "00001.png"), shown)

    frame = KeyPath(
        tuple(
            KeyFrame(key["time"], pinhole_frame(key)) for key in keys(run)
        ), 320, 180, 1
    ).frames()[1]  # fmt: skip
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
    # The picture on the page is the same, through JPEG.
    assert np.abs(client.pixels.astype(float) - shown).mean() < 3


def pinhole_frame(key: dict):
    from adop.render.paths import Frame

    matrix = np.linalg.inv(np.array(key["camera_to_world"]).reshape(4, 4))
    return Frame(matrix, key["focal"], key["exposure"])


def test_a_path_is_saved_loaded_played_and_rendered(client: Client, run: Run):
    client.send(type="path", keys=keys(run), width=96, height=54, rate=4)
    client.send(type="render", name="walk", kind="mp4")

    def progress() -> dict:
        return next((t["export"] for t in reversed(client.texts) if t["type"] == "status"), {})

    client.until(lambda: progress().get("state") == "done", 30)
    assert progress()["total"] == progress()["done"] == 9
    frames = iio.imread(run.folder / "renders" / "walk.mp4", plugin="pyav")
    assert frames.shape == (9, 54, 96, 3) and np.abs(frames[0].astype(float) - frames[-1]).mean() > 5
    client.send(type="path", keys=[], width=96, height=54, rate=4)
    client.send(type="load", name="walk")
    client.send(type="at", time=1.5)
    client.rested()
    assert client.header["exposure"] == pytest.approx(0.75, abs=0.05)
    client.send(type="render", name="walk", kind="exr")
    client.until(lambda: progress().get("kind") == "exr" and progress()["state"] == "done", 30)
    assert len(list((run.folder / "renders" / "walk-exr").glob("*.exr"))) == 9


def test_a_render_can_be_cancelled_and_leaves_nothing(client: Client, run: Run, viewer: Viewer):
    client.send(type="path", keys=keys(run), width=640, height=360, rate=240)
    client.send(type="render", name="long", kind="mp4")
    client.said("saved")
    client.send(type="render", name="other", kind="mp4")
    assert "being rendered" in client.said("error")["message"]
    client.send(type="cancel")
    client.until(
        lambda: any(t["type"] == "status" and t["export"]["state"] == "cancelled" for t in client.texts), 30
    )
    assert not list((run.folder / "renders").glob("*long*"))


def test_each_browser_has_its_own_view(viewer: Viewer, client: Client):
    with Client(viewer.url) as other:
        other.send(type="size", width=160, height=90)
        other.send(type="move", orbit=[0.4, 0])
        other.rested()
        assert np.abs(other.pixels.astype(float) - client.pixels).mean() > 5
        assert viewer.browsers == 2
        client.send(type="look", exposure=0.2)
        client.rested()


def test_a_picture_that_nobody_wants_is_given_up(run: Run):
    camera = run.photo_camera(0)
    asked: list[int] = []
    with pytest.raises(AbandonedError):
        shoot(run.pipeline, camera, None, lambda: len(asked) > 2 or bool(asked.append(1)))
    assert len(asked) == 3  # not asked further, and no hook is left behind:
    assert shoot(run.pipeline, camera).radiance.picture.shape[1] == 3
    assert not run.pipeline.network._forward_pre_hooks and not run.pipeline.environment._forward_hooks


def test_drawings_come_in_turn_and_errors_reach_who_asked(run: Run):
    studio, order = Studio(run), []
    release = threading.Event()
    threads = [threading.Thread(target=lambda: studio.draw(release.wait))]
    threads[0].start()
    for number in range(4):
        thread = threading.Thread(target=lambda n=number: studio.draw(lambda: order.append(n)))
        thread.start()
        thread.join(0.05)
        threads.append(thread)
    release.set()
    for thread in threads:
        thread.join()
    assert order == [0, 1, 2, 3]
    with pytest.raises(ZeroDivisionError):
        studio.draw(lambda: 1 / 0)
    studio.close()


@pytest.mark.parametrize(
    ("message", "says"),
    [
        ("nonsense", "JSON"),
        ("[1]", "object"),
        ('{"type": "fly me"}', "no message"),
        ('{"type": "move", "orbit": [1e999, 0]}', "expected a number"),
        ('{"type": "move", "orbit": [NaN, 0]}', "expected a number"),
        ('{"type": "move", "orbit": [1]}', "2 numbers"),
        ('{"type": "size", "width": "big", "height": 3}', "expected a number"),
        ('{"type": "photo", "photo": -1}', "from 0 to"),
        ('{"type": "photo", "photo": 99999}', "from 0 to"),
        ('{"type": "show", "layer": "../secrets"}', "one of"),
        ('{"type": "save", "name": "../../etc/passwd"}', "a name has"),
        ('{"type": "load", "name": "/etc/passwd"}', "a name has"),
        ('{"type": "render", "name": "a/b", "kind": "mp4"}', "a name has"),
        ('{"type": "load", "name": "nowhere"}', "cannot be read"),
        ('{"type": "snapshot", "kind": "exe"}', "one of"),
        ('{"type": "path", "keys": [{"time": 0}], "width": 1, "height": 1, "rate": 1}', "16 numbers"),
        ('{"type": "path", "keys": 3, "width": 1, "height": 1, "rate": 1}', "list of key frames"),
        ('{"type": "at", "time": 1}', "no key frame"),
        ("[" * 100000, "JSON"),
    ],
)
def test_nonsense_is_answered_in_a_sentence_and_ends_nothing(client: Client, message: str, says: str):
    client.send(type="path", keys=[], width=96, height=54, rate=4)
    client.socket.send(message)
    assert says in client.said("error")["message"]
    client.send(type="look", exposure=0.5)
    client.rested()


def test_huge_requests_are_brought_to_size(client: Client):
    client.send(type="size", width=1e9, height=-5)
    client.send(type="move", dolly=[1e300], focal=0)
    client.rested()
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


def test_the_page_and_its_files_are_served_and_nothing_else(viewer: Viewer, run: Run):
    for path in (
        "",
        "main.js",
        "style.css",
        "icon.svg",
        "link.js",
        "steer.js",
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


def test_other_sites_and_names_are_refused(viewer: Viewer):
    host = f"127.0.0.1:{viewer.port}"
    assert get(viewer.url, Host="evil.example")[0] == 403
    assert get(viewer.url, Host=host, Origin="http://evil.example")[0] == 403
    assert get(viewer.url, Host=host, Origin=f"http://{host}")[0] == 200
    assert get(viewer.url, Host=f"localhost:{viewer.port + 1}")[0] == 200  # a forwarded port
    for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
        with pytest.raises(InvalidStatus, match="403"):
            Client(viewer.url, additional_headers=headers)


def test_a_token_lets_in_by_its_address_once_and_then_by_cookie(run: Run):
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
            client.rested()


def test_beyond_this_machine_there_is_always_a_token():
    assert guard_for("127.0.0.1", None).token is None
    one, two = guard_for("0.0.0.0", None).token, guard_for("0.0.0.0", None).token
    assert one and two and one != two and len(one) >= 20
    guard = Guard("word")
    assert guard.admits("any.name:80", None, "word", None) is None
    assert guard.admits("any.name:80", "http://other.name", "word", None) is not None
    assert Guard(None).admits(None, None, None, None) is not None
    for host in (
        "[::1",
        "several",
        "localhost.evil.example",
        "127.0.0.1.evil.example:80",
        "",
        "evil@localhost\\x",
    ):
        assert Guard(None).admits(host, None, None, None) is not None, host
    assert guard.admits("any", None, "\udc80", None) is not None
    for host in ("localhost:1", "127.0.0.1:9000", "[::1]:9000", "LOCALHOST"):
        assert Guard(None).admits(host, f"http://{host}", None, None) is None, host


def test_a_taken_port_is_said_in_a_sentence(viewer: Viewer, run: Run):
    with pytest.raises(UserError, match="choose another --port"):
        view_run(run, port=viewer.port)


def test_a_scene_can_be_viewed_before_it_is_trained(small_folder: Path, tmp_path: Path):
    run = open_run_or_scene(small_folder, None, "cpu", lambda _: None)
    with view_run(run, folder=tmp_path) as viewer, Client(viewer.url) as client:
        client.send(type="size", width=160, height=90)
        assert client.rested().std() > 10
        assert client.said("hello")["trained"] is False
    with pytest.raises(UserError, match="neither a run"):
        open_run_or_scene(tmp_path, None, "cpu", print)


def test_a_viewer_leaves_no_thread_behind(run: Run):
    before = set(threading.enumerate())
    with view_run(run) as viewer:
        client = Client(viewer.url)
        client.step()
        client.socket.close()
    left = {t.name for t in set(threading.enumerate()) - before if t.is_alive() and t.name.startswith("adop")}
    assert not left


def test_a_saved_path_lies_where_the_page_says(run: Run, viewer: Viewer):
    save_key_path(run.folder / "paths" / "given.json", KeyPath((KeyFrame(0, pinhole_frame(keys(run)[0])),)))
    (run.folder / "paths" / "Not A Slug.json").write_text("{}")
    with Client(viewer.url) as client:
        assert "given" in client.said("hello")["paths"] and "Not A Slug" not in client.said("hello")["paths"]
    assert json.loads((run.folder / "paths" / "given.json").read_text())["camera_type"] == "perspective"


def test_the_command_starts_ends_and_says_what_is_wrong(run: Run, tmp_path: Path):
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
    said = process.stdout.readline() + process.stdout.readline()
    assert "?token=" in said and "nothing is encrypted" in said
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=30)
    assert process.returncode == 0 and not errors
