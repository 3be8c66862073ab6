"""Poses and points adjusted together: the reduced system, the gauge, and recovery on the demo scene."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.bench.disturb import disturb_points, disturb_poses, geometry, measure
from adop.config import AlignConfig, MovePointsConfig, TrainConfig
from adop.geometry.rigid_motion import so3_exp
from adop.refine.align import INDEPENDENT_PIXELS, align_cameras
from adop.refine.alignment_equations import RefinedParameters, project_points
from adop.refine.bundle_adjustment import (
    PoseEquations,
    fit_similarity,
    fix_gauge,
    refine_poses_and_points,
    solve_poses,
)
from adop.refine.move_points import PointSampling
from adop.refine.photo_set import PhotoSet
from adop.refine.point_groups import group_by_voxel
from adop.refine.shift_equations import ShiftEquations, photo_share
from adop.run.run import open_scene

PHOTOS, GROUPS = 3, 5


def test_the_reduced_system_has_the_solution_of_the_whole():
    """Against numpy's dense solution of the normal equations of all poses and groups at once."""
    random = np.random.default_rng(0)
    by_pose, by_group = random.normal(size=(60, 6)), random.normal(size=(60, 3))
    photo, group = np.arange(60) % PHOTOS, (np.arange(60) // PHOTOS) % GROUPS
    error, size = random.normal(size=60), 6 * PHOTOS + 3 * GROUPS
    jacobian = np.zeros((60, size))
    for row in range(60):
        jacobian[row, 6 * photo[row] : 6 * photo[row] + 6] = by_pose[row]
        jacobian[row, 6 * PHOTOS + 3 * group[row] : 6 * PHOTOS + 3 * group[row] + 3] = by_group[row]
    normal, gradient = jacobian.T @ jacobian, jacobian.T @ error
    # The same priors and dampings, added to the whole system.
    config, damping, group_damping, offset = AlignConfig(), 0.1, 0.2, 0.01 * random.normal(size=(PHOTOS, 6))
    trust = np.array([2.0 * config.translation_prior] * 3 + [math.radians(config.rotation_prior_degrees)] * 3)
    prior = (20 / INDEPENDENT_PIXELS) / trust**2
    damped = normal.copy()
    for i in range(PHOTOS):
        own = slice(6 * i, 6 * i + 6)
        damped[own, own] += np.diag(damping * np.diag(normal[own, own]) + prior)
        gradient[own] += prior * offset[i]
    for k in range(GROUPS):
        own = slice(6 * PHOTOS + 3 * k, 6 * PHOTOS + 3 * k + 3)
        damped[own, own] += np.eye(3) * group_damping * np.trace(normal[own, own]) / 3
    expected = -np.linalg.solve(damped, gradient)[: 6 * PHOTOS].reshape(PHOTOS, 6)

    pairs = [(i, k) for i in range(PHOTOS) for k in range(GROUPS)]
    whole = torch.from_numpy(normal)
    at = [slice(6 * PHOTOS + 3 * k, 6 * PHOTOS + 3 * k + 3) for k in range(GROUPS)]
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
        torch.from_numpy(jacobian.T @ error)[6 * PHOTOS :].reshape(GROUPS, 3),
        torch.zeros(GROUPS),
        torch.full((GROUPS,), 12.0),
    )
    found = solve_poses(
        groups, torch.full((GROUPS,), group_damping), poses, torch.from_numpy(offset), config, damping
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_fixing_the_gauge_changes_no_image(small_folder: Path):
    """A similarity transform of points and poses is undone, and every point stays in its pixel."""
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
    after = project_points(pipeline.camera(torch.tensor([2])), pipeline.points.xyz)
    # Points behind the camera or far beside it are not compared.
    seen = (project_points(camera, start) - moved).norm(dim=1) < 0.1
    assert seen.float().mean() > 0.3
    assert float((after - moved)[seen].norm(dim=1).max()) < 0.05
    torch.testing.assert_close(pipeline.points.xyz, start, atol=1e-3, rtol=0)
    torch.testing.assert_close(pipeline.cameras.poses, poses, atol=1e-3, rtol=0)


def test_each_group_counts_once_in_the_gauge(small_folder: Path):
    """A dense group that moved hardly changes the gauge, because it is one of many."""
    pipeline, _, _ = open_scene(small_folder, TrainConfig(), lambda _: None)
    start = pipeline.points.xyz.clone()
    groups = group_by_voxel(start, 0.05)
    densest = torch.bincount(groups.of_point).argmax()
    dense = (groups.of_point == densest)[:, None]
    shift = 0.3 * torch.ones(3)
    pipeline.points.move(torch.where(dense, shift, 0.0))
    fix_gauge(pipeline, list(range(len(pipeline.cameras.poses))), start, groups, torch.ones(len(groups)))
    others = (pipeline.points.xyz - start)[~dense[:, 0]].norm(dim=1).median()
    assert len(groups) > 20
    assert float(others) < 5 * float(shift.norm()) / len(groups)


def test_groups_that_photos_do_not_determine_have_no_weight_in_the_gauge():
    """Groups that no photo sees stay where they were; the common motion is that of the others."""
    generator = torch.Generator().manual_seed(0)
    start = torch.randn(200, 3, generator=generator)
    shown = torch.arange(200) % 4 > 0
    moved = torch.where(shown[:, None], start + torch.tensor([0.3, 0.0, -0.1]), start)
    matrix = torch.where(shown, 1e6, 0.0)[:, None, None] * torch.eye(3)
    equations = ShiftEquations(matrix, torch.zeros(200, 3), torch.zeros(200), torch.ones(200))
    scale, rotation, translation = fit_similarity(moved, start, photo_share(equations, 0.1))
    back = scale * moved.double() @ rotation.T + translation
    torch.testing.assert_close(back[shown].float(), start[shown], atol=1e-2, rtol=0)
    scale, rotation, translation = fit_similarity(moved, start, torch.ones(200))
    unweighted = scale * moved.double() @ rotation.T + translation
    assert float((unweighted - start)[shown].norm(dim=1).mean()) > 0.05


def test_the_photos_share_is_that_of_the_least_determined_direction():
    """A wall that photos determine precisely across, but not along, counts as not determined."""
    matrix = torch.diag_embed(torch.tensor([[1e9, 1e9, 1e9], [1e9, 1e9, 0.0], [0.0, 0.0, 0.0]]))
    equations = ShiftEquations(matrix, torch.zeros(3, 3), torch.zeros(3), torch.ones(3))
    assert photo_share(equations, 0.1).tolist() == [pytest.approx(1, abs=1e-3), 0, 0]


@pytest.mark.long
def test_poses_and_patches_come_back_together(small_folder: Path):
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
    photo_set = PhotoSet(pipeline, cache, photos)
    align_cameras(photo_set, align, RefinedParameters(intrinsics=False, distortion=False))
    aligned = measure(pipeline, truth, photos)
    every_fifth_point = PointSampling(16_000)
    refine_poses_and_points(photo_set, config, align, every_fifth_point)
    after = measure(pipeline, truth, photos)
    assert np.median(after.reprojection_px) < 0.7 * np.median(aligned.reprojection_px)
    assert np.nanmedian(after.points_px) < 0.5 * np.nanmedian(before.points_px)


def test_a_similarity_transform_is_found():
    """Exactly where there is no noise; with noise, up to it."""
    generator = torch.Generator().manual_seed(0)
    start, every = torch.randn(500, 3, generator=generator), torch.ones(500)
    turn = torch.linalg.qr(torch.randn(3, 3, generator=generator)).Q
    turn = turn * torch.linalg.det(turn)
    noise = 0.01 * torch.randn(500, 3, generator=generator)
    moved = 1.1 * (start + noise) @ turn.T + torch.tensor([3.0, -2.0, 1.0])
    scale, rotation, translation = (part.float() for part in fit_similarity(moved, start, every))
    back = scale * moved @ rotation.T + translation
    assert float((back - start - noise).norm(dim=1).max()) < 0.01
    assert float(scale) == pytest.approx(1 / 1.1, rel=1e-3)
    exact = 2.0 * start @ turn.T + 5
    exact_scale, exact_rotation, exact_translation = fit_similarity(exact, start, every)
    back = (exact_scale * exact.double() @ exact_rotation.T + exact_translation).float()
    torch.testing.assert_close(back, start, atol=1e-4, rtol=0)
    torch.testing.assert_close(rotation, turn.T, atol=1e-3, rtol=0)


def test_single_points_move_alone(small_folder: Path):
    """Without groups, poses are not adjusted."""
    pipeline, _, cache = open_scene(small_folder, TrainConfig(), lambda _: None)
    start, poses = pipeline.points.xyz.clone(), pipeline.cameras.poses.clone()
    config = MovePointsConfig(grouped=False, iterations=1, individual=True)
    refine_poses_and_points(PhotoSet(pipeline, cache, [1, 5, 9]), config, AlignConfig())
    assert not torch.equal(pipeline.points.xyz, start)
    assert torch.equal(pipeline.cameras.poses, poses)
