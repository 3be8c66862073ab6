"""A run's photos as other views look them up: with its cameras, what hides places from them, and without its masks."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from adop.config import NetworkConfig, TrainConfig
from adop.reprojection.photo_table import PhotoTable
from adop.run.photos import photo_lookup
from adop.run.photos.photo_lookup import follow_cameras, ready_photos, sharpened
from adop.run.run import Run, load, new_run
from adop.scene.photo_cache import PhotoCache
from adop.training.steps.step import WITHOUT_PHOTOS, draw_batch, step_inputs

CONFIG = TrainConfig(crop=96, batch=3, device="cpu", test_every=3)


@pytest.fixture
def run(tiny_folder: Path) -> Run:
    run = new_run(tiny_folder, Path(), CONFIG, lambda _: None)
    run.pipeline.photos = ready_photos(run.pipeline, run.cache, run.split["train"])
    return run


def table_of(run: Run) -> PhotoTable:
    assert run.pipeline.photos is not None
    return run.pipeline.photos


def shown_in(run: Run, photo: int, own: bool) -> torch.Tensor:
    """Return [8, H, W] what photos show in the view of one; `own`: itself among them."""
    pipeline, camera = run.pipeline, run.photo_camera(photo)
    view = pipeline.view_inputs(camera, own=None if own else [photo])
    levels, background = pipeline._draw_over_environment(view)
    shown = pipeline._shown(view, levels, pipeline.fill_holes(levels, background))
    assert shown is not None
    return shown[0].detach()


def test_other_photos_show_the_light_of_a_photo(run: Run) -> None:
    # Two photos of one place: the light in the others is nearly the one that this photo has taken there.
    photo = run.split["train"][2]
    itself, others = shown_in(run, photo, own=True), shown_in(run, photo, own=False)
    both = (itself[3] > 0) & (others[3] > 0)
    assert float(both.float().mean()) > 0.6
    light = itself[:3, both]
    error = (others[4:7, both] - light).abs().median()
    assert float(error) < 0.6 * float((light - light.median()).abs().median())


def test_held_out_photos_and_a_crops_own_are_never_looked_up(run: Run) -> None:
    table = table_of(run)
    assert set(table.rows) == set(run.split["train"]) and not set(table.rows) & set(run.split["held_out"])
    without = 0
    for step in range(30):
        run.progress = dataclasses.replace(run.progress, step=step)
        batch = draw_batch(run, step)
        photos = step_inputs(run, batch).view.photos
        assert photos is not None and photos.rows.shape == (3, CONFIG.network.photos)
        own = torch.tensor([[table.rows[i]] for i in batch.photos.tolist()])
        assert not (photos.rows == own).any()
        without += int((photos.rows < 0).all(1).sum())
    assert 0.3 * WITHOUT_PHOTOS < without / 90 < 3 * WITHOUT_PHOTOS


def test_the_table_follows_the_cameras(run: Run) -> None:
    table, photo = table_of(run), run.split["train"][1]
    before, seen = table.cameras.world_to_camera.clone(), table.seen.clone()
    pose = run.pipeline.cameras.poses[photo].clone()
    pose[:3, 3] += 0.3 * run.pipeline.points.extent
    run.pipeline.cameras.set_pose(photo, pose)
    follow_cameras(run.pipeline, run.cache)
    row = table.rows[photo]
    assert table_of(run) is table  # written in place, for CUDA graphs
    torch.testing.assert_close(table.cameras.world_to_camera[row], pose.float())
    others = torch.arange(len(before)) != row
    assert torch.equal(table.cameras.world_to_camera[others], before[others])
    assert not torch.equal(table.seen[row], seen[row]) and torch.equal(table.seen[others], seen[others])
    run.pipeline.cameras.set_motion(photo, torch.full((6,), 1e-3))
    follow_cameras(run.pipeline, run.cache)
    assert table_of(run) is not table and table_of(run).cameras.shutter is not None


def test_what_is_left_out_of_a_photo_is_not_looked_up(run: Run) -> None:
    photo = run.split["train"][1]
    whole = shown_in(run, photo, own=True)
    height, width = run.cache.get(photo).shape[:2]
    for other in run.split["train"]:
        run.cache.leave_out(other, torch.ones(height, width, dtype=torch.bool))
    run.pipeline.photos = ready_photos(run.pipeline, run.cache, run.split["train"])
    assert whole[3].any() and not shown_in(run, photo, own=True).any()


def test_too_many_pixels_are_reduced_aloud(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    photo, said = run.split["train"][1], list[str]()
    whole, before = shown_in(run, photo, own=True), table_of(run).bytes
    monkeypatch.setattr(photo_lookup, "MOST_PIXELS", len(run.split["train"]) * 120 * 90)
    run.pipeline.photos = ready_photos(run.pipeline, run.cache, run.split["train"], said.append)
    assert table_of(run).bytes < 0.3 * before
    assert said == [
        "other views look up the photos at 1/2 of their size: they have too many pixels to be kept whole"
    ]
    reduced = shown_in(run, photo, own=True)
    both = (whole[3] > 0) & (reduced[3] > 0)
    assert float(both.float().mean()) > 0.6
    assert float((whole[:3, both] - reduced[:3, both]).abs().median()) < 0.25


def test_what_lies_between_pixels_is_as_sharp_as_the_photo(rng: np.random.Generator) -> None:
    # Waves of five pixels, looked up anywhere: bilinear interpolation alone takes an eighth of their contrast.
    x, y = torch.meshgrid(torch.arange(64.0), torch.arange(48.0), indexing="xy")
    wave = (0.5 + 0.4 * torch.sin(2 * torch.pi / 5 * (0.8 * x + 0.6 * y)))[None]
    places = torch.from_numpy(rng.uniform(-0.9, 0.9, (1, 1, 5000, 2))).float()

    def contrast(pixels: torch.Tensor) -> float:
        return float(F.grid_sample(pixels[None], places, align_corners=False).std() / wave.std())

    assert contrast(wave) < 0.9
    assert 1 < contrast(sharpened(wave)) < 1.2
    flat = torch.full((3, 8, 9), 77.0)
    assert torch.equal(sharpened(flat), flat)


@pytest.mark.parametrize("network", [NetworkConfig(photos=0), NetworkConfig(kind="unet", residual=False)])
def test_networks_without_photos_look_none_up(tiny_folder: Path, network: NetworkConfig) -> None:
    run = new_run(tiny_folder, Path(), dataclasses.replace(CONFIG, network=network), lambda _: None)
    run.pipeline.photos = ready_photos(run.pipeline, run.cache, run.split["train"])
    assert run.pipeline.photos is None
    with torch.no_grad():
        assert run.pipeline.render(run.photo_camera(1)).image.isfinite().all()


def test_a_loaded_run_decodes_photos_when_it_first_renders(
    trained_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded, get = set[int](), PhotoCache.get

    def count(cache: PhotoCache, photo: int) -> torch.Tensor:
        decoded.add(photo)
        return get(cache, photo)

    monkeypatch.setattr(PhotoCache, "get", count)
    run = load(trained_folder)
    assert not decoded
    with torch.no_grad():
        run.pipeline.render(run.photo_camera(1))
    assert decoded == set(run.split["train"])
    table = run.pipeline.photos
    assert table is not None and run.pipeline.photos is table
