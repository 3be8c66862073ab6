"""What photos show of the points: where the depth steps, and who is asked there."""

from pathlib import Path

import torch

from adop.config import TrainConfig
from adop.refine.observations import REACH, depth_steps, observe, show
from adop.refine.point_groups import extent, group_by_voxel
from adop.run.run import open_scene


def test_depth_steps_are_found_as_far_as_the_blur_reaches():
    depth = torch.full((1, 1, 9, 20), 2.0)
    depth[..., 10:] = 2.2
    steps = depth_steps(depth)[0, 0]
    assert steps[:, 10 - REACH : 10 + REACH].all()
    assert not steps[:, : 10 - REACH].any() and not steps[:, 10 + REACH :].any()


def test_a_slope_is_no_step_and_the_end_of_the_world_is_one():
    slope = 2.0 + 0.01 * torch.arange(20.0).expand(1, 1, 9, 20)
    assert not depth_steps(slope).any()
    slope = slope.clone()
    slope[..., 15:] = torch.inf
    assert depth_steps(slope)[..., 14].all() and not depth_steps(slope)[..., :12].any()


def test_points_at_silhouettes_are_left_out_where_asked(small_folder: Path):
    pipeline, _, cache = open_scene(small_folder, TrainConfig(), lambda _: None)
    own = pipeline.points.features[:, :3].detach().exp()
    every, inner = (observe(pipeline, cache, 2, 2, own, silhouettes) for silhouettes in (True, False))
    assert set(inner.points.tolist()) < set(every.points.tolist())
    kept = torch.isin(every.points, inner.points)
    torch.testing.assert_close(every.error[kept], inner.error, rtol=0, atol=0)
    assert 0.05 < float(kept.float().mean()) < 0.95


def test_a_patch_astray_finds_its_own_place_as_it_was(small_folder: Path):
    """Where it should be nothing is drawn while it is away; the photo shows it all the same."""
    pipeline, _, cache = open_scene(small_folder, TrainConfig(), lambda _: None)
    own, size = pipeline.points.features[:, :3].detach().exp(), extent(pipeline.points.xyz)
    before = show(pipeline, cache, 2, 1, own)
    group = group_by_voxel(pipeline.points.xyz, 0.1 * size).of_point
    near = before.points[before.depth < before.depth.quantile(0.3)]
    patch = (group == group[near].mode().values)[:, None]
    shift = 0.008 * size * torch.tensor([0.5, -0.6, 0.6])
    pipeline.points.move(torch.where(patch, shift, 0.0))
    after = show(pipeline, cache, 2, 1, own)
    assert torch.equal(after.photo, before.photo)
    both, place = torch.isin(after.points, before.points), after.moved(-shift[None])
    both &= patch[after.points, 0]
    there = torch.searchsorted(before.points, after.points[both])
    assert int(both.sum()) > 300
    assert float((after.uv[both] - before.uv[there]).norm(dim=1).median()) > 3
    assert float((place[both] - before.uv[there]).norm(dim=1).max()) < 0.1
    shown, kept = after.error(place)[both], before.error(before.uv)[there]
    assert (
        float((shown - kept).abs().median())
        < 0.1
        < float((after.error(after.uv)[both] - kept).abs().median())
    )
