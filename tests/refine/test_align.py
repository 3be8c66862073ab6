"""Cameras and points brought back to where they truly are, on the demo scene (simulated, so it is known)."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adop.bench.disturb import (
    disturb_lens,
    disturb_poses,
    disturb_rolling_shutter,
    geometry,
    measure,
)
from adop.config import AlignConfig, TrainConfig
from adop.model.pipeline import Pipeline, build_pipeline
from adop.refine.align import Alignment, RefinedParameters, align_cameras, render_points
from adop.run.run import open_scene
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene

COARSE = AlignConfig(longest_side=240, scales=2)
POSES_ONLY = RefinedParameters(intrinsics=False, distortion=False)
PHOTOS = [1, 5, 9]


def opened(folder: Path) -> tuple[Pipeline, PhotoCache]:
    pipeline, _, cache = open_scene(folder, TrainConfig(), lambda _: None)
    return pipeline, cache


def median(values: list[float]) -> float:
    return sorted(values)[len(values) // 2]


def test_poses_come_back_and_other_photos_stay(small_folder: Path):
    pipeline, cache = opened(small_folder)
    truth = geometry(pipeline)
    disturb_poses(pipeline, PHOTOS, 0.5, 0.01, torch.Generator().manual_seed(0))
    before = measure(pipeline, truth, PHOTOS)
    moved = align_cameras(pipeline, cache, PHOTOS, COARSE, POSES_ONLY)
    after = measure(pipeline, truth, PHOTOS)
    assert all(m.kept for m in moved)
    assert median(after.reprojection_px) < 0.15 * median(before.reprojection_px)
    assert all(a < b for a, b in zip(after.reprojection_px, before.reprojection_px, strict=True))
    others = [i for i in range(len(pipeline.cameras.poses)) if i not in PHOTOS]
    assert torch.equal(pipeline.cameras.poses[others], truth.poses[others])


@pytest.mark.parametrize("poses", [False, True])
def test_a_rolling_shutter_is_found(small_folder: Path, poses: bool):
    """Photos taken at once, that the pipeline believes to be read out by cameras that move; alone and with poses."""
    pipeline, cache = opened(small_folder)
    truth = geometry(pipeline)
    disturb_rolling_shutter(pipeline, PHOTOS, 0.4, 0.006, torch.Generator().manual_seed(0))
    if poses:
        disturb_poses(pipeline, PHOTOS, 0.3, 0.005, torch.Generator().manual_seed(1))
    before = measure(pipeline, truth, PHOTOS)
    refined = RefinedParameters(poses=poses, intrinsics=False, distortion=False, rolling_shutter=True)
    moved = align_cameras(pipeline, cache, PHOTOS, COARSE, refined)
    after = measure(pipeline, truth, PHOTOS)
    assert all(m.kept for m in moved)
    assert median(after.rolling_shutter_px) < 0.5 * median(before.rolling_shutter_px)
    assert median(after.reprojection_px) < 0.5 * median(before.reprojection_px)
    assert torch.equal(pipeline.cameras.poses, truth.poses) == (not poses)
    others = [i for i in range(len(pipeline.cameras.poses)) if i not in PHOTOS]
    assert not pipeline.cameras.motion[others].any()


def test_a_photo_that_was_read_out_row_by_row_shows_how_its_camera_moved(small_folder: Path):
    pipeline, cache = opened(small_folder)
    disturb_rolling_shutter(pipeline, PHOTOS, 0.8, 0.012, torch.Generator().manual_seed(2))
    truth = geometry(pipeline)
    for photo in PHOTOS:
        index = torch.tensor([photo])
        seen = render_points(pipeline, pipeline.camera(index), index).image
        cache._kept[photo, 1] = ((255 * seen[0].permute(1, 2, 0) + 0.5).byte(), None)
    pipeline.cameras.motion.zero_()
    before = measure(pipeline, truth, PHOTOS)
    refined = RefinedParameters(poses=False, intrinsics=False, distortion=False, rolling_shutter=True)
    assert all(m.kept for m in align_cameras(pipeline, cache, PHOTOS, COARSE, refined))
    after = measure(pipeline, truth, PHOTOS)
    assert median(after.rolling_shutter_px) < 0.2 * median(before.rolling_shutter_px)


def test_without_its_group_a_motion_stays_and_a_photo_of_something_else_keeps_it(small_folder: Path):
    pipeline, cache = opened(small_folder)
    disturb_rolling_shutter(pipeline, PHOTOS[:1], 0.4, 0.006, torch.Generator().manual_seed(0))
    motion = pipeline.cameras.motion.clone()
    align_cameras(pipeline, cache, PHOTOS[:1], COARSE, POSES_ONLY)
    assert torch.equal(pipeline.cameras.motion, motion)
    cache._kept[PHOTOS[0], 1] = (torch.full_like(cache.get(PHOTOS[0]), 128), None)
    refined = RefinedParameters(poses=False, intrinsics=False, distortion=False, rolling_shutter=True)
    (moved,) = align_cameras(pipeline, cache, PHOTOS[:1], COARSE, refined)
    assert not moved.kept and torch.equal(pipeline.cameras.motion, motion)


def test_a_wrong_lens_comes_back(small_folder: Path):
    pipeline, cache = opened(small_folder)
    truth = geometry(pipeline)
    disturb_lens(pipeline, 0.01, 0.02)
    photos = list(range(1, len(pipeline.cameras.poses), 2))
    align_cameras(pipeline, cache, photos, COARSE, RefinedParameters(poses=False))
    after = measure(pipeline, truth, photos[:1])
    assert after.focal_rel < 0.4 * 0.01
    assert after.k1 < 0.5 * 0.02


def test_a_lens_is_asked_again_when_it_changes(small_folder: Path):
    pipeline, cache = opened(small_folder)
    parts = pipeline, cache, COARSE, RefinedParameters(), render_points, 0, [0, 1]
    one = Alignment(*parts, torch.empty(0))
    start = one.lens_values()
    before = one.directions(2)
    assert one.directions(2) is before and one.directions(4).shape != before.shape
    changed = start.clone()
    changed[0] *= 1.1
    with torch.no_grad():
        one.set_lens(changed)
        assert float((one.directions(2)[..., 0] * 1.1 - before[..., 0]).abs().max()) < 1e-2
        assert not torch.allclose(one.directions(2), before, atol=1e-2)
        one.set_lens(start)
    assert torch.equal(one.directions(2), before)


def test_a_photo_of_something_else_stays_where_it_was(small_folder: Path):
    pipeline, cache = opened(small_folder)
    height, width = cache.get(PHOTOS[0]).shape[:2]
    noise = torch.randint(
        0, 255, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    cache._kept[PHOTOS[0], 1] = (noise, None)
    before = pipeline.cameras.poses.clone()
    (moved,) = align_cameras(pipeline, cache, PHOTOS[:1], COARSE, POSES_ONLY)
    assert not moved.kept
    assert torch.equal(pipeline.cameras.poses, before)


def test_the_unit_of_the_scene_and_the_size_of_photos_change_nothing(small_folder: Path, tmp_path: Path):
    """A thousand times the world, or twice the photo's pixels: the same picture shifts remain."""
    scene = load_scene(small_folder, report=lambda _: None)
    larger = tmp_path / "larger"
    larger.mkdir()
    photos = []
    for photo in scene.photos:
        file = larger / (Path(photo.name).stem + ".png")
        pixels = np.asarray(Image.open(photo.file)).repeat(2, axis=0).repeat(2, axis=1)
        Image.fromarray(pixels).save(file, compress_level=1)
        pose = photo.world_to_camera.copy()
        pose[:3, 3] *= 1000
        photos.append(dataclasses.replace(photo, name=file.name, file=file, world_to_camera=pose))
    lens = dataclasses.replace(
        scene.lenses[0],
        width=2 * scene.lenses[0].width,
        height=2 * scene.lenses[0].height,
        intrinsics=2 * scene.lenses[0].intrinsics,
    )
    points = dataclasses.replace(
        scene.points,
        xyz=1000 * scene.points.xyz,
        radius=1000 * scene.points.radius,
        lod_radius=1000 * scene.points.lod_radius,
    )
    big = dataclasses.replace(scene, photos=tuple(photos), lenses=(lens,), points=points)
    shifts = []
    for same, pixel in ((scene, 1.0), (big, 2.0)):
        count = len(same.photos)
        pipeline = build_pipeline(
            same, TrainConfig(), torch.zeros(count), torch.ones(count, dtype=torch.bool)
        )
        disturb_poses(pipeline, PHOTOS[:2], 0.3, 0.005, torch.Generator().manual_seed(3))
        moved = align_cameras(pipeline, PhotoCache(same), PHOTOS[:2], COARSE, POSES_ONLY)
        shifts.append([m.pixels / pixel for m in moved])
    # Points fall into other pixels by rounding: a few hundredths of a pixel.
    assert shifts[0] == pytest.approx(shifts[1], abs=0.05)
