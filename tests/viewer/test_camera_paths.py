"""Camera paths in the viewer: saved, loaded, played and rendered."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import OpenEXR
import pytest
import torch
from PIL import Image

from adop.images.writers import to_uint8
from adop.render.camera_path import Frame, pinhole
from adop.render.camera_settings import CameraSettings
from adop.render.key_frames import KeyFrame, KeyPath, save_key_path
from adop.run.run import Run
from adop.viewer.server.server import Viewer
from support.viewer_client import Client


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


def frame_of(key: dict) -> Frame:
    """Return the frame of a key frame that the page sends."""
    matrix = np.linalg.inv(np.array(key["camera_to_world"]).reshape(4, 4))
    return Frame(matrix, key["focal"], key["exposure"])


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


def test_saved_paths_are_listed_on_the_page(run: Run, viewer: Viewer):
    save_key_path(run.folder / "paths" / "given.json", KeyPath((KeyFrame(0, frame_of(keys(run)[0])),)))
    (run.folder / "paths" / "Not A Slug.json").write_text("{}")
    with Client(viewer.url) as client:
        assert (
            "given" in client.newest("hello")["paths"] and "Not A Slug" not in client.newest("hello")["paths"]
        )
    assert json.loads((run.folder / "paths" / "given.json").read_text())["camera_type"] == "perspective"
