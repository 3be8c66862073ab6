"""A browser's session: its frames, and what its messages change."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest
from PIL import Image

from adop.run.exposure_model import ViewPrediction
from adop.run.run import Run
from adop.viewer.drawing.layers import LAYERS
from adop.viewer.server.server import Viewer
from support.viewer_client import Client


def mean(pixels: np.ndarray) -> float:
    """Return the mean value of an image."""
    return float(pixels.astype(float).mean())


def test_a_page_gets_a_hello_message_and_a_frame(client: Client, run: Run):
    hello = client.newest("hello")
    assert hello["points"] == len(run.pipeline.points.xyz) and len(hello["photos"]) == len(run.scene.photos)
    assert client.pixels.shape == (90, 160, 3) and client.pixels.std() > 10
    assert {"points", "network", "develop", "encode"} <= set(client.header["stages"])
    assert client.newest("status")["training"]["live"] is False


def test_the_first_view_is_exposed_as_its_photo_and_clips_little(client: Client, run: Run, viewer: Viewer):
    position = viewer.shared.start.viewpoint.position
    cameras = [run.photo_camera(i).centre()[0].numpy() for i in run.split["train"]]
    photo = run.split["train"][int(np.argmin([np.linalg.norm(camera - position) for camera in cameras]))]
    settings = run.photo_settings(photo)
    assert client.header["exposure"] == pytest.approx(settings.exposure, abs=1e-3)
    assert client.header["histogram"]["clipped"] < 0.06
    assert abs(client.pixels.mean() - run.cache.get(photo).numpy().mean()) < 25


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
    client.until(lambda: client.newest("state")["vignette"] is True)


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


def test_automatic_exposure_is_that_of_the_photos_camera_where_it_follows_the_light(client: Client, run: Run):
    weights, limits = np.zeros((10, 3)), np.array([[-5.0] * 3, [5.0] * 3])
    model = run.exposure
    assert model is not None
    constant = ViewPrediction(np.array([-1.25, 0, 0]), weights, limits)
    run.exposure = dataclasses.replace(model, views=model.views | {"exposure": "light"}, view=constant)
    try:
        client.send(type="settings", auto_exposure=True)
        client.until(lambda: client.header["exposure"] == -1.25)
    finally:
        run.exposure = model


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
    assert np.abs(both[:, :80].astype(float) - both[:, 80:]).mean() > 5


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


def test_each_browser_has_its_own_view(viewer: Viewer, client: Client):
    with Client(viewer.url) as other:
        other.send(type="size", width=160, height=90)
        other.send(type="move", orbit=[0.4, 0])
        other.frame_at_rest()
        assert np.abs(other.pixels.astype(float) - client.pixels).mean() > 5
        assert viewer.browsers == 2
        client.send(type="settings", exposure=0.2)
        client.frame_at_rest()


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
        ('{"type": "compare", "photo": -1, "match": true}', "from 0 to"),
        ('{"type": "compare", "photo": 1, "match": 1}', "true or false"),
        ('{"type": "view", "camera_to_world": [1, 2], "pivot": [0, 0, 0], "focal": 1}', "16 numbers"),
        (
            '{"type": "view", "camera_to_world": [2,0,0,0, 0,1,0,0, 0,0,1,0, 0,0,0,1], "pivot": [0,0,0], "focal": 1}',
            "rigid",
        ),
        ('{"type": "photo", "photo": 99999}', "from 0 to"),
        ('{"type": "display", "layer": "../secrets"}', "one of"),
        ('{"type": "save_path", "name": "../../etc/passwd"}', "a name has at most"),
        ('{"type": "load_path", "name": "/etc/passwd"}', "a name has at most"),
        ('{"type": "render_path", "name": "a/b", "kind": "mp4"}', "a name has at most"),
        ('{"type": "load_path", "name": "nowhere"}', "cannot be read"),
        ('{"type": "snapshot", "kind": "exe"}', "one of"),
        ('{"type": "scene", "action": "explode"}', "one of"),
        ('{"type": "crop", "on": true, "low": [0, 0], "high": [1, 1, 1]}', "3 numbers"),
        ('{"type": "crop", "on": 1}', "true or false"),
        ('{"type": "display", "surroundings": "url(x)"}', "one of"),
        ('{"type": "pick", "u": "left", "v": 0}', "expected a number"),
        ('{"type": "note", "position": [0, 0, 1e999], "text": "x"}', "expected a number"),
        ('{"type": "note", "position": [0, 0, 0], "text": "   "}', "printable"),
        ('{"type": "note", "position": [0, 0, 0], "text": "\\u202e"}', "printable"),
        ('{"type": "note", "position": [0, 0, 0], "text": "' + "x" * 501 + '"}', "1 to 500"),
        ('{"type": "delete_note", "index": -1}', "from 0 to"),
        ('{"type": "scale", "metres_per_unit": "1 m"}', "expected a number"),
        ('{"type": "path", "keys": [{"time": 0}], "width": 1, "height": 1, "rate": 1}', "16 numbers"),
        ('{"type": "path", "keys": 3, "width": 1, "height": 1, "rate": 1}', "list of key frames"),
        ('{"type": "seek", "time": 1}', "no key frame"),
        ("[" * 100000, "JSON"),
    ],
)
def test_an_invalid_message_is_answered_and_the_session_continues(client: Client, message: str, answer: str):
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
