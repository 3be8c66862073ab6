"""Cameras brought back to where they truly are, on the demo scene; it is simulated, so the truth is known."""

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
from adop.geometry.camera import Camera
from adop.model.pipeline import Pipeline, build_pipeline
from adop.refine.align import TRIED_PHOTOS, LensAlignment, align_cameras
from adop.refine.alignment_equations import RefinedParameters
from adop.refine.photo_set import PhotoSet, Rendering, render_points
from adop.run.run import open_scene
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene

COARSE = AlignConfig(longest_side=240, scales=2)
POSES_ONLY = RefinedParameters(intrinsics=False, distortion=False)
MOTION_ONLY = RefinedParameters(poses=False, intrinsics=False, distortion=False, rolling_shutter=True)
PHOTOS = [1, 5, 9]


def opened(folder: Path, photos: list[int] = PHOTOS) -> PhotoSet:
    """Open a scene for some of its photos."""
    pipeline, _, cache = open_scene(folder, TrainConfig(), lambda _: None)
    return PhotoSet(pipeline, cache, photos)


def median(values: list[float]) -> float:
    """Return the upper median of a list."""
    return sorted(values)[len(values) // 2]


def test_poses_come_back_and_other_photos_stay(small_folder: Path):
    photos = opened(small_folder)
    pipeline = photos.pipeline
    truth = geometry(pipeline)
    disturb_poses(pipeline, PHOTOS, 0.5, 0.01, torch.Generator().manual_seed(0))
    before = measure(pipeline, truth, PHOTOS)
    moves = align_cameras(photos, COARSE, POSES_ONLY)
    after = measure(pipeline, truth, PHOTOS)
    assert all(move.kept for move in moves)
    assert median(after.reprojection_px) < 0.15 * median(before.reprojection_px)
    assert all(a < b for a, b in zip(after.reprojection_px, before.reprojection_px, strict=True))
    others = [i for i in range(len(pipeline.cameras.poses)) if i not in PHOTOS]
    assert torch.equal(pipeline.cameras.poses[others], truth.poses[others])


@pytest.mark.parametrize("poses", [False, True])
def test_a_wrong_rolling_shutter_is_removed(small_folder: Path, poses: bool):
    """Photos taken at once, whose cameras the pipeline believes to move; motion refined alone and with poses."""
    photos = opened(small_folder)
    pipeline = photos.pipeline
    truth = geometry(pipeline)
    disturb_rolling_shutter(pipeline, PHOTOS, 0.4, 0.006, torch.Generator().manual_seed(0))
    if poses:
        disturb_poses(pipeline, PHOTOS, 0.3, 0.005, torch.Generator().manual_seed(1))
    before = measure(pipeline, truth, PHOTOS)
    moves = align_cameras(photos, COARSE, dataclasses.replace(MOTION_ONLY, poses=poses))
    after = measure(pipeline, truth, PHOTOS)
    assert all(move.kept for move in moves)
    assert median(after.rolling_shutter_px) < 0.5 * median(before.rolling_shutter_px)
    assert median(after.reprojection_px) < 0.5 * median(before.reprojection_px)
    assert torch.equal(pipeline.cameras.poses, truth.poses) == (not poses)
    others = [i for i in range(len(pipeline.cameras.poses)) if i not in PHOTOS]
    assert not pipeline.cameras.motion[others].any()


def test_a_true_rolling_shutter_is_found(small_folder: Path):
    """Photos read out row by row while the camera moved, which the pipeline does not know."""
    photos = opened(small_folder)
    pipeline = photos.pipeline
    disturb_rolling_shutter(pipeline, PHOTOS, 0.8, 0.012, torch.Generator().manual_seed(2))
    truth = geometry(pipeline)
    for photo in PHOTOS:
        index = torch.tensor([photo])
        image = render_points(pipeline, pipeline.camera(index), index).image
        photos.cache._kept[photo, 1] = ((255 * image[0].permute(1, 2, 0) + 0.5).byte(), None)
    pipeline.cameras.set_motion(PHOTOS, torch.zeros(len(PHOTOS), 6))
    before = measure(pipeline, truth, PHOTOS)
    assert all(move.kept for move in align_cameras(photos, COARSE, MOTION_ONLY))
    after = measure(pipeline, truth, PHOTOS)
    assert median(after.rolling_shutter_px) < 0.2 * median(before.rolling_shutter_px)


def test_motion_stays_unless_it_is_refined_and_improves_the_photo(small_folder: Path):
    photos = opened(small_folder, PHOTOS[:1])
    pipeline, cache = photos.pipeline, photos.cache
    disturb_rolling_shutter(pipeline, PHOTOS[:1], 0.4, 0.006, torch.Generator().manual_seed(0))
    motion = pipeline.cameras.motion.clone()
    align_cameras(photos, COARSE, POSES_ONLY)
    assert torch.equal(pipeline.cameras.motion, motion)
    cache._kept[PHOTOS[0], 1] = (torch.full_like(cache.get(PHOTOS[0]), 128), None)
    (move,) = align_cameras(photos, COARSE, MOTION_ONLY)
    assert not move.kept and torch.equal(pipeline.cameras.motion, motion)


def test_a_wrong_lens_comes_back(small_folder: Path):
    photos = opened(small_folder)
    pipeline = photos.pipeline
    truth = geometry(pipeline)
    disturb_lens(pipeline, 0.01, 0.02)
    every_second = list(range(1, len(pipeline.cameras.poses), 2))
    photos = dataclasses.replace(photos, indices=every_second)
    align_cameras(photos, COARSE, RefinedParameters(poses=False))
    after = measure(pipeline, truth, every_second[:1])
    assert after.focal_rel < 0.4 * 0.01
    assert after.k1 < 0.5 * 0.02


def test_right_cameras_are_found_right_from_a_few_photos(small_folder: Path):
    photos = opened(small_folder, list(range(12)))
    rendered: set[int] = set()

    def render(pipeline: Pipeline, camera: Camera, photo: torch.Tensor) -> Rendering:
        rendered.add(int(photo))
        return render_points(pipeline, camera, photo)

    start = photos.pipeline.cameras.poses.clone(), photos.pipeline.cameras.lens_values(0)
    moves = align_cameras(photos, AlignConfig(scales=2), RefinedParameters(), render)
    assert [move.photo for move in moves] == photos.indices
    assert not any(move.kept for move in moves)
    assert len(rendered) <= TRIED_PHOTOS < len(photos.indices)
    assert torch.equal(photos.pipeline.cameras.poses, start[0])
    assert torch.equal(photos.pipeline.cameras.lens_values(0), start[1])


def test_wrong_cameras_are_found_wrong_from_a_few_photos(small_folder: Path):
    photos = opened(small_folder, list(range(12)))
    pipeline = photos.pipeline
    truth = geometry(pipeline)
    disturb_poses(pipeline, photos.indices, 0.5, 0.01, torch.Generator().manual_seed(0))
    disturb_lens(pipeline, 0.01, 0.02)
    before = measure(pipeline, truth, photos.indices)
    moves = align_cameras(photos, COARSE, RefinedParameters())
    after = measure(pipeline, truth, photos.indices)
    assert all(move.kept for move in moves)
    assert median(after.reprojection_px) < 0.3 * median(before.reprojection_px)
    assert after.focal_rel < 0.3 * before.focal_rel


def test_directions_follow_the_lens(small_folder: Path):
    """They are kept for each scale, and computed anew when the lens changes."""
    alignment = LensAlignment(opened(small_folder), 0, COARSE, RefinedParameters(), render_points)
    start = alignment.lens_values()
    before = alignment.directions(2)
    assert alignment.directions(2) is before and alignment.directions(4).shape != before.shape
    changed = start.clone()
    changed[0] *= 1.1
    with torch.no_grad():
        alignment.set_lens(changed)
        assert float((alignment.directions(2)[..., 0] * 1.1 - before[..., 0]).abs().max()) < 1e-2
        assert not torch.allclose(alignment.directions(2), before, atol=1e-2)
        alignment.set_lens(start)
    assert torch.equal(alignment.directions(2), before)


def test_a_photo_of_something_else_stays_where_it_was(small_folder: Path):
    photos = opened(small_folder, PHOTOS[:1])
    height, width = photos.cache.get(PHOTOS[0]).shape[:2]
    noise = torch.randint(
        0, 255, (height, width, 3), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )
    photos.cache._kept[PHOTOS[0], 1] = (noise, None)
    before = photos.pipeline.cameras.poses.clone()
    (move,) = align_cameras(photos, COARSE, POSES_ONLY)
    assert not move.kept
    assert torch.equal(photos.pipeline.cameras.poses, before)


def test_scene_units_and_photo_size_do_not_matter(small_folder: Path, tmp_path: Path):
    """A scene a thousand times as large, in photos of twice the width: image shifts remain the same."""
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
        moves = align_cameras(PhotoSet(pipeline, PhotoCache(same), PHOTOS[:2]), COARSE, POSES_ONLY)
        shifts.append([move.pixels / pixel for move in moves])
    # Rounding puts some points into other pixels, which changes the shift by a few hundredths of a pixel.
    assert shifts[0] == pytest.approx(shifts[1], abs=0.05)
