"""Poses and points adjusted together: photos move and groups of points move, and neither takes the other's error."""

from __future__ import annotations

import functools
from dataclasses import dataclass, replace

import torch
from torch import Tensor
from tqdm import tqdm

from adop.config import AlignConfig, MovePointsConfig
from adop.geometry.rigid_motion import se3_exp, se3_log
from adop.model.pipeline import Pipeline
from adop.refine.align import INDEPENDENT, pose_trust
from adop.refine.alignment_equations import POSE
from adop.refine.move_points import move_points
from adop.refine.observations import observe
from adop.refine.point_groups import (
    PointGroups,
    extent,
    finest_scale,
    group_by_voxel,
    group_means,
    mean_colours,
    pixel_size,
)
from adop.refine.shift_equations import (
    DAMPING,
    ShiftEquations,
    add_observed,
    equations_from_sums,
    looks_worse,
    placed_by_photos,
    solve_shifts,
    with_prior,
)
from adop.scene.photo_cache import PhotoCache

# By how much the photos are reduced, before and after the points look for their places alone.
COARSE, FINE = (4, 2), (1,)
ROUNDS = 2  # in which they do that
POSE_DAMPING = 1e-3
ITERATIONS = 100  # most steps of conjugate gradients
EXACT = 1e-8  # of the first residual's square, where they end


@dataclass(frozen=True)
class PoseEquations:
    """What the photos say of their poses, and how that hangs together with the groups of points; float64."""

    matrix: Tensor  # [P, 6, 6]
    gradient: Tensor  # [P, 6]
    count: Tensor  # [P] observations
    photo: Tensor  # [E] of each pair of a photo and a group that it sees
    group: Tensor  # [E]
    coupling: Tensor  # [E, 3, 6]
    distance: float  # median depth of what is seen, scene units

    def push(self, change: Tensor, groups: int) -> Tensor:
        """Return [K, 3], how a change [P, 6] of the poses changes the gradient of each group."""
        given = torch.einsum("eij,ej->ei", self.coupling, change[self.photo])
        return given.new_zeros(groups, 3).index_add_(0, self.group, given)

    def pull(self, shift: Tensor) -> Tensor:
        """Return [P, 6], the adjoint of `push`, of shifts [K, 3] of the groups."""
        given = torch.einsum("eij,ei->ej", self.coupling, shift[self.group])
        return torch.zeros_like(self.gradient).index_add_(0, self.photo, given)


def gather_both(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    scale: int,
    groups: PointGroups,
    radiance: Tensor,
) -> tuple[ShiftEquations, PoseEquations]:
    """Ask every photo, 1/scale as large, where it and each group's points should be; see `adop.refine.observations`."""
    device = pipeline.device
    sums = torch.zeros(len(groups), 14, device=device)
    matrix, gradient, count, pairs, depths = [], [], [], [], []
    for number, photo in enumerate(photos):
        seen = observe(pipeline, cache, photo, scale, radiance, silhouettes=False)
        add_observed(sums, groups, seen)
        by_pose, weight = seen.by_pose(), seen.weight[..., None]
        weighted = (by_pose * weight).double()
        matrix.append(torch.einsum("mck,mcl->kl", weighted, by_pose.double()))
        gradient.append(torch.einsum("mck,mc->k", weighted, seen.error.double()))
        count.append(float(len(seen.points)))
        depths.append(float(seen.depth.median()) if len(seen.depth) else 1.0)
        group, of_pair = torch.unique(groups.of_point[seen.points], return_inverse=True)
        coupling = torch.einsum("mck,mcl->mkl", seen.by_point * weight, by_pose).flatten(1)
        coupling = coupling.new_zeros(len(group), 3 * POSE).index_add_(0, of_pair, coupling)
        pairs.append((torch.full_like(group, number), group, coupling.reshape(-1, 3, POSE).double()))
    photo_of, cube_of, coupled = (torch.cat(part) for part in zip(*pairs, strict=True))
    counts = torch.tensor(count, dtype=torch.float64, device=device)
    distance = sorted(depths)[len(depths) // 2]
    return equations_from_sums(sums), PoseEquations(
        torch.stack(matrix), torch.stack(gradient), counts, photo_of, cube_of, coupled, distance
    )


def solve_poses(
    groups: ShiftEquations,
    stiffness: Tensor,
    poses: PoseEquations,
    away: Tensor,
    config: AlignConfig,
    damping: float,
) -> Tensor:
    """Return the change [P, 6] of the poses when the groups are free to answer it, by conjugate gradients.

    Args:
        stiffness: [K] Levenberg's damping of each group.
        away: [P, 6] twists by which the poses have left their starts.

    Source: bundle adjustment with the Schur complement, points eliminated first (Triggs et al. 2000).
    """
    trace = groups.matrix.diagonal(dim1=1, dim2=2).sum(1).double()
    eye = torch.eye(3, dtype=torch.float64, device=trace.device)
    inverse = torch.linalg.inv(
        groups.matrix.double() + eye * (stiffness.double() * trace / 3 + 1e-9)[:, None, None]
    )
    trust = pose_trust(config, poses.distance).to(trace.device)
    prior = (poses.count / INDEPENDENT)[:, None] / trust.square()
    diagonal = poses.matrix.diagonal(dim1=1, dim2=2)
    own = poses.matrix + torch.diag_embed(damping * diagonal + prior + 1e-12)

    def answered(shift: Tensor) -> Tensor:
        return poses.pull(torch.einsum("kij,kj->ki", inverse, shift))

    rest = -(poses.gradient + prior * away) + answered(groups.gradient.double())
    before = torch.linalg.inv(own)  # the preconditioner
    change, scaled = torch.zeros_like(rest), torch.einsum("nij,nj->ni", before, rest)
    direction, size = scaled, (rest * scaled).sum()
    first = size
    for _ in range(ITERATIONS):
        if size <= EXACT * first:
            break
        curved = torch.einsum("nij,nj->ni", own, direction) - answered(poses.push(direction, len(inverse)))
        length = size / (direction * curved).sum()
        change, rest = change + length * direction, rest - length * curved
        scaled = torch.einsum("nij,nj->ni", before, rest)
        direction, size = scaled + (rest * scaled).sum() / size * direction, (rest * scaled).sum()
    return change


@torch.no_grad()
def refine_both(
    pipeline: Pipeline, cache: PhotoCache, photos: list[int], config: MovePointsConfig, align: AlignConfig
) -> float:
    """Move points and poses to where the photos show the points' colours; return the points' median shift, scene units.

    Coarsely together; then the points alone, which look farther than a gradient sees, and both together again. Where the
    poses were off, points found wrong places: with the better poses they look once more from their start. Single points,
    where asked for, move last.
    """
    start = pipeline.points.xyz.clone()
    if config.grouped:
        adjust_poses_and_points(pipeline, cache, photos, start, config, align, COARSE)
        for _ in range(ROUNDS):
            pipeline.points.set_xyz(start)
            move_points(pipeline, cache, photos, replace(config, individual=False))
            adjust_poses_and_points(pipeline, cache, photos, start, config, align, FINE)
    if config.individual:
        move_points(pipeline, cache, photos, replace(config, grouped=False), start)
    return float((pipeline.points.xyz - start).norm(dim=1).median())


@torch.no_grad()
def adjust_poses_and_points(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    start: Tensor,
    config: MovePointsConfig,
    align: AlignConfig,
    scales: tuple[int, ...],
) -> None:
    """Take steps of Gauss-Newton with the poses and groups of points at once, in photos reduced by one scale after
    another.

    A step that makes the whole worse is taken back; of others, groups that look worse go back. The rigid motion and scale
    that the points have in common is taken out of points and poses in the end.

    Args:
        start: [N, 3] where points were right to within `config.position_prior`.
    """
    size, pixel, finest = extent(start), pixel_size(pipeline, photos), finest_scale(pipeline)
    trust, starts = config.position_prior * size, pipeline.cameras.poses[photos].clone()
    groups = group_by_voxel(start, config.sizes[0] * size)
    total = len(scales) * (config.iterations + 1)
    with tqdm(total=total, desc="adjusting both", leave=False, disable=None) as bar:
        for scale in scales:
            radiance = mean_colours(pipeline, scale * finest * pixel)
            ask = functools.partial(gather_both, pipeline, cache, photos, scale * finest, groups, radiance)
            damping, stiffness = POSE_DAMPING, torch.full((len(groups),), DAMPING, device=start.device)
            best, poses = ask()
            bar.update()
            for _ in range(config.iterations):
                known = with_prior(best, groups, pipeline.points.xyz - start, trust)
                before = pipeline.cameras.poses[photos]
                away = se3_log(before @ torch.linalg.inv(starts))
                change = solve_poses(known, stiffness, poses, away, align, damping)
                pushed = known.gradient + poses.push(change, len(groups)).to(known.gradient)
                shift = solve_shifts(replace(known, gradient=pushed), groups, stiffness, config.smoothness)
                pipeline.cameras.set_poses(photos, se3_exp(change) @ before)
                pipeline.points.move(shift[groups.of_point])
                tried, tried_poses = ask()
                bar.update()
                if _mean_cost(tried) > _mean_cost(best):
                    pipeline.cameras.set_poses(photos, before)
                    pipeline.points.move(-shift[groups.of_point])
                    damping, stiffness = 10 * damping, 10 * stiffness
                    continue
                worse = looks_worse(best, tried)
                pipeline.points.move(-torch.where(worse[:, None], shift, 0.0)[groups.of_point])
                damping = max(damping / 4, 1e-6)
                stiffness = torch.where(worse, stiffness * 10, (stiffness / 4).clamp_min(1e-4))
                best, poses = tried, tried_poses
    fix_gauge(pipeline, photos, start, groups, placed_by_photos(best, trust))


def _mean_cost(equations: ShiftEquations) -> float:
    return float(equations.cost.sum() / equations.count.sum().clamp_min(1))


def fix_gauge(
    pipeline: Pipeline, photos: list[int], start: Tensor, groups: PointGroups, weight: Tensor
) -> None:
    """Take the similarity that brings the points back to `start` [N, 3] out of points and poses: no picture changes.

    Each group counts as one point: neighbours were off alike, and a surface near the cameras has most of the points. It
    counts by its `weight` [K], the photos' share in its place: what they do not place stayed where it was, and knows
    nothing of a motion that the rest have in common.
    """
    if not float(weight.sum()) > 0:
        return
    scale, rotation, translation = common_motion(
        group_means(start, groups), group_means(pipeline.points.xyz, groups), weight
    )
    pipeline.points.set_xyz(scale * pipeline.points.xyz.double() @ rotation.T + translation)
    poses = pipeline.cameras.poses[photos]
    turned = poses[:, :3, :3] @ rotation.T
    poses[:, :3, 3] = scale * poses[:, :3, 3] - turned @ translation
    poses[:, :3, :3] = turned
    pipeline.cameras.set_poses(photos, poses)
    motion = pipeline.cameras.motion[photos]
    motion[:, :3] *= scale
    pipeline.cameras.set_motion(photos, motion)


def common_motion(start: Tensor, moved: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return scale, rotation [3, 3] and translation [3], float64, that bring `moved` [N, 3], in the mean square by
    `weight` [N], back to `start`.

    Source: Umeyama 1991.
    """
    share = (weight.double() / weight.double().sum())[:, None]
    a, b = moved.double(), start.double()
    mean_a, mean_b = (share * a).sum(0), (share * b).sum(0)
    a, b = a - mean_a, b - mean_b
    u, s, vt = torch.linalg.svd((share * b).T @ a)
    flip = torch.ones(3, dtype=torch.float64, device=a.device)
    flip[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = u @ torch.diag(flip) @ vt
    scale = (s * flip).sum() / (share * a.square()).sum().clamp_min(1e-30)
    return scale, rotation, mean_b - scale * rotation @ mean_a
