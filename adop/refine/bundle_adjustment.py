"""Poses and groups of points adjusted together, so that neither absorbs the other's error."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adop.config import AlignConfig, MovePointsConfig
from adop.geometry.rigid_motion import se3_exp, se3_log
from adop.model.pipeline import Pipeline
from adop.progress import Bar
from adop.refine.align import INDEPENDENT_PIXELS, pose_sigma
from adop.refine.alignment_equations import POSE_SIZE
from adop.refine.move_points import GRID_SAMPLING, PointSampling, move_points
from adop.refine.observations import point_residuals
from adop.refine.photo_set import PhotoSet, finest_scale, pixel_size
from adop.refine.point_groups import (
    PointGroups,
    bounding_side,
    group_by_voxel,
    group_means,
    mean_radiance,
)
from adop.refine.shift_equations import (
    START_DAMPING,
    SUMS,
    PositionPrior,
    ShiftEquations,
    add_prior,
    add_residuals,
    equations_from_sums,
    is_worse,
    next_damping,
    photo_share,
    solve_shifts,
)

# Factors by which photos are reduced beyond the finest scale, before the points' search and after it.
COARSE_SCALES, FINE_SCALES = (4, 2), (1,)
SEARCHES = 2
START_POSE_DAMPING, MIN_POSE_DAMPING = 1e-3, 1e-6  # Levenberg-Marquardt's
MAX_ITERATIONS = 100  # of conjugate gradients
TOLERANCE = 1e-8  # squared norm of the residual, relative to the first, at which they end


@dataclass(frozen=True)
class PoseEquations:
    """The poses' part of the joint normal equations of P poses and K groups of points; float64.

    The E blocks of the coupling are those of each photo and each group that it sees.
    """

    matrix: Tensor  # [P, 6, 6]
    gradient: Tensor  # [P, 6]
    count: Tensor  # [P] observations
    photo: Tensor  # [E] index among the P photos
    group: Tensor  # [E]
    coupling: Tensor  # [E, 3, 6]
    depth: float  # median depth of what the photos see, scene units

    def couple_poses(self, change: Tensor, groups: int) -> Tensor:
        """Return the change [K, 3] of the groups' gradients that a change [P, 6] of the poses causes."""
        blocks = torch.einsum("eij,ej->ei", self.coupling, change[self.photo])
        return blocks.new_zeros(groups, 3).index_add_(0, self.group, blocks)

    def couple_shifts(self, shift: Tensor) -> Tensor:
        """Return the change [P, 6] of the poses' gradients that shifts [K, 3] of the groups cause: the transpose."""
        blocks = torch.einsum("eij,ei->ej", self.coupling, shift[self.group])
        return torch.zeros_like(self.gradient).index_add_(0, self.photo, blocks)


def gather_joint_equations(
    photos: PhotoSet, scale: int, groups: PointGroups, radiance: Tensor
) -> tuple[ShiftEquations, PoseEquations]:
    """Return the joint normal equations of groups of points and poses, from all photos reduced by `scale`.

    Args: radiance: [N, 3] linear light of each point.
    """
    device = photos.pipeline.device
    sums = torch.zeros(len(groups), SUMS, device=device)
    matrices, gradients, counts, blocks, depths = [], [], [], [], []
    for number, photo in enumerate(photos.indices):
        # Silhouettes would make cameras recede, see `visible_points`.
        seen = point_residuals(photos, photo, scale, radiance, silhouettes=False)
        add_residuals(sums, groups, seen)
        by_pose, weight = seen.by_pose(), seen.weight[..., None]
        weighted = (by_pose * weight).double()
        matrices.append(torch.einsum("mck,mcl->kl", weighted, by_pose.double()))
        gradients.append(torch.einsum("mck,mc->k", weighted, seen.residual.double()))
        counts.append(float(len(seen.points)))
        depths.append(float(seen.depth.median()) if len(seen.depth) else 1.0)
        group, block = torch.unique(groups.of_point[seen.points], return_inverse=True)
        coupling = torch.einsum("mck,mcl->mkl", seen.by_point * weight, by_pose).flatten(1)
        coupling = coupling.new_zeros(len(group), 3 * POSE_SIZE).index_add_(0, block, coupling)
        blocks.append((torch.full_like(group, number), group, coupling.reshape(-1, 3, POSE_SIZE).double()))
    block_photos, block_groups, couplings = (torch.cat(part) for part in zip(*blocks, strict=True))
    poses = PoseEquations(
        matrix=torch.stack(matrices),
        gradient=torch.stack(gradients),
        count=torch.tensor(counts, dtype=torch.float64, device=device),
        photo=block_photos,
        group=block_groups,
        coupling=couplings,
        depth=sorted(depths)[len(depths) // 2],
    )
    return equations_from_sums(sums), poses


def solve_poses(
    groups: ShiftEquations,
    group_damping: Tensor,
    poses: PoseEquations,
    offset: Tensor,
    config: AlignConfig,
    damping: float,
) -> Tensor:
    """Return the change [P, 6] of the poses that is best when the groups move with it, by conjugate gradients.

    Args:
        group_damping: [K] Levenberg-Marquardt's of each group, relative to its matrix.
        offset: [P, 6] twists of the poses from their start, which the prior pulls back.
        damping: Levenberg-Marquardt's of the poses, relative to their matrices' diagonals.

    Source: bundle adjustment by the Schur complement of the points (Triggs et al. 2000, section 6.1).
    """
    trace = groups.matrix.diagonal(dim1=1, dim2=2).sum(1).double()
    eye = torch.eye(3, dtype=torch.float64, device=trace.device)
    inverse = torch.linalg.inv(
        groups.matrix.double() + eye * (group_damping.double() * trace / 3 + 1e-9)[:, None, None]
    )
    sigma = pose_sigma(config, poses.depth).to(trace.device)
    prior = (poses.count / INDEPENDENT_PIXELS)[:, None] / sigma.square()
    diagonal = poses.matrix.diagonal(dim1=1, dim2=2)
    blocks = poses.matrix + torch.diag_embed(damping * diagonal + prior + 1e-12)

    def eliminated(gradient: Tensor) -> Tensor:
        return poses.couple_shifts(torch.einsum("kij,kj->ki", inverse, gradient))

    def schur_complement(change: Tensor) -> Tensor:
        own = torch.einsum("nij,nj->ni", blocks, change)
        return own - eliminated(poses.couple_poses(change, len(inverse)))

    right = -(poses.gradient + prior * offset) + eliminated(groups.gradient.double())
    return conjugate_gradients(schur_complement, right, torch.linalg.inv(blocks))


def conjugate_gradients(
    operator: Callable[[Tensor], Tensor], right: Tensor, preconditioner: Tensor
) -> Tensor:
    """Return the solution [P, 6] of `operator(x) = right`.

    Args:
        operator: symmetric and positive definite.
        right: [P, 6].
        preconditioner: [P, 6, 6] blocks of an approximate inverse.
    """
    residual = right
    x, scaled = torch.zeros_like(residual), torch.einsum("nij,nj->ni", preconditioner, residual)
    direction, norm = scaled, (residual * scaled).sum()
    first = norm
    for _ in range(MAX_ITERATIONS):
        if norm <= TOLERANCE * first:
            break
        image = operator(direction)
        length = norm / (direction * image).sum()
        x, residual = x + length * direction, residual - length * image
        scaled = torch.einsum("nij,nj->ni", preconditioner, residual)
        next_norm = (residual * scaled).sum()
        direction, norm = scaled + next_norm / norm * direction, next_norm
    return x


@torch.no_grad()
def refine_poses_and_points(
    photos: PhotoSet,
    config: MovePointsConfig,
    align: AlignConfig,
    grid_sampling: PointSampling = GRID_SAMPLING,
) -> float:
    """Move points and poses to where the photos show the points' colours; return the points' median shift.

    Adjusts both in small photos first. Then, `SEARCHES` times, points search for their position (`move_points`),
    which reaches farther than a gradient, and both are adjusted again. Each search begins at the points' start:
    positions found with worse poses are wrong. Single points, if asked for, move last.

    Args:
        photos: whose cameras are moved, and that the points are compared with.
        grid_sampling: of the points in the searches.

    Returns: the median shift of the points from their start, scene units.
    """
    points = photos.pipeline.points
    start = points.xyz.clone()
    if config.grouped:
        adjust_bundle(photos, start, config, align, COARSE_SCALES)
        for _ in range(SEARCHES):
            points.set_xyz(start)
            move_points(photos, replace(config, individual=False), grid_sampling=grid_sampling)
            adjust_bundle(photos, start, config, align, FINE_SCALES)
    if config.individual:
        move_points(photos, replace(config, grouped=False), start, grid_sampling)
    return float((points.xyz - start).norm(dim=1).median())


@torch.no_grad()
def adjust_bundle(
    photos: PhotoSet,
    start: Tensor,
    config: MovePointsConfig,
    align: AlignConfig,
    scales: tuple[int, ...],
) -> None:
    """Move poses and groups of points together by Levenberg-Marquardt, in photos reduced by one scale after another.

    In the end the similarity transform that the points have in common is taken out of points and poses.

    Args:
        start: [N, 3] where points were right to within `config.position_prior`.
        scales: factors by which the photos are reduced beyond the finest scale.
    """
    pipeline = photos.pipeline
    size, pixel = bounding_side(start), pixel_size(pipeline, photos.indices)
    finest = finest_scale(pipeline)
    groups, prior = (
        group_by_voxel(start, config.sizes[0] * size),
        PositionPrior(start, config.position_prior * size),
    )
    poses = pipeline.cameras.poses[photos.indices].clone()
    bundle = _Bundle(photos, groups, prior, poses, config, align)
    with Bar(total=len(scales) * (config.iterations + 1), desc="adjusting poses and points") as bar:
        for scale in scales:
            radiance = mean_radiance(pipeline, scale * finest * pixel)
            linearise = functools.partial(gather_joint_equations, photos, scale * finest, groups, radiance)
            equations = _minimise(bundle, linearise, bar)
    fix_gauge(pipeline, photos.indices, start, groups, photo_share(equations, prior.sigma))


@dataclass(frozen=True)
class _Bundle:
    """Poses and groups of points that are adjusted together, their priors and settings."""

    photos: PhotoSet
    groups: PointGroups
    prior: PositionPrior  # of the points
    start_poses: Tensor  # [P, 4, 4] float64 world_to_camera
    config: MovePointsConfig
    align: AlignConfig

    def solve(
        self, equations: ShiftEquations, poses: PoseEquations, group_damping: Tensor, damping: float
    ) -> tuple[Tensor, Tensor]:
        """Return the changes [P, 6] of the poses and the shifts [K, 3] of the groups."""
        displacement = self.photos.pipeline.points.xyz - self.prior.start
        equations = add_prior(equations, self.groups, displacement, self.prior.sigma)
        present = self.photos.pipeline.cameras.poses[self.photos.indices]
        offset = se3_log(present @ torch.linalg.inv(self.start_poses))
        change = solve_poses(equations, group_damping, poses, offset, self.align, damping)
        coupled = poses.couple_poses(change, len(self.groups)).to(equations.gradient)
        equations = replace(equations, gradient=equations.gradient + coupled)
        return change, solve_shifts(equations, self.groups, group_damping, self.config.smoothness)


def _minimise(
    bundle: _Bundle, linearise: Callable[[], tuple[ShiftEquations, PoseEquations]], bar: Bar
) -> ShiftEquations:
    """Take `config.iterations` steps at one scale; return the groups' equations at the best poses and points.

    A step that raises the mean cost is undone. Otherwise only the shifts of groups that got worse are undone.
    """
    points, cameras = bundle.photos.pipeline.points, bundle.photos.pipeline.cameras
    photos = bundle.photos.indices
    of_point = bundle.groups.of_point
    damping = START_POSE_DAMPING
    group_damping = torch.full((len(bundle.groups),), START_DAMPING, device=points.device)
    best, poses = linearise()
    bar.update()
    for _ in range(bundle.config.iterations):
        before = cameras.poses[photos]
        change, shift = bundle.solve(best, poses, group_damping, damping)
        cameras.set_poses(photos, se3_exp(change) @ before)
        points.move(shift[of_point])
        tried, tried_poses = linearise()
        bar.update()
        if _mean_cost(tried) > _mean_cost(best):
            cameras.set_poses(photos, before)
            points.move(-shift[of_point])
            damping, group_damping = 10 * damping, 10 * group_damping
            continue
        worse = is_worse(best, tried)
        points.move(-torch.where(worse[:, None], shift, 0.0)[of_point])
        damping, group_damping = max(damping / 4, MIN_POSE_DAMPING), next_damping(group_damping, worse)
        best, poses = tried, tried_poses
    return best


def _mean_cost(equations: ShiftEquations) -> float:
    return float(equations.cost.sum() / equations.count.sum().clamp_min(1))


def fix_gauge(
    pipeline: Pipeline, photos: list[int], start: Tensor, groups: PointGroups, weight: Tensor
) -> None:
    """Apply to points and poses the similarity transform that brings the points back to their start.

    No image changes: photos determine points and poses only up to such a transform. Each group counts as one point,
    because its points err alike, and a surface near the cameras has most of the points.

    Args:
        photos: whose poses are transformed.
        start: [N, 3] world.
        weight: [K] of each group, how far photos determine its position. Other groups stayed at their start, and say
            nothing of a motion that the rest have in common.
    """
    if not float(weight.sum()) > 0:
        return
    moved = group_means(pipeline.points.xyz, groups)
    scale, rotation, translation = fit_similarity(moved, group_means(start, groups), weight)
    pipeline.points.set_xyz(scale * pipeline.points.xyz.double() @ rotation.T + translation)
    poses = pipeline.cameras.poses[photos]
    turned = poses[:, :3, :3] @ rotation.T
    poses[:, :3, 3] = scale * poses[:, :3, 3] - turned @ translation
    poses[:, :3, :3] = turned
    pipeline.cameras.set_poses(photos, poses)
    motion = pipeline.cameras.motion[photos]
    motion[:, :3] *= scale
    pipeline.cameras.set_motion(photos, motion)


def fit_similarity(source: Tensor, target: Tensor, weight: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the scale, rotation [3, 3] and translation [3] that bring points closest to others, float64.

    Args:
        source: [N, 3].
        target: [N, 3].
        weight: [N] of each pair's squared distance.

    Source: Umeyama 1991.
    """
    share = (weight.double() / weight.double().sum())[:, None]
    a, b = source.double(), target.double()
    mean_a, mean_b = (share * a).sum(0), (share * b).sum(0)
    a, b = a - mean_a, b - mean_b
    u, s, vt = torch.linalg.svd((share * b).T @ a)
    # The nearest orthogonal matrix may be a reflection; then the least singular direction is flipped.
    signs = torch.ones(3, dtype=torch.float64, device=a.device)
    signs[2] = torch.sign(torch.linalg.det(u) * torch.linalg.det(vt))
    rotation = u @ torch.diag(signs) @ vt
    scale = (s * signs).sum() / (share * a.square()).sum().clamp_min(1e-30)
    return scale, rotation, mean_b - scale * rotation @ mean_a
