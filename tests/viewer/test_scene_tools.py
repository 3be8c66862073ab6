"""The captured region, the crop box, distances and notes, as a session handles them; and the depth that it saves."""

from __future__ import annotations

import io
import json

import numpy as np
import pytest
from PIL import Image

from adop.errors import UserError
from adop.render.crop_box import load_crop_box
from adop.run.run import Run
from adop.viewer.drawing.captured_region import COLOURS
from adop.viewer.server.server import Viewer
from adop.viewer.session import files, navigation
from adop.viewer.session.state import camera_of, start_state
from support.viewer_client import Client


def test_the_region_holds_the_cameras_and_the_view_can_be_fitted_to_it(run: Run):
    state = start_state(run)
    region = state.region
    centres = [np.linalg.inv(photo.world_to_camera)[:3, 3] for photo in run.scene.photos]
    assert max(map(region.distance, centres)) == 0
    assert region.distance(region.centre + 3 * region.size * region.axes[1]) > 1
    fitted = navigation.fit(state.viewpoint, region, 16 / 9)
    local = (region.corners() - fitted.position) @ fitted.camera_to_world[:3, :3]
    tangents = np.abs(local[:, :2] / local[:, 2:]) * fitted.focal * 2 / (16 / 9, 1)
    assert local[:, 2].min() > 0 and tangents.max() == pytest.approx(1)
    rolled = navigation.Viewpoint(
        fitted.camera_to_world @ np.diag([-1.0, -1, 1, 1]), *list(vars(fitted).values())[1:]
    )
    level = navigation.straighten(rolled)
    assert level.camera_to_world[:3, 0] @ level.up == pytest.approx(0, abs=1e-9)
    assert level.camera_to_world[:3, 1] @ level.up < 0 and np.linalg.det(
        level.camera_to_world
    ) == pytest.approx(1)
    assert np.allclose(level.camera_to_world[:3, 2], rolled.camera_to_world[:3, 2])


def test_motions_away_from_the_region_slow_down_at_its_border(run: Run):
    state = start_state(run)
    inside = navigation.slowed(state.viewpoint, state.region, navigation.dolly, [0.1])
    assert np.array_equal(inside.camera_to_world, navigation.dolly(state.viewpoint, 0.1).camera_to_world)
    view, steps = state.viewpoint, []
    for _ in range(60):
        before = view.position
        view = navigation.slowed(view, state.region, navigation.fly, [0, -0.3, 0])
        steps.append(np.linalg.norm(view.position - before))
    assert steps[-1] < 0.2 * steps[0]
    back = navigation.slowed(view, state.region, navigation.fly, [0, 0.3, 0])
    assert np.linalg.norm(back.position - view.position) == pytest.approx(0.3 * view.scale)


def test_outside_the_region_the_picture_fades_and_inside_it_does_not(client: Client, run: Run):
    home = client.pixels
    client.send(type="display", surroundings="rendered")
    assert np.array_equal(client.frame_at_rest(), home)
    client.send(type="scene", action="fit")
    client.send(type="settings", exposure=0)
    rendered = client.frame_at_rest().astype(float)
    for name in ("grey", "white"):
        client.send(type="display", surroundings=name)
        faded = client.frame_at_rest().astype(float)
        corner = faded[:6, :6]
        assert np.abs(corner - COLOURS[name]).max() < 6
        assert np.abs(faded - rendered).mean() > 5
        kept = np.abs(faded - rendered).max(2) < 12
        assert kept[20:70, 30:130].mean() > 0.05  # the scene itself stays


def test_a_crop_box_hides_points_in_the_view_the_snapshot_and_the_next_session(
    viewer: Viewer, client: Client, run: Run
):
    client.send(type="display", layer="points")
    whole = client.frame_at_rest()
    client.send(type="crop", on=True, low=[0.3, 0, 0.3], high=[0.7, 1, 0.7])
    client.send(type="save_crop")
    part = client.frame_at_rest()
    assert np.abs(part.astype(float) - whole).mean() > 5
    client.send(type="snapshot", kind="depth")
    client.until(lambda: len(client.files) == 1)
    box = load_crop_box(run.folder)
    assert box is not None
    depth = read_depth(client.files[0][1])
    rows, columns = np.nonzero(np.isfinite(depth))
    z = depth[rows, columns]
    local = np.stack(
        [(columns + 0.5 - 80) * z, (rows + 0.5 - 45) * z, 90 * viewer.shared.start.viewpoint.focal * z], 1
    )
    local /= 90 * viewer.shared.start.viewpoint.focal
    matrix = viewer.shared.start.viewpoint.camera_to_world
    world = local @ matrix[:3, :3].T + matrix[:3, 3]
    near = np.abs((world - box.centre) @ box.axes.T) <= box.half_size * 1.05 + 0.02
    assert len(z) > 100 and near.all(1).mean() > 0.9 and len(z) < 0.9 * depth.size
    assert start_state(run, box).crop is box
    client.send(type="crop", on=False)
    client.send(type="save_crop")
    assert np.array_equal(client.frame_at_rest(), whole) and load_crop_box(run.folder) is None


def read_depth(data: bytes) -> np.ndarray:
    """Return the depth [H, W] of a 16-bit PNG, +inf where it shows no surface."""
    with Image.open(io.BytesIO(data)) as image:
        values, text = np.asarray(image).astype(np.float64), image.text
    near, far = float(text["near"]), float(text["far"])
    return np.where(values > 0, near + (values - 1) / 65534 * (far - near), np.inf)


def test_the_depth_that_is_saved_is_that_of_the_render(client: Client, run: Run, viewer: Viewer):
    client.send(type="snapshot", kind="depth")
    client.until(lambda: len(client.files) == 1)
    header, data = client.files[0]
    assert header["name"] == "view_depth.png"
    depth = read_depth(data)
    state = viewer.shared.start
    camera, _ = camera_of(run, type(state)(state.viewpoint, state.region, width=160, height=90))
    expected = run.render(camera).depth[0].numpy()
    assert np.array_equal(np.isfinite(depth), np.isfinite(expected))
    known = np.isfinite(depth)
    assert (
        np.abs(depth[known] - expected[known]).max()
        <= (expected[known].max() - expected[known].min()) / 65534
    )
    client.send(type="pick", u=0.5, v=0.705)
    point = np.array(client.newest("picked")["point"])
    matrix = state.viewpoint.camera_to_world
    assert (point - matrix[:3, 3]) @ matrix[:3, 2] == pytest.approx(expected[63, 80], rel=1e-3)


def test_notes_are_kept_with_the_run_and_bounded(client: Client, run: Run, viewer: Viewer):
    client.send(type="note", position=[1, 2, 3], text="  <b>a crack</b>  ")
    client.send(type="scale", metres_per_unit=0.25)

    def kept() -> dict:
        return client.newest("notes")

    client.until(lambda: kept()["notes"] != [] and kept()["metres_per_unit"] == 0.25)
    assert kept()["notes"] == [{"position": [1, 2, 3], "text": "<b>a crack</b>"}]
    with Client(viewer.url) as other:
        assert other.newest("notes") == kept()
    store = files.Files(run.folder)
    assert store.notes.metres_per_unit == 0.25
    for number in range(files.MAX_NOTES - 1):
        store.add_note(files.Note((0.0, 0.0, 0.0), str(number)))
    with pytest.raises(UserError, match="up to 200"):
        store.add_note(files.Note((0.0, 0.0, 0.0), "one too many"))
    (run.folder / "notes.json").unlink()
    client.send(type="delete_note", index=0)
    client.send(type="scale", metres_per_unit=None)
    client.until(lambda: kept()["notes"] == [] and kept()["metres_per_unit"] is None)


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        "{",
        '{"format": "adop-notes-1", "notes": [3]}',
        '{"format": "adop-notes-1", "notes": [{"position": [1e999, 0, 0], "text": "x"}]}',
        json.dumps({"format": "adop-notes-1", "notes": [{"position": [0, 0, 0], "text": "x"}] * 201}),
    ],
)
def test_damaged_notes_are_neither_shown_nor_overwritten(tmp_path, content: str):
    (tmp_path / "notes.json").write_text(content)
    store = files.Files(tmp_path)
    assert store.notes == files.Notes()
    with pytest.raises(UserError, match="move it away"):
        store.set_scale(1.0)
    assert (tmp_path / "notes.json").read_text() == content
