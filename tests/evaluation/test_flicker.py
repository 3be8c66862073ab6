"""Flicker of moving views whose truth is known."""

import json
import math
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.errors import UserError
from adop.evaluation.flicker import frame_difference, run_flicker
from adop.geometry.camera import Camera
from adop.render.camera_path import Frame, pinhole
from adop.render.views import View
from adop.run.run import load

WIDTH, HEIGHT, DISTANCE, FAR = 96, 64, 3.0, 1e4
CPU = torch.device("cpu")


def camera_at(x: float, forward: float = 0.0) -> Camera:
    """Return a camera that looks along +z, shifted to the right and forward."""
    pose = np.eye(4)
    pose[0, 3], pose[2, 3] = -x, -forward
    return pinhole(Frame(pose, 1.0), WIDTH, HEIGHT, CPU)


def plane_view(camera: Camera) -> View:
    """Return what a camera sees of a plane at z = DISTANCE with a smooth texture, computed per pixel."""
    uv = camera.pixel_centres()
    depth = DISTANCE + float(camera.world_to_camera[0, 2, 3])
    x, y, _ = camera.unproject(uv, torch.full(uv.shape[:2], depth))[0].T
    waves = [0.5 + 0.2 * torch.sin(a * x + b * y) for a, b in ((9.0, 4.0), (-7.0, 8.0), (3.0, -11.0))]
    image = torch.stack(waves).reshape(3, HEIGHT, WIDTH)
    return View(image, image, torch.full((HEIGHT, WIDTH), depth))


def difference_of_255(first: tuple[View, Camera], second: tuple[View, Camera]) -> tuple[float, float]:
    """Return the mean difference in 1/255, and the share of the pixels that were compared."""
    difference, same = frame_difference(first, second, FAR)
    return 255 * float(difference[same].mean()), float(same.float().mean())


@pytest.mark.parametrize("motion", [(0.0, 0.0), (0.13, 0.0), (0.05, 0.2)])
def test_a_plane_that_only_moves_does_not_flicker(motion: tuple[float, float]):
    first, second = camera_at(0.0), camera_at(*motion)
    found, share = difference_of_255((plane_view(first), first), (plane_view(second), second))
    assert found < 0.1 and share > 0.8
    unmoved = 255 * float((plane_view(first).image - plane_view(second).image).abs().mean())
    assert motion == (0.0, 0.0) or unmoved > 5


def test_noise_flickers_by_its_own_size():
    first, second = camera_at(0.0), camera_at(0.1)
    view = plane_view(second)
    noise = 0.02 * torch.randn(view.image.shape, generator=torch.Generator().manual_seed(0))
    noisy = View(view.radiance, view.image + noise, view.depth)
    found, _ = difference_of_255((plane_view(first), first), (noisy, second))
    assert found == pytest.approx(255 * 0.02 * math.sqrt(2 / math.pi), rel=0.02)


def test_what_the_first_frame_does_not_show_is_left_out():
    """A near bar hides a stripe of the plane in either frame: neither stripe is compared."""
    first, second = camera_at(0.0), camera_at(0.2)
    views = [plane_view(camera) for camera in (first, second)]
    for view, column in zip(views, (40, 20), strict=True):
        view.image[:, :, column : column + 12], view.depth[:, column : column + 12] = 1.0, 0.5
    difference, same = frame_difference((views[0], first), (views[1], second), FAR)
    # The spline rings a little beside the bar, which differs from the plane by half of the range.
    assert float(difference[same].max()) < 0.05 and float(difference[same].median()) < 1e-3
    assert float(difference.max()) > 0.4
    assert 0.4 < float(same.float().mean()) < 0.8


def test_the_environment_is_compared_too():
    first, second = camera_at(0.0), camera_at(0.3)
    views = [
        View(v.radiance, v.image, torch.full_like(v.depth, math.inf)) for v in map(plane_view, 2 * [first])
    ]
    found, share = difference_of_255((views[0], first), (views[1], second))
    assert found < 0.1 and share > 0.8


def test_a_run_is_measured_along_its_photos_and_along_a_file(trained_folder: Path, tmp_path: Path):
    run = load(trained_folder, say=lambda _: None)
    pose = np.linalg.inv(run.scene.photos[0].world_to_camera) @ np.diag([1.0, -1.0, -1.0, 1.0])
    still = {"camera_to_world": pose.flatten().tolist(), "fov": 50, "aspect": 1.5}
    file = tmp_path / "path.json"
    file.write_text(
        json.dumps({"camera_path": [still, still], "render_width": 90, "render_height": 60, "fps": 24})
    )
    found = run_flicker(run, file)
    # Nothing moves, so the same frame is rendered twice.
    assert found.difference_of_255 == pytest.approx(0, abs=1e-3)
    assert found.pairs == 1 and found.share == pytest.approx(found.pixels / (90 * 60))
    with pytest.raises(UserError, match=r"none\.json"):
        run_flicker(run, tmp_path / "none.json")
