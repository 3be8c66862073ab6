"""What photos show of the points: where the depth steps, and who is asked there."""

from pathlib import Path

import torch

from adop.config import TrainConfig
from adop.observe import REACH, depth_steps, observe
from adop.run import open_scene


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
    own = pipeline.features[:, :3].detach().exp()
    every, inner = (observe(pipeline, cache, 2, 2, own, silhouettes) for silhouettes in (True, False))
    assert set(inner.points.tolist()) < set(every.points.tolist())
    kept = torch.isin(every.points, inner.points)
    torch.testing.assert_close(every.error[kept], inner.error, rtol=0, atol=0)
    assert 0.05 < float(kept.float().mean()) < 0.95
