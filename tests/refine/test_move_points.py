"""Points moved to where the photos show their colours, on the demo scene (simulated, so it is known)."""

from pathlib import Path
from statistics import median

import pytest
import torch

from adop.bench.disturb import disturb_points, geometry, measure
from adop.config import MovePointsConfig, TrainConfig
from adop.model.pipeline import Pipeline
from adop.refine import move_points as module
from adop.refine.move_points import STEPS, ball, costs_of_shifts, move_points
from adop.refine.observations import show
from adop.refine.point_groups import extent, group_by_voxel, group_means, mean_colours, split_groups
from adop.run.run import open_scene
from adop.scene.photo_cache import PhotoCache

PHOTOS = [1, 5, 9]


@pytest.fixture
def fewer(monkeypatch: pytest.MonkeyPatch) -> None:
    """Searches look at every fifth point of the small scene: enough, and quicker."""
    monkeypatch.setattr(module, "SEARCHED", 16_000)


def opened(folder: Path) -> tuple[Pipeline, PhotoCache]:
    pipeline, _, cache = open_scene(folder, TrainConfig(), lambda _: None)
    return pipeline, cache


@pytest.mark.usefixtures("fewer")
def test_patches_of_points_come_back_in_part(small_folder: Path):
    pipeline, cache = opened(small_folder)
    truth = geometry(pipeline)
    photos = list(range(0, len(pipeline.cameras.poses), 2))
    disturb_points(pipeline, photos, 4.0, 0.05, torch.Generator().manual_seed(0))
    before = measure(pipeline, truth, photos)
    move_points(pipeline, cache, photos, MovePointsConfig(sizes=(0.05, 0.0125, 0.0025)))
    after = measure(pipeline, truth, photos)
    assert median(after.points_px) < 0.5 * median(before.points_px)


@pytest.mark.usefixtures("fewer")
def test_most_points_stay_where_nothing_is_wrong(small_folder: Path):
    pipeline, cache = opened(small_folder)
    start = pipeline.points.xyz.clone()
    assert (
        move_points(pipeline, cache, list(range(0, len(pipeline.cameras.poses), 2)), MovePointsConfig()) == 0
    )
    away = (pipeline.points.xyz - start).norm(dim=1)
    assert float((away == 0).float().mean()) > 0.6


def test_points_move_singly_without_any_cubes(small_folder: Path):
    """As `adop bench refine --disturb noise` asks for."""
    pipeline, cache = opened(small_folder)
    start = pipeline.points.xyz.clone()
    config = MovePointsConfig(grouped=False, iterations=1, individual=True)
    assert move_points(pipeline, cache, list(range(len(pipeline.cameras.poses))), config) >= 0
    assert not torch.equal(pipeline.points.xyz, start)


def test_a_shift_s_cost_is_what_photos_say_of_points_moved_by_it(small_folder: Path):
    """Against the points really moved; only what hides what differs, and the lens is taken as straight nearby."""
    pipeline, cache = opened(small_folder)
    groups = group_by_voxel(pipeline.points.xyz, 0.1 * extent(pipeline.points.xyz))
    own = mean_colours(pipeline, 1e-3)
    shifts = 2e-3 * extent(pipeline.points.xyz) * torch.tensor([[[0.0, 0, 0], [1, 0, 0], [0, -1, 0.5]]])
    cost, count = costs_of_shifts(pipeline, cache, PHOTOS, 2, groups, own, shifts, 10**9)
    start = pipeline.points.xyz.clone()
    for number, shift in enumerate(shifts[0]):
        pipeline.points.set_xyz(start + shift)
        there, seen = torch.zeros(len(groups)), torch.zeros(len(groups))
        for photo in PHOTOS:
            found = show(pipeline, cache, photo, 2, own)
            group = groups.of_point[found.points]
            there.index_add_(0, group, found.error(found.uv).square().log1p().sum(1) / 2)
            seen += torch.bincount(group, minlength=len(groups))
        many = torch.minimum(seen, count) > 200
        assert int(many.sum()) > 10
        ratio = (cost[many, number] / count[many]) / (there[many] / seen[many])
        assert float((ratio - 1).abs().median()) < (1e-5 if number == 0 else 0.06)


def test_fewer_points_stand_for_all(small_folder: Path):
    pipeline, cache = opened(small_folder)
    groups = group_by_voxel(pipeline.points.xyz, 0.2 * extent(pipeline.points.xyz))
    own, none = mean_colours(pipeline, 1e-3), torch.zeros(1, 1, 3)
    most = len(pipeline.points.xyz) // 3
    (every, count), (some, fewer) = (
        costs_of_shifts(pipeline, cache, PHOTOS, 2, groups, own, none, n) for n in (10**9, most)
    )
    assert 0.97 < float(fewer.sum() / count.sum()) < 1.03
    assert 0.95 < float(some.sum() / every.sum()) < 1.05


def test_a_denser_cloud_is_no_more_evidence(small_folder: Path, monkeypatch: pytest.MonkeyPatch):
    """Its points show the same pixels again."""
    pipeline, cache = opened(small_folder)
    groups, none = (
        group_by_voxel(pipeline.points.xyz, 0.2 * extent(pipeline.points.xyz)),
        torch.zeros(1, 1, 3),
    )
    own = mean_colours(pipeline, 1e-3)
    cost, count = costs_of_shifts(pipeline, cache, PHOTOS, 2, groups, own, none, 10**9)
    monkeypatch.setattr(module, "COUNTED", len(pipeline.points.xyz) // 2)
    half, fewer = costs_of_shifts(pipeline, cache, PHOTOS, 2, groups, own, none, 10**9)
    torch.testing.assert_close(half, cost / 2, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(fewer, count / 2, rtol=1e-3, atol=1e-3)


def test_the_ball_of_places_begins_with_staying():
    places = ball(2.0)
    assert torch.equal(places[0], torch.zeros(3))
    assert float(places.norm(dim=1).max()) <= 2.0 + 1e-5
    assert len(torch.unique(places, dim=0)) == len(places) > 4 * STEPS**3
    torch.testing.assert_close(places.mean(0), torch.zeros(3), atol=1e-5, rtol=0)


def test_parts_of_cubes_are_what_moved_alike():
    xyz = torch.tensor([[0.1, 0.1, 0.1], [0.2, 0.1, 0.1], [0.3, 0.1, 0.1], [1.5, 0.1, 0.1]])
    groups, group = group_by_voxel(xyz, 1.0), torch.tensor([5, 2, 5, 5])
    parts = split_groups(groups, group)
    first, second, third, other = parts.of_point.tolist()
    assert first == third
    assert len({first, second, other}) == len(parts) == 3
    assert (parts.beside == -1).all()


def test_cubes_know_their_neighbours():
    xyz = torch.tensor([[0.1, 0.1, 0.1], [0.2, 0.1, 0.1], [1.5, 0.1, 0.1], [0.1, 3.5, 0.1]])
    groups = group_by_voxel(xyz, 1.0)
    assert groups.of_point[0] == groups.of_point[1] != groups.of_point[2]
    first, second, far = (int(groups.of_point[i]) for i in (0, 2, 3))
    assert second in groups.beside[first] and first in groups.beside[second]
    assert (groups.beside[far] == -1).all()
    torch.testing.assert_close(group_means(xyz, groups)[first], torch.tensor([0.15, 0.1, 0.1]))
