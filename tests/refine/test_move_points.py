"""Points moved to where the photos show their colours, on the demo scene; it is simulated, so the truth is known."""

from dataclasses import replace
from pathlib import Path
from statistics import median

import pytest
import torch

from adop.bench.disturb import disturb_points, geometry, measure
from adop.config import MovePointsConfig, TrainConfig
from adop.refine.move_points import (
    GRID_STEPS,
    PointSampling,
    candidate_shifts,
    move_points,
    shift_costs,
)
from adop.refine.observations import visible_points
from adop.refine.photo_set import PhotoSet
from adop.refine.point_groups import bounding_side, group_by_voxel, mean_radiance
from adop.run.run import open_scene

PHOTOS = [1, 5, 9]
QUICK = PointSampling(16_000)  # every fifth point of the small scene
ALL_POINTS = PointSampling(10**9)
NO_SHIFT = torch.zeros(1, 1, 3)


def opened(folder: Path) -> PhotoSet:
    """Open a scene, for a few of its photos."""
    pipeline, _, cache = open_scene(folder, TrainConfig(), lambda _: None)
    return PhotoSet(pipeline, cache, PHOTOS)


def every_second(photos: PhotoSet) -> PhotoSet:
    """Return every second photo of the scene."""
    return replace(photos, indices=list(range(0, len(photos.pipeline.cameras.poses), 2)))


@pytest.mark.long
def test_misplaced_patches_come_back_in_part(small_folder: Path):
    photos = every_second(opened(small_folder))
    pipeline = photos.pipeline
    truth = geometry(pipeline)
    disturb_points(pipeline, photos.indices, 4.0, 0.05, torch.Generator().manual_seed(0))
    before = measure(pipeline, truth, photos.indices)
    move_points(photos, MovePointsConfig(sizes=(0.05, 0.0125, 0.0025)), grid_sampling=QUICK)
    after = measure(pipeline, truth, photos.indices)
    assert median(after.points_px) < 0.5 * median(before.points_px)


@pytest.mark.long
def test_most_points_stay_where_nothing_is_wrong(small_folder: Path):
    photos = every_second(opened(small_folder))
    start = photos.pipeline.points.xyz.clone()
    assert move_points(photos, MovePointsConfig(), grid_sampling=QUICK) == 0
    distance = (photos.pipeline.points.xyz - start).norm(dim=1)
    assert float((distance == 0).float().mean()) > 0.6


def test_single_points_move_without_groups(tiny_folder: Path):
    """As `adop bench refine --disturb noise` asks for."""
    photos = opened(tiny_folder)
    photos = replace(photos, indices=list(range(len(photos.pipeline.cameras.poses))))
    start = photos.pipeline.points.xyz.clone()
    median = move_points(photos, MovePointsConfig(grouped=False, iterations=1, individual=True))
    shift = (photos.pipeline.points.xyz - start).norm(dim=1)
    assert shift.any() and median == float(shift.median())


def test_the_cost_of_a_shift_is_that_of_points_really_moved(small_folder: Path):
    """Up to two approximations: occlusion is that before the move, and the lens is linear nearby."""
    photos = opened(small_folder)
    points = photos.pipeline.points
    size = bounding_side(points.xyz)
    groups, radiance = group_by_voxel(points.xyz, 0.1 * size), mean_radiance(photos.pipeline, 1e-3)
    shifts = 2e-3 * size * torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, -1, 0.5]]])
    cost, count = shift_costs(photos, 2, groups, radiance, shifts, ALL_POINTS)
    start = points.xyz.clone()
    for number, shift in enumerate(shifts[0]):
        points.set_xyz(start + shift)
        moved_cost, moved_count = torch.zeros(len(groups)), torch.zeros(len(groups))
        for photo in PHOTOS:
            visible = visible_points(photos, photo, 2, radiance)
            group = groups.of_point[visible.points]
            moved_cost.index_add_(0, group, visible.residuals(visible.uv).square().log1p().sum(1) / 2)
            moved_count += torch.bincount(group, minlength=len(groups))
        many = torch.minimum(moved_count, count) > 200
        assert int(many.sum()) > 10
        ratio = (cost[many, number] / count[many]) / (moved_cost[many] / moved_count[many])
        assert float((ratio - 1).abs().median()) < (1e-5 if number == 0 else 0.06)


def test_sampled_points_stand_for_all(small_folder: Path):
    photos = opened(small_folder)
    xyz = photos.pipeline.points.xyz
    groups, radiance = group_by_voxel(xyz, 0.2 * bounding_side(xyz)), mean_radiance(photos.pipeline, 1e-3)
    third = PointSampling(len(xyz) // 3)
    (cost, count), (sampled_cost, sampled_count) = (
        shift_costs(photos, 2, groups, radiance, NO_SHIFT, sampling) for sampling in (ALL_POINTS, third)
    )
    assert 0.97 < float(sampled_count.sum() / count.sum()) < 1.03
    assert 0.95 < float(sampled_cost.sum() / cost.sum()) < 1.05


def test_a_denser_cloud_counts_no_more_observations(small_folder: Path):
    """Its points show the same pixels again."""
    photos = opened(small_folder)
    xyz = photos.pipeline.points.xyz
    groups, radiance = group_by_voxel(xyz, 0.2 * bounding_side(xyz)), mean_radiance(photos.pipeline, 1e-3)
    cost, count = shift_costs(photos, 2, groups, radiance, NO_SHIFT, ALL_POINTS)
    half = replace(ALL_POINTS, max_observations=len(xyz) // 2)
    half_cost, half_count = shift_costs(photos, 2, groups, radiance, NO_SHIFT, half)
    torch.testing.assert_close(half_cost, cost / 2, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(half_count, count / 2, rtol=1e-3, atol=1e-3)


def test_candidate_shifts_fill_a_ball_and_begin_with_none():
    shifts = candidate_shifts(2.0)
    assert torch.equal(shifts[0], torch.zeros(3))
    assert float(shifts.norm(dim=1).max()) <= 2.0 + 1e-5
    assert len(torch.unique(shifts, dim=0)) == len(shifts) > 4 * GRID_STEPS**3
    torch.testing.assert_close(shifts.mean(0), torch.zeros(3), atol=1e-5, rtol=0)
