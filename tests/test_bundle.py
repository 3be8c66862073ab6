"""Poses and points adjusted together: the reduced system, the gauge, and both brought back on the demo scene."""

import math
from pathlib import Path

import numpy as np
import torch

from adop.align import INDEPENDENT, Refined, align_cameras
from adop.bundle import PoseEvidence, adjust_poses_and_points, fix_gauge, solve_poses
from adop.config import AlignConfig, MovePointsConfig, TrainConfig
from adop.disturb import disturb_points, disturb_poses, geometry, measure
from adop.lie import so3_exp
from adop.motion import project_points
from adop.move_points import Evidence, make_cubes
from adop.run import open_scene

PHOTOS, CUBES = 3, 5


def test_the_reduced_system_has_the_whole_system_s_solution():
    """Against numpy's dense solution of the normal equations of all poses and cubes at once."""
    random = np.random.default_rng(0)
    by_pose, by_cube = random.normal(size=(60, 6)), random.normal(size=(60, 3))
    photo, cube = np.arange(60) % PHOTOS, (np.arange(60) // PHOTOS) % CUBES
    error, size = random.normal(size=60), 6 * PHOTOS + 3 * CUBES
    jacobian = np.zeros((60, size))
    for row in range(60):
        jacobian[row, 6 * photo[row] : 6 * photo[row] + 6] = by_pose[row]
        jacobian[row, 6 * PHOTOS + 3 * cube[row] : 6 * PHOTOS + 3 * cube[row] + 3] = by_cube[row]
    normal, gradient = jacobian.T @ jacobian, jacobian.T @ error
    # The same priors and dampings, laid on the whole system.
    config, damping, stiffness, away = AlignConfig(), 0.1, 0.2, 0.01 * random.normal(size=(PHOTOS, 6))
    trust = np.array([2.0 * config.trust_distance] * 3 + [math.radians(config.trust_degrees)] * 3)
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
    poses = PoseEvidence(
        torch.stack([whole[6 * i : 6 * i + 6, 6 * i : 6 * i + 6] for i in range(PHOTOS)]),
        torch.from_numpy(jacobian.T @ error)[: 6 * PHOTOS].reshape(PHOTOS, 6),
        torch.full((PHOTOS,), 20.0, dtype=torch.float64),
        torch.tensor([i for i, _ in pairs]),
        torch.tensor([k for _, k in pairs]),
        torch.stack([whole[at[k], 6 * i : 6 * i + 6] for i, k in pairs]),
        2.0,
    )
    cubes = Evidence(
        torch.stack([whole[own, own] for own in at]),
        torch.from_numpy(jacobian.T @ error)[6 * PHOTOS :].reshape(CUBES, 3),
        torch.zeros(CUBES),
        torch.full((CUBES,), 12.0),
    )
    found = solve_poses(
        cubes, torch.full((CUBES,), stiffness), poses, torch.from_numpy(away), config, damping
    )
    np.testing.assert_allclose(found.numpy(), expected, rtol=1e-3, atol=1e-4)


def test_the_gauge_changes_no_picture(small_folder: Path):
    """A turn, a shift and a scale of points and poses is taken out, and every point stays in its pixel."""
    pipeline, _, _ = open_scene(small_folder, TrainConfig(), lambda _: None)
    photos, start = list(range(len(pipeline.poses))), pipeline.xyz.clone()
    camera = pipeline.camera(torch.tensor([2]))
    turn = so3_exp(torch.tensor([0.01, -0.02, 0.015]).double())
    shift, scale = torch.tensor([0.1, 0.2, -0.1]).double(), 1.02
    pipeline.xyz.copy_(scale * pipeline.xyz.double() @ turn.T + shift)
    poses = pipeline.poses.clone()
    pipeline.poses[:, :3, :3] = poses[:, :3, :3] @ turn.T
    pipeline.poses[:, :3, 3] = scale * poses[:, :3, 3] - pipeline.poses[:, :3, :3] @ shift
    moved = project_points(pipeline.camera(torch.tensor([2])), pipeline.xyz)
    fix_gauge(pipeline, photos, start, make_cubes(start, 0.05))
    there = project_points(pipeline.camera(torch.tensor([2])), pipeline.xyz)
    near = (project_points(camera, start) - moved).norm(
        dim=1
    ) < 0.1  # those not behind the camera or beside it
    assert near.float().mean() > 0.3
    assert float((there - moved)[near].norm(dim=1).max()) < 0.05
    torch.testing.assert_close(pipeline.xyz, start, atol=1e-3, rtol=0)
    torch.testing.assert_close(pipeline.poses, poses, atol=1e-3, rtol=0)


def test_each_cube_counts_once_in_the_gauge(small_folder: Path):
    """A crowd of points that moved together is one cube of many: it does not take the gauge along."""
    pipeline, _, _ = open_scene(small_folder, TrainConfig(), lambda _: None)
    start = pipeline.xyz.clone()
    cubes = make_cubes(start, 0.05)
    crowd = torch.bincount(cubes.of_point).argmax()
    many = (cubes.of_point == crowd)[:, None]
    shift = 0.3 * torch.ones(3)
    pipeline.xyz += torch.where(many, shift, 0.0)
    fix_gauge(pipeline, list(range(len(pipeline.poses))), start, cubes)
    others = (pipeline.xyz - start)[~many[:, 0]].norm(dim=1).median()
    assert len(cubes) > 20
    assert float(others) < 5 * float(shift.norm()) / len(cubes)


def test_poses_and_patches_come_back_together(small_folder: Path):
    pipeline, _, cache = open_scene(small_folder, TrainConfig(), lambda _: None)
    truth, photos = geometry(pipeline), list(range(len(pipeline.poses)))
    generator = torch.Generator().manual_seed(0)
    disturb_points(pipeline, photos, 3.0, 0.05, generator)
    disturb_poses(pipeline, photos, 0.3, 0.003, generator)
    before = measure(pipeline, truth, photos)
    align, config = (
        AlignConfig(side=240, scales=2),
        MovePointsConfig(blocks=(0.05, 0.05), scales=(4, 2), rounds=4),
    )
    align_cameras(pipeline, cache, photos, align, Refined(intrinsics=False, distortion=False))
    between = measure(pipeline, truth, photos)
    adjust_poses_and_points(pipeline, cache, photos, config, align)
    after = measure(pipeline, truth, photos)
    assert np.median(after.reprojection_px) < 0.9 * np.median(between.reprojection_px)
    assert np.nanmedian(after.points_px) < 0.9 * np.nanmedian(before.points_px)
