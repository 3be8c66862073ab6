"""Cameras aligned with their photos by Gauss-Newton on images: a pose for each photo, lenses shared by photos."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from adop.config import AlignConfig
from adop.geometry.camera import Camera
from adop.geometry.rigid_motion import se3_log
from adop.progress import Bar
from adop.refine.alignment_equations import (
    POSE_SIZE,
    AlignmentEquations,
    CameraColumns,
    CameraTrajectory,
    ImagePair,
    RefinedParameters,
    lens_columns,
    normal_equations,
    pixel_shift,
)
from adop.refine.photo_set import PhotoSet, Renderer, render_points
from adop.scene.photo_cache import reduction

INDEPENDENT_PIXELS = 2000  # of a photo, for the priors: residuals of neighbouring pixels are correlated
START_DAMPING, MIN_DAMPING, MAX_DAMPING = 1e-3, 1e-6, 1e4  # Levenberg-Marquardt's
BLUR_PX = 0.7  # standard deviation of the blur of render and photo, pixels of the scale
MIN_SIDE_PX = 48  # shorter side of the photos at the coarsest scale
# Standard deviations of a lens's priors. Focal length and centre are relative to the focal length.
FOCAL_SIGMA, RADIAL_SIGMA, TANGENTIAL_SIGMA = 0.02, 0.05, 0.005
TRIED_PHOTOS = 8  # spread over the capture, that tell whether there is anything to align
TRIED_PIXELS = 15_000  # of each, that are compared
MIN_PROGRESS = 0.003  # their next scale begins when a step lowers their cost by less than this fraction
UNKNOWN = AlignmentEquations(torch.zeros(0, 0), torch.zeros(0), math.inf, 0.0, math.nan)


@dataclass(frozen=True)
class CameraMove:
    """How far the camera of one photo was moved."""

    photo: int
    pixels: float  # median shift of the image, pixels of the photo; of the rejected result if not kept
    degrees: float
    distance: float  # of the camera centre, scene units
    kept: bool  # False: the result was no better than the start, where the camera was left


@dataclass
class PhotoState:
    """One photo during its alignment."""

    photo: int
    start: CameraTrajectory
    trajectory: CameraTrajectory  # the best so far
    equations: AlignmentEquations = UNKNOWN  # at `trajectory`
    damping: float = START_DAMPING
    step_px: float = math.inf  # by which the last accepted step moved the image, pixels of the present scale
    total_px: float = 0.0  # from the start to the result, rejected or not, pixels of the photo
    kept: bool = False  # whether the result is clearly better than the start


@dataclass(frozen=True)
class _Trial:
    """A step that is tried for one photo."""

    state: PhotoState
    trajectory: CameraTrajectory
    equations: AlignmentEquations
    depth: Tensor  # [1, 1, h, w]


class LensAlignment:
    """The alignment of photos that share a lens.

    Args:
        photos: all of one lens.
        lens: its index.
        refined: the parameters that may change.
        render: what is compared with the photos.
    """

    def __init__(
        self, photos: PhotoSet, lens: int, config: AlignConfig, refined: RefinedParameters, render: Renderer
    ) -> None:
        self.photos, self.lens, self.config, self.refined, self.render = photos, lens, config, refined, render
        cameras = photos.pipeline.cameras
        model, distortion = cameras.lens_model[lens], cameras.distortion[lens]
        self.columns = CameraColumns(
            lens_columns(model, distortion, config, refined), refined.rolling_shutter
        )
        self.lens_start = self.lens_values()  # [4 + D] float64
        self._directions: dict[int, tuple[Tensor, Tensor]] = {}  # lens values and directions, by scale

    def lens_values(self) -> Tensor:
        """Return intrinsics and distortion, concatenated [4 + D] float64."""
        return self.photos.pipeline.cameras.lens_values(self.lens)

    def set_lens(self, values: Tensor) -> None:
        """Set intrinsics and distortion, concatenated [4 + D]."""
        self.photos.pipeline.cameras.set_lens(self.lens, values)

    def trajectory(self, photo: int) -> CameraTrajectory:
        """Return the present trajectory of a photo's camera."""
        cameras = self.photos.pipeline.cameras
        return CameraTrajectory(cameras.poses[photo].cpu().clone(), cameras.motion[photo].cpu().clone())

    def start_states(self) -> list[PhotoState]:
        """Return every photo at its present trajectory."""
        starts = [(photo, self.trajectory(photo)) for photo in self.photos.indices]
        return [PhotoState(photo, start, start) for photo, start in starts]

    def set_trajectory(self, photo: int, trajectory: CameraTrajectory, scale: int) -> Camera:
        """Set the trajectory of a photo's camera, and return the camera of the photo reduced by `scale`."""
        pipeline = self.photos.pipeline
        pipeline.cameras.set_pose(photo, trajectory.pose)
        pipeline.cameras.set_motion(photo, trajectory.motion)
        return pipeline.camera(torch.tensor([photo])).reduced(scale)

    def directions(self, scale: int) -> Tensor:
        """Return the lens's directions [h, w, 3], depth 1, at the pixels of photos reduced by `scale`.

        They are computed once for each state of the lens.
        """
        lens = self.lens_values()
        if scale not in self._directions or not self._directions[scale][0].equal(lens):
            pipeline = self.photos.pipeline
            first = pipeline.cameras.lens_of.index(self.lens)
            camera = pipeline.camera(torch.tensor([first])).reduced(scale)
            directions = camera.lens_directions(camera.pixel_centres())
            self._directions[scale] = lens, directions.reshape(camera.height, camera.width, 3)
        return self._directions[scale][1]

    def linearise(
        self, photo: int, trajectory: CameraTrajectory, scale: int
    ) -> tuple[AlignmentEquations, Tensor]:
        """Return a photo's normal equations at a trajectory, and the depth [1, 1, h, w] that they were made with."""
        camera = self.set_trajectory(photo, trajectory, scale)
        rendering = self.render(self.photos.pipeline, camera, torch.tensor([photo]))
        pair = ImagePair(rendering.image, rendering.depth, *self.photos.reduced(photo, scale))
        sigma, pixels, directions = BLUR_PX, self.config.pixels_per_photo, self.directions(scale)
        equations = normal_equations(pair, camera, self.columns, sigma, pixels, directions)
        return equations, rendering.depth


@torch.no_grad()
def align_cameras(
    photos: PhotoSet,
    config: AlignConfig,
    refined: RefinedParameters,
    render: Renderer = render_points,
    finest_only: bool = False,
) -> list[CameraMove]:
    """Move the cameras of photos, and their lenses, until renderings agree with the photos; return the moves.

    Works from coarse to fine. A step that makes a photo worse is taken back, and a photo that ends no better than it
    began keeps its start. Where all photos must agree on a lens, a few are aligned first: if they end no better, the
    lens and all its photos keep their start. The points stay fixed, so that the cameras cannot drift together.

    Args:
        photos: whose cameras are moved.
        refined: the parameters that may change.
        render: what is compared with the photos: `render_points` or `render_network`.
        finest_only: leave out the coarse scales; for cameras that are nearly right.

    Source: Levenberg-Marquardt on images (Baker & Matthews 2004), the lens solved by the Schur complement of the
        poses (Triggs et al. 2000).
    """
    cameras = photos.pipeline.cameras
    lenses = sorted({cameras.lens_of[i] for i in photos.indices})
    moves: list[CameraMove] = []
    for lens in lenses:
        of_lens = replace(photos, indices=[i for i in photos.indices if cameras.lens_of[i] == lens])
        scales = _scales(cameras.lens_size[lens], config, finest_only)
        moves += _align_lens(LensAlignment(of_lens, lens, config, refined, render), scales)
    return moves


def _scales(size: tuple[int, int], config: AlignConfig, finest_only: bool) -> list[int]:
    """Return the factors by which photos of a size are reduced, coarsest first."""
    finest = reduction(size, config.longest_side)
    scales = [finest * 2**i for i in reversed(range(1 if finest_only else config.scales))]
    return [s for s in scales if min(size) // s >= MIN_SIDE_PX] or [finest]


def _align_lens(alignment: LensAlignment, scales: list[int]) -> list[CameraMove]:
    """Align the photos of one lens at one scale after another; return the moves."""
    states = alignment.start_states()
    if _is_aligned(alignment, scales):
        return [_finish(alignment, state) for state in states]
    with _progress_bar("aligning cameras", alignment, scales) as bar:
        moving = _align_coarsely(alignment, states, scales, bar) if len(scales) > 1 else states
        if moving:
            _minimise(alignment, moving, scales[-1], bar)
            _reject_failures(alignment, moving, scales[-1])
    return [_finish(alignment, state) for state in states]


def _progress_bar(title: str, alignment: LensAlignment, scales: list[int]) -> Bar:
    steps = len(scales) * (alignment.config.iterations + 1)
    return Bar(total=steps, desc=title)


def _is_aligned(alignment: LensAlignment, scales: list[int]) -> bool:
    """Return whether aligning a few photos, spread over the capture, improves neither the lens nor them; undo it.

    Without a lens to refine, each photo is judged by itself, and a few say nothing of the others.
    """
    states = alignment.start_states()
    few = states[:: -(-len(states) // TRIED_PHOTOS)]
    if len(scales) == 1 or not alignment.columns.lens or len(few) == len(states):
        return False
    config = replace(alignment.config, pixels_per_photo=min(TRIED_PIXELS, alignment.config.pixels_per_photo))
    trial = LensAlignment(alignment.photos, alignment.lens, config, alignment.refined, alignment.render)
    with _progress_bar("checking cameras", trial, scales[:-1]) as bar:
        improved = _align_coarsely(trial, few, scales, bar, MIN_PROGRESS)
    alignment.set_lens(alignment.lens_start)
    return not improved


def _align_coarsely(
    alignment: LensAlignment,
    states: list[PhotoState],
    scales: list[int],
    bar: Bar,
    min_progress: float = 0.0,
) -> list[PhotoState]:
    """Align photos at all scales but the finest; return those that it improved, or all if it changed their lens."""
    for scale in scales[:-1]:
        _minimise(alignment, states, scale, bar, min_progress)
    _reject_failures(alignment, states, scales[-2])
    lens_moved = not alignment.lens_values().equal(alignment.lens_start)
    return [state for state in states if state.kept or lens_moved]


def _minimise(
    alignment: LensAlignment, states: list[PhotoState], scale: int, bar: Bar, min_progress: float = 0.0
) -> None:
    """Take up to `config.iterations` steps at one scale; converged photos rest, unless their lens is refined.

    Args:
        min_progress: a step that lowers the sum of the costs by a smaller fraction is the last; one taken back is not.
    """
    for state in states:
        state.equations, _ = alignment.linearise(state.photo, state.trajectory, scale)
        state.step_px, state.damping = math.inf, START_DAMPING
    bar.update()
    lens_damping = START_DAMPING
    for _ in range(alignment.config.iterations):
        active = [s for s in states if s.step_px > alignment.config.converged_px and s.damping < MAX_DAMPING]
        bar.update()
        if active:
            before = sum(s.equations.cost for s in states)
            moving = states if alignment.columns.lens else active
            lens_damping = _step(alignment, states, moving, scale, lens_damping)
            if (1 - min_progress) * before < sum(s.equations.cost for s in states) < before:
                break


def _step(
    alignment: LensAlignment,
    states: list[PhotoState],
    moving: list[PhotoState],
    scale: int,
    lens_damping: float,
) -> float:
    """Try a step of the lens and of the photos that are `moving`, keep what improves; return the next lens damping."""
    has_lens, before = bool(alignment.columns.lens), alignment.lens_values()
    lens_change, photo_changes = solve(alignment, states, lens_damping)
    changes = {state.photo: change for state, change in zip(states, photo_changes, strict=True)}
    after = before.clone()
    after[alignment.columns.lens] += lens_change
    alignment.set_lens(after)
    trials = []
    for state in moving:
        trajectory = state.trajectory.updated(changes[state.photo])
        trials.append(_Trial(state, trajectory, *alignment.linearise(state.photo, trajectory, scale)))
    if has_lens and sum(t.equations.cost for t in trials) > sum(s.equations.cost for s in states):
        alignment.set_lens(before)
        for state in states:
            state.damping = min(state.damping * 4, MAX_DAMPING / 2)
        return lens_damping * 10
    for trial in trials:
        _accept_or_damp(alignment, trial, scale)
    return max(lens_damping / 4, MIN_DAMPING)


def _accept_or_damp(alignment: LensAlignment, trial: _Trial, scale: int) -> None:
    """Take a photo's trial trajectory if it costs no more, else raise its damping."""
    state = trial.state
    if trial.equations.cost <= state.equations.cost:
        old = alignment.set_trajectory(state.photo, state.trajectory, scale)
        new = alignment.set_trajectory(state.photo, trial.trajectory, scale)
        state.step_px = pixel_shift(old, new, trial.depth, alignment.directions(scale))
        state.trajectory, state.equations = trial.trajectory, trial.equations
        state.damping = max(state.damping / 4, MIN_DAMPING)
        return
    state.damping *= 10
    if alignment.columns.lens:
        # The lens has changed, and with it the equations at the old trajectory.
        state.equations, _ = alignment.linearise(state.photo, state.trajectory, scale)


def solve(
    alignment: LensAlignment, states: list[PhotoState], lens_damping: float
) -> tuple[Tensor, list[Tensor]]:
    """Return the change [L] of the lens's columns, and the change [6 or 12] of each photo's.

    Source: the Schur complement of the photos' blocks (Triggs et al. 2000, section 6.1).
    """
    columns = alignment.columns
    lens = slice(columns.per_photo, None)
    matrix = torch.zeros(len(columns.lens), len(columns.lens), dtype=torch.float64)
    gradient = torch.zeros(len(columns.lens), dtype=torch.float64)
    depths = sorted(state.equations.depth for state in states if state.equations.coverage > 0)
    depth = depths[len(depths) // 2] if depths else 1.0
    parts = []
    for state in states:
        inverse, coupling, photo_gradient = _photo_block(alignment, state, depth)
        parts.append((inverse, coupling, photo_gradient))
        matrix += state.equations.matrix[lens, lens] - coupling.T @ inverse @ coupling
        gradient += state.equations.gradient[lens] - coupling.T @ inverse @ photo_gradient
    change = torch.zeros_like(gradient)
    if columns.lens:
        prior = _lens_prior(alignment)
        offset = (alignment.lens_values() - alignment.lens_start)[columns.lens]
        damped = matrix + torch.diag(prior + lens_damping * matrix.diagonal().clamp_min(0) + 1e-12)
        change = -torch.linalg.solve(damped, gradient + prior * offset)
    return change, [-inverse @ (own + coupling @ change) for inverse, coupling, own in parts]


def pose_sigma(config: AlignConfig, depth: float) -> Tensor:
    """Return the standard deviations [6] float64 of the prior of a pose's twist, for a camera that sees to `depth`."""
    sigma = [config.translation_prior * depth] * 3 + [math.radians(config.rotation_prior_degrees)] * 3
    return torch.tensor(sigma, dtype=torch.float64)


def _photo_block(alignment: LensAlignment, state: PhotoState, depth: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return one photo's part of the equations, with its prior and damping; n is 6 or 12.

    Returns: the inverse [n, n] of its block, its coupling [n, L] with the lens, and its gradient [n].
    """
    matrix, gradient, count = state.equations.matrix, state.equations.gradient, alignment.columns.per_photo
    sigma = pose_sigma(alignment.config, depth)
    sigma = torch.cat((sigma, alignment.config.rolling_shutter_prior * sigma))[:count]
    prior = 1 / sigma.square() / INDEPENDENT_PIXELS
    inverse = torch.zeros(count, count, dtype=torch.float64)
    if state.equations.coverage > 0 and (alignment.refined.poses or count > POSE_SIZE):
        free = slice(0 if alignment.refined.poses else POSE_SIZE, count)
        block = matrix[free, free]
        inverse[free, free] = torch.linalg.inv(
            block + torch.diag(state.damping * block.diagonal() + prior[free])
        )
    twist = se3_log(state.trajectory.pose @ torch.linalg.inv(state.start.pose))
    offset = torch.cat((twist, state.trajectory.motion))[:count]
    return inverse, matrix[:count, count:], gradient[:count] + prior * offset


def _lens_prior(alignment: LensAlignment) -> Tensor:
    """Return the weight [L] of the prior of each refined column of the lens, in the units of the equations."""
    focal = float(alignment.lens_start[0])
    sigma = [
        FOCAL_SIGMA * focal if c < 4 else TANGENTIAL_SIGMA if c in (6, 7) else RADIAL_SIGMA
        for c in alignment.columns.lens
    ]
    return 1 / torch.tensor(sigma, dtype=torch.float64).square() / INDEPENDENT_PIXELS


def _reject_failures(alignment: LensAlignment, states: list[PhotoState], scale: int) -> None:
    """Put photos that are not clearly better back to their start; all of them, if the lens is not better for all."""
    lens, factor = alignment.lens_values(), 1 - alignment.config.min_improvement
    alignment.set_lens(alignment.lens_start)
    starts = [alignment.linearise(state.photo, state.start, scale) for state in states]
    all_better = sum(s.equations.cost for s in states) < factor * sum(start.cost for start, _ in starts)
    if all_better:
        alignment.set_lens(lens)
    for state, (start, depth) in zip(states, starts, strict=True):
        old = alignment.set_trajectory(state.photo, state.start, 1)
        new = alignment.set_trajectory(state.photo, state.trajectory, 1)
        state.total_px = pixel_shift(old, new, depth, alignment.directions(scale))
        better = state.equations.cost < factor * start.cost
        state.kept = better and (all_better or not alignment.columns.lens)
        if not state.kept:
            state.trajectory = state.start


def _finish(alignment: LensAlignment, state: PhotoState) -> CameraMove:
    """Set the camera of a photo to its result; return how far that is from its start."""
    alignment.set_trajectory(state.photo, state.trajectory, 1)
    turn = se3_log(state.trajectory.pose @ torch.linalg.inv(state.start.pose))[3:]
    centres = [-pose[:3, :3].T @ pose[:3, 3] for pose in (state.trajectory.pose, state.start.pose)]
    distance = float((centres[0] - centres[1]).norm())
    return CameraMove(state.photo, state.total_px, math.degrees(float(turn.norm())), distance, state.kept)
