"""What a photo shows of the points: depth discontinuities, and residuals of points that are in place or not."""

from pathlib import Path

import torch

from adop.config import TrainConfig
from adop.refine.observations import (
    STEP_RADIUS_PX,
    depth_discontinuities,
    point_residuals,
    visible_points,
)
from adop.refine.photo_set import PhotoSet
from adop.refine.point_groups import bounding_side, group_by_voxel
from adop.run.run import open_scene

PHOTO = 2


def opened(folder: Path) -> tuple[PhotoSet, torch.Tensor]:
    """Open a scene for one photo; return it with the radiance of the scene's points."""
    pipeline, _, cache = open_scene(folder, TrainConfig(), lambda _: None)
    return PhotoSet(pipeline, cache, [PHOTO]), pipeline.points.features[:, :3].detach().exp()


def test_discontinuities_are_marked_as_far_as_the_blur_reaches():
    depth = torch.full((1, 1, 9, 20), 2.0)
    depth[..., 10:] = 2.2
    marked = depth_discontinuities(depth)[0, 0]
    assert marked[:, 10 - STEP_RADIUS_PX : 10 + STEP_RADIUS_PX].all()
    assert not marked[:, : 10 - STEP_RADIUS_PX].any() and not marked[:, 10 + STEP_RADIUS_PX :].any()


def test_a_slope_is_no_discontinuity_and_the_border_of_the_points_is_one():
    slope = 2.0 + 0.01 * torch.arange(20.0).expand(1, 1, 9, 20)
    assert not depth_discontinuities(slope).any()
    slope = slope.clone()
    slope[..., 15:] = torch.inf
    assert depth_discontinuities(slope)[..., 14].all() and not depth_discontinuities(slope)[..., :12].any()


def test_points_at_silhouettes_can_be_left_out(small_folder: Path):
    photos, radiance = opened(small_folder)
    every, inner = (point_residuals(photos, PHOTO, 2, radiance, silhouettes) for silhouettes in (True, False))
    assert set(inner.points.tolist()) < set(every.points.tolist())
    kept = torch.isin(every.points, inner.points)
    torch.testing.assert_close(every.residual[kept], inner.residual, rtol=0, atol=0)
    assert 0.05 < float(kept.float().mean()) < 0.95


def test_a_misplaced_patch_fits_the_photo_at_its_true_position(small_folder: Path):
    """The rendering has a hole there, but the photo does not."""
    photos, radiance = opened(small_folder)
    points = photos.pipeline.points
    size = bounding_side(points.xyz)
    before = visible_points(photos, PHOTO, 1, radiance)
    group = group_by_voxel(points.xyz, 0.1 * size).of_point
    near = before.points[before.depth < before.depth.quantile(0.3)]
    patch = (group == group[near].mode().values)[:, None]
    shift = 0.008 * size * torch.tensor([0.5, -0.6, 0.6])
    points.move(torch.where(patch, shift, 0.0))
    after = visible_points(photos, PHOTO, 1, radiance)
    assert torch.equal(after.photo, before.photo)
    both, true_uv = torch.isin(after.points, before.points), after.shifted_uv(-shift[None])
    both &= patch[after.points, 0]
    index = torch.searchsorted(before.points, after.points[both])
    assert int(both.sum()) > 300
    assert float((after.uv[both] - before.uv[index]).norm(dim=1).median()) > 3
    assert float((true_uv[both] - before.uv[index]).norm(dim=1).max()) < 0.1
    expected = before.residuals(before.uv)[index]
    there, here = after.residuals(true_uv)[both], after.residuals(after.uv)[both]
    assert float((there - expected).abs().median()) < 0.1 < float((here - expected).abs().median())
