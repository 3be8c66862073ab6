"""Poses and points adjusted together: the reduced system, the gauge, and both brought back on the demo scene."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.bench.disturb import disturb_points, disturb_poses, geometry, measure
from adop.config import AlignConfig, MovePointsConfig, TrainConfig
from adop.geometry.rigid_motion import so3_exp
from adop.refine.align import INDEPENDENT, RefinedParameters, align_cameras
from adop.refine.alignment_equations import project_points
from adop.refine.bundle_adjustment import PoseEquations, common_motion, fix_gauge, refine_both, solve_poses
from adop.refine.point_groups import group_by_voxel
from adop.refine.shift_equations import ShiftEquations, placed_by_photos
from adop.run.run import open_scene

PHOTOS, CUBES = 3, 5


def test_the_reduced_system_has_the_whole_system_s_solution():
    """Against numpy's dense solution of the normal equations of all poses and groups at once."""
    random = np.random.default_rng(0)
    by_pose, by_cube = random.normal(size=(60, 6)), random.normal(size=(60, 3))
    photo, group = np.arange(60) % PHOTOS, (np.arange(60) // PHOTOS) % CUBES
    error, size = random.normal(size=60), 6 * PHOTOS + 3 * CUBES
    jacobian = np.zeros((60, size))
    for row in range(60):
        jacobian[row, 6 * photo[row] : 6 * photo[row] + 6] = by_pose[row]
        jacobian[row, 6 * PHOTOS + 3 * group[row] : 6 * PHOTOS + 3 * group[row] + 3] = by_cube[row]
    normal, gradient = jacobian.T @ jacobian, jacobian.T @ error
    # The same priors and dampings, laid on the whole system.
    config, damping, stiffness, away = AlignConfig(), 0.1, 0.2, 0.01 * random.normal(size=(PHOTOS, 6))
    trust = np.array([2.0 * config.translation_prior] * 3 + [math.radians(config.rotation_prior_degrees)] * 3)
    prior = (20 / INDEPENDENT) / trust**2
    damped = normal.copy()
    for i in range(PHOTOS):
        own = slice(6 * i, 6 * i + 6)
        damped[own, own] += np.diag(damping * np.diag(normal[own, own]) + prior)
        gradient[own] += prior * away[i]
    for k in range(CUBES):
        own = slice(6 * PHOTOS + 3 * k, 6 * PHOTOS + 3 * k + 3)
        damped[own, own] += np.eye(3) * stiffness * np.trace(normal[own, own]) / 3
    expected = -np.linalg.solve(damped, gradient)[: 6 * PHOTOS].reshape(PHOTOS, 6)

    pairs = [(i, k) for i in range(PHOTOS) for k in range(CUBES)]
    whole = torch.from_numpy(normal)
    at = [slice(6 * PHOTOS + 3 * k, 6 * PHOTOS + 3 * k + 3) for k in range(CUBES)]
    poses = PoseEquations(
        torch.stack([whole[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] for i in range(PHOTOS)]),
        torch.from_numpy(jacobian.T @ error)[: 6 * PHOTOS].reshape(PHOTOS, 6),
        torch.full((PHOTOS,), 20.0, dtype=torch.float64),
        torch.tensor([i for i, _ in pairs]),
        torch.tensor([k for _, k in pairs]),
        torch.stack([whole[at[k], 6 * i : 6 * i + 6] for i, k in pairs]),
        2.0,
    )
    groups = ShiftEquations(
        torch.stack([whole[own, own] for own in at]),
        torch.from_numpy(jacobian.T @ error)[6 * PHOTOS :].reshape(CUBES, 3),
        torch.zeros(CUBES),
        torch.full((CUBES,), 12.0),
    )
    found = solve_poses(
        groups, torch.full((CUBES,), stiffness), poses, torch.from_numpy(away), config, damping
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_the_gauge_changes_no_picture(small_folder: Path):
    """A turn, a shift and a scale of points and poses is taken out, and every point stays in its pixel."""
    pipeline, _, _ = open_scene(small_folder, TrainConfig(), lambda _: None)
    photos, start = list(range(len(pipeline.cameras.poses))), pipeline.points.xyz.clone()
    camera = pipeline.camera(torch.tensor([2]))
    turn = so3_exp(torch.tensor([0.01, -0.02, 0.015]).double())
    shift, scale = torch.tensor([0.1, 0.2, -0.1]).double(), 1.02
    pipeline.points.set_xyz(scale * pipeline.points.xyz.double() @ turn.T + shift)
    poses = pipeline.cameras.poses.clone()
    turned = poses.clone()
    turned[:, :3, :3] = poses[:, :3, :3] @ turn.T
    turned[:, :3, 3] = scale * poses[:, :3, 3] - turned[:, :3, :3] @ shift
    pipeline.cameras.set_poses(photos, turned)
    moved = project_points(pipeline.camera(torch.tensor([2])), pipeline.points.xyz)
    groups = group_by_voxel(start, 0.05)
    fix_gauge(pipeline, photos, start, groups, torch.ones(len(groups)))
    there = project_points(pipeline.camera(torch.tensor([2])), pipeline.points.xyz)
    near = (project_points(camera, start) - moved).norm(
        dim=1
    ) < 0.1  # those not behind the camera or beside it
    assert near.float().mean() > 0.3
    assert float((there - moved)[near].norm(dim=1).max()) < 0.05
    torch.testing.assert_close(pipeline.points.xyz, start, atol=1e-3, rtol=0)
    torch.testing.assert_close(pipeline.cameras.poses, poses, atol=1e-3, rtol=0)


def test_each_cube_counts_once_in_the_gauge(small_folder: Path):
    """A crowd of points that moved together is one group of many: it does not take the gauge along."""
    pipeline, _, _ = open_scene(small_folder, TrainConfig(), lambda _: None)
    start = pipeline.points.xyz.clone()
    groups = group_by_voxel(start, 0.05)
    crowd = torch.bincount(groups.of_point).argmax()
    many = (groups.of_point == crowd)[:, None]
    shift = 0.3 * torch.ones(3)
    pipeline.points.move(torch.where(many, shift, 0.0))
    fix_gauge(pipeline, list(range(len(pipeline.cameras.poses))), start, groups, torch.ones(len(groups)))
    others = (pipeline.points.xyz - start)[~many[:, 0]].norm(dim=1).median()
    assert len(groups) > 20
    assert float(others) < 5 * float(shift.norm()) / len(groups)


def test_what_photos_do_not_place_has_no_say_in_the_gauge():
    """Groups that nothing shows stay where they were while the rest moves along: the rest's motion is what is common."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(200, 3, generator=generator)
    shown = torch.arange(200) % 4 > 0
    moved = torch.where(shown[:, None], start + torch.tensor([0.3, 0.0, -0.1]), start)
    matrix = torch.where(shown, 1e6, 0.0)[:, None, None] * torch.eye(3)
    equations = ShiftEquations(matrix, torch.zeros(200, 3), torch.zeros(200), torch.ones(200))
    scale, rotation, translation = common_motion(start, moved, placed_by_photos(equations, 0.1))
    back = scale * moved.double() @ rotation.T + translation
    torch.testing.assert_close(back[shown].float(), start[shown], atol=1e-2, rtol=0)
    alike = common_motion(start, moved, torch.ones(200))
    assert float((alike[0] * moved.double() @ alike[1].T + alike[2] - start)[shown].norm(dim=1).mean()) > 0.05


def test_the_least_that_photos_say_of_a_place_counts():
    """A wall that photos place to within a hair across, but not along, is not placed."""
    matrix = torch.diag_embed(torch.tensor([[1e9, 1e9, 1e9], [1e9, 1e9, 0.0], [0.0, 0.0, 0.0]]))
    equations = ShiftEquations(matrix, torch.zeros(3, 3), torch.zeros(3), torch.ones(3))
    assert placed_by_photos(equations, 0.1).tolist() == [pytest.approx(1, abs=1e-3), 0, 0]


def test_poses_and_patches_come_back_together(small_folder: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("adop.refine.move_points.SEARCHED", 16_000)  # every fifth: enough, and quicker
    pipeline, _, cache = open_scene(small_folder, TrainConfig(), lambda _: None)
    truth, photos = geometry(pipeline), list(range(0, len(pipeline.cameras.poses), 2))
    generator = torch.Generator().manual_seed(0)
    disturb_points(pipeline, photos, 3.0, 0.05, generator)
    disturb_poses(pipeline, photos, 0.3, 0.003, generator)
    before = measure(pipeline, truth, photos)
    align, config = (
        AlignConfig(longest_side=240, scales=2),
        MovePointsConfig(sizes=(0.05, 0.0125, 0.0025), iterations=3),
    )
    align_cameras(pipeline, cache, photos, align, RefinedParameters(intrinsics=False, distortion=False))
    between = measure(pipeline, truth, photos)
    refine_both(pipeline, cache, photos, config, align)
    after = measure(pipeline, truth, photos)
    assert np.median(after.reprojection_px) < 0.7 * np.median(between.reprojection_px)
    assert np.nanmedian(after.points_px) < 0.5 * np.nanmedian(before.points_px)


def test_the_common_motion_is_taken_out():
    """Gauge: a turn, a shift and a scale of all points is no refinement; what is left is."""
    generator = torch.Generator().manual_seed(0)
    start, every = torch.randn(500, 3, generator=generator), torch.ones(500)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    turn = turn * torch.linalg.det(turn)
    own = 0.01 * torch.randn(500, 3, generator=generator)
    moved = 1.1 * (start + own) @ turn.T + torch.tensor([3.0, -2.0, 1.0])
    scale, rotation, translation = (part.float() for part in common_motion(start, moved, every))
    back = scale * moved @ rotation.T + translation
    assert float((back - start - own).norm(dim=1).max()) < 0.01
    assert float(scale) == pytest.approx(1 / 1.1, rel=1e-3)
    alone = 2.0 * start @ turn.T + 5
    exact = common_motion(start, alone, every)
    back = (exact[0] * alone.double() @ exact[1].T + exact[2]).float()
    torch.testing.assert_close(back, start, atol=1e-4, rtol=0)
    torch.testing.assert_close(rotation, turn.T, atol=1e-3, rtol=0)


def test_single_points_move_when_the_poses_stand(small_folder: Path):
    """As asked for alone: no pose is touched by it."""
    pipeline, _, cache = open_scene(small_folder, TrainConfig(), lambda _: None)
    start, poses = pipeline.points.xyz.clone(), pipeline.cameras.poses.clone()
    config = MovePointsConfig(grouped=False, iterations=1, individual=True)
    refine_both(pipeline, cache, [1, 5, 9], config, AlignConfig())
    assert not torch.equal(pipeline.points.xyz, start)
    assert torch.equal(pipeline.cameras.poses, poses)
