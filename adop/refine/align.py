"""Cameras aligned by Gauss-Newton on the picture: poses of the photos, lenses shared by them."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from tqdm import tqdm

from adop.config import AlignConfig
from adop.geometry.camera import Camera
from adop.geometry.rigid_motion import se3_exp, se3_log
from adop.model.hole_filling import filled_depth
from adop.model.pipeline import Pipeline
from adop.model.points import MIN_RADIANCE
from adop.refine.alignment_equations import POSE, AlignmentEquations, normal_equations, pixel_shift
from adop.scene.photo_cache import PhotoCache, reduction

INDEPENDENT = 2000  # of a photo's pixels, as the priors count them: neighbours err alike
DAMPING = 1e-3
BLUR_PX = 0.7  # standard deviation of the blur of render and photo, pixels of the scale
NOTHING_KNOWN = AlignmentEquations(torch.zeros(0, 0), torch.zeros(0), math.inf, 0.0, math.nan)
SMALLEST = 48  # pixels of the shorter side of the coarsest pictures
MOST_DAMPING = 1e4
# How far a lens may be off: focal length and centre relative to the focal length, then OpenCV's coefficients.
FOCAL_TRUST, RADIAL_TRUST, TANGENTIAL_TRUST = 0.02, 0.05, 0.005


@dataclass(frozen=True)
class Rendering:
    """An image of the scene as a photo's camera would take it, and the depth of its pixels."""

    image: Tensor  # [1, 3, H, W] in [0, 1], as the photo's camera would take it
    depth: Tensor  # [1, 1, H, W] holes filled; +inf where nothing is near


@dataclass(frozen=True)
class CameraPlacement:
    """Where a camera is, and how it moves while its rows are read out."""

    pose: Tensor  # [4, 4] float64 world to camera, at the middle row
    motion: Tensor  # [6] float64, see adop.geometry.rolling_shutter

    def changed(self, change: Tensor) -> CameraPlacement:
        """Return the place after the twist [6] of its pose, and, of a change [12], that of its motion."""
        pose = se3_exp(change[:POSE]) @ self.pose
        return CameraPlacement(pose, self.motion + change[POSE:] if len(change) > POSE else self.motion)


@dataclass
class TrackedPhoto:
    """One photo while it is aligned."""

    photo: int
    start: CameraPlacement
    place: CameraPlacement  # the best so far
    equations: AlignmentEquations = NOTHING_KNOWN  # there
    damping: float = DAMPING
    shift: float = math.inf  # pixels of the present scale that the last accepted step moved the picture
    away: float = 0.0  # pixels of the photo from the start, before it was put back
    kept: bool = False  # clearly better than at the start


@dataclass(frozen=True)
class CameraMove:
    """What became of one photo."""

    photo: int
    pixels: float  # median shift of its picture from the start, pixels of the photo; where not kept, of what was tried
    degrees: float
    distance: float  # of the camera centre, scene units
    kept: bool  # False: no better than the start, and left there


def render_points(pipeline: Pipeline, camera: Camera, photo: Tensor) -> Rendering:
    """Return the hole-filled points in their own colours, without network and environment."""
    raster = replace(pipeline.raster, levels=pipeline.fill_levels)
    colours = pipeline.points.features[:, :3]
    levels = pipeline.draw(camera, colours, raster)
    dark = [torch.full_like(image, MIN_RADIANCE) for image in levels.features]
    filled = pipeline.fill_holes(levels, dark)
    image = pipeline.photo(filled.colours[0], camera, photo)
    return Rendering(image.clamp(0, 1), filled_depth(levels, filled, pipeline.fill_levels))


def render_network(pipeline: Pipeline, camera: Camera, photo: Tensor) -> Rendering:
    """Return the network's picture of a photo's view."""
    rendered = pipeline.render(camera)
    image = pipeline.photo(rendered.image, camera, photo)
    return Rendering(image.clamp(0, 1), pipeline.depth(rendered))


@dataclass(frozen=True)
class RefinedParameters:
    """Which cameras' parameters are refined."""

    poses: bool = True
    intrinsics: bool = True
    distortion: bool = True
    rolling_shutter: bool = False

    def any(self) -> bool:
        """Return whether there is anything to refine."""
        return self.poses or self.intrinsics or self.distortion or self.rolling_shutter


def lens_columns(
    model: str, distortion: Tensor, config: AlignConfig, refined: RefinedParameters
) -> list[int]:
    """Return which of intrinsics and distortion, end to end, are refined: what the lens has, and k1 and k2."""
    columns: list[int] = []
    if refined.intrinsics and model != "ocam":
        columns += [0, 1]
    if refined.intrinsics and config.principal_point:
        columns += [2, 3]
    if refined.distortion and model != "ocam":
        tangential = (2, 3) if model == "opencv" else ()
        used = [i for i, value in enumerate(distortion.tolist()) if i < 2 or value != 0]
        columns += [4 + i for i in used if config.principal_point or i not in tangential]
    return columns


@dataclass(frozen=True)
class Alignment:
    """The photos of one lens, and how they are compared with the scene."""

    pipeline: Pipeline
    cache: PhotoCache
    config: AlignConfig
    refined: RefinedParameters
    view: Callable[[Pipeline, Camera, Tensor], Rendering]
    lens: int
    columns: list[int]  # of intrinsics and distortion end to end, that are refined
    lens_start: Tensor  # [4 + D] float64
    # What `directions` found, by scale, and of which lens.
    directions_at: dict[int, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def lens_values(self) -> Tensor:
        """Return intrinsics and distortion, end to end, float64."""
        return self.pipeline.cameras.lens_values(self.lens)

    def set_lens(self, values: Tensor) -> None:
        """Put intrinsics and distortion, end to end, into the pipeline."""
        self.pipeline.cameras.set_lens(self.lens, values)

    @property
    def own(self) -> int:
        """How many columns of the equations are a photo's own: its pose's, and its motion's where that is refined."""
        return 2 * POSE if self.refined.rolling_shutter else POSE

    def camera(self, photo: int, place: CameraPlacement, scale: int) -> Camera:
        """Put a photo's camera at a place, and return it, 1/scale as large."""
        self.pipeline.cameras.set_pose(photo, place.pose)
        self.pipeline.cameras.set_motion(photo, place.motion)
        return self.pipeline.camera(torch.tensor([photo])).reduced(scale)

    def directions(self, scale: int) -> Tensor:
        """Return what the lens sees at the pixels [H, W, 3] of pictures 1/scale as large, depth 1: once a lens."""
        lens = self.lens_values()
        if scale not in self.directions_at or not self.directions_at[scale][0].equal(lens):
            first = self.pipeline.cameras.lens_of.index(self.lens)
            camera = self.pipeline.camera(torch.tensor([first])).reduced(scale)
            seen = camera.lens_directions(camera.pixel_centres())
            self.directions_at[scale] = lens, seen.reshape(camera.height, camera.width, 3)
        return self.directions_at[scale][1]

    def look(self, photo: int, place: CameraPlacement, scale: int) -> tuple[AlignmentEquations, Tensor]:
        """Return the equations of a photo at a place, and the depth [1, 1, h, w] that they were made with."""
        camera = self.camera(photo, place, scale)
        seen = self.view(self.pipeline, camera, torch.tensor([photo]))
        image, mask = self.cache.reduced(photo, scale, self.pipeline.device)
        sigma, pixels = BLUR_PX, self.config.pixels_per_photo
        pictures, rolling = (seen.image, image, seen.depth, mask), self.refined.rolling_shutter
        directions = self.directions(scale)
        made = normal_equations(*pictures, camera, self.columns, sigma, pixels, rolling, directions)
        return made, seen.depth


@torch.no_grad()
def align_cameras(
    pipeline: Pipeline,
    cache: PhotoCache,
    photos: list[int],
    config: AlignConfig,
    refined: RefinedParameters = RefinedParameters(),
    view: Callable[[Pipeline, Camera, Tensor], Rendering] = render_points,
    finest_only: bool = False,
) -> list[CameraMove]:
    """Move the cameras of `photos`, and their lenses, to where the scene's pictures meet the photos.

    Coarse to fine; each step is tried, and taken back where it makes a photo worse. A photo that ends no better than
    it began is left where it was. The points stay, so that nothing common to all cameras can drift.

    Args:
        view: what is compared with the photos: `render_points` or `render_network`.
        finest_only: leave the coarse scales out, for cameras that are nearly right.

    Source: design.md section 4; Levenberg-Marquardt with the lens eliminated last (Triggs et al. 2000).
    """
    found: list[CameraMove] = []
    lenses = sorted({pipeline.cameras.lens_of[i] for i in photos})
    scales_of = {lens: _scales(pipeline.cameras.lens_size[lens], config, finest_only) for lens in lenses}
    rounds = sum(len(scales) * (config.iterations + 1) for scales in scales_of.values())
    with tqdm(total=rounds, desc="aligning cameras", leave=False, disable=None) as bar:
        for lens, scales in scales_of.items():
            own = [i for i in photos if pipeline.cameras.lens_of[i] == lens]
            columns = lens_columns(
                pipeline.cameras.lens_model[lens], pipeline.cameras.distortion[lens], config, refined
            )
            one = Alignment(pipeline, cache, config, refined, view, lens, columns, torch.empty(0))
            one = replace(one, lens_start=one.lens_values())
            starts = [
                CameraPlacement(
                    pipeline.cameras.poses[i].cpu().clone(), pipeline.cameras.motion[i].cpu().clone()
                )
                for i in own
            ]
            tracked = [TrackedPhoto(photo, start, start) for photo, start in zip(own, starts, strict=True)]
            for scale in scales[:-1]:
                _descend(one, tracked, scale, bar)
            moving = tracked
            if len(scales) > 1:
                _put_back(one, tracked, scales[-2])
                moved = not one.lens_values().equal(one.lens_start)
                moving = [t for t in tracked if t.kept or moved]
            if moving:
                _descend(one, moving, scales[-1], bar)
                _put_back(one, moving, scales[-1])
            found += [_settle(one, t) for t in tracked]
    return found


def _scales(size: tuple[int, int], config: AlignConfig, finest_only: bool) -> list[int]:
    """Return the factors by which photos are reduced, coarse first."""
    finest = reduction(size, config.longest_side)
    scales = [finest * 2**i for i in reversed(range(1 if finest_only else config.scales))]
    return [s for s in scales if min(size) // s >= SMALLEST] or [finest]


def _descend(one: Alignment, tracked: list[TrackedPhoto], scale: int, bar: tqdm) -> None:
    """Take up to `iterations` steps at one scale; photos that stand still are left alone, unless the lens needs them."""
    for t in tracked:
        t.equations, _ = one.look(t.photo, t.place, scale)
        t.shift, t.damping = math.inf, DAMPING
    bar.update()
    lens_damping = DAMPING
    for _ in range(one.config.iterations):
        active = [t for t in tracked if t.shift > one.config.converged_px and t.damping < MOST_DAMPING]
        bar.update()
        if not active:
            continue
        if one.columns:
            active = tracked
        lens_change, own_changes = solve(one, tracked, lens_damping)
        changes = {t.photo: change for t, change in zip(tracked, own_changes, strict=True)}
        before = one.lens_values()
        after = before.clone()
        after[one.columns] += lens_change
        one.set_lens(after)
        trials = []
        for t in active:
            place = t.place.changed(changes[t.photo])
            trials.append((t, place, *one.look(t.photo, place, scale)))
        if one.columns and sum(e.cost for _, _, e, _ in trials) > sum(t.equations.cost for t in tracked):
            one.set_lens(before)
            lens_damping *= 10
            for t in tracked:
                t.damping = min(t.damping * 4, MOST_DAMPING / 2)
            continue
        lens_damping = max(lens_damping / 4, 1e-6)
        for t, place, equations, depth in trials:
            if equations.cost <= t.equations.cost:
                old, new = one.camera(t.photo, t.place, scale), one.camera(t.photo, place, scale)
                t.shift = pixel_shift(old, new, depth, one.directions(scale))
                t.place, t.equations, t.damping = place, equations, max(t.damping / 4, 1e-6)
            else:
                t.damping *= 10
                if one.columns:
                    t.equations, _ = one.look(t.photo, t.place, scale)


def solve(one: Alignment, tracked: list[TrackedPhoto], lens_damping: float) -> tuple[Tensor, list[Tensor]]:
    """Return the change of the lens's refined columns and of each photo's own [6 or 12], by the Schur complement."""
    count, own = len(one.columns), one.own
    curvature = torch.zeros(count, count, dtype=torch.float64)
    slope = torch.zeros(count, dtype=torch.float64)
    parts = []
    distances = sorted(t.equations.distance for t in tracked if t.equations.pixels > 0)
    distance = distances[len(distances) // 2] if distances else 1.0
    for t in tracked:
        inverse, coupling, gradient = _own_part(one, t, distance)
        parts.append((inverse, coupling, gradient))
        curvature += t.equations.matrix[own:, own:] - coupling.T @ inverse @ coupling
        slope += t.equations.gradient[own:] - coupling.T @ inverse @ gradient
    change = torch.zeros(count, dtype=torch.float64)
    if count:
        prior = _lens_prior(one)
        moved = (one.lens_values() - one.lens_start)[one.columns]
        damped = curvature + torch.diag(prior + lens_damping * curvature.diagonal().clamp_min(0) + 1e-12)
        change = -torch.linalg.solve(damped, slope + prior * moved)
    return change, [-inverse @ (gradient + coupling @ change) for inverse, coupling, gradient in parts]


def pose_trust(config: AlignConfig, distance: float) -> Tensor:
    """Return how far a pose that sees things at a distance may be off, by each component of its twist [6], float64."""
    trust = [config.translation_prior * distance] * 3 + [math.radians(config.rotation_prior_degrees)] * 3
    return torch.tensor(trust, dtype=torch.float64)


def _own_part(one: Alignment, t: TrackedPhoto, distance: float) -> tuple[Tensor, Tensor, Tensor]:
    """Return the inverse of a photo's own damped block [6 or 12, the same], its coupling with the lens, its gradient."""
    matrix, gradient, own = t.equations.matrix, t.equations.gradient, one.own
    trust = pose_trust(one.config, distance)
    trust = torch.cat((trust, one.config.rolling_shutter_prior * trust))[:own]
    prior = 1 / trust.square() / INDEPENDENT
    inverse = torch.zeros(own, own, dtype=torch.float64)
    if t.equations.pixels > 0 and (one.refined.poses or own > POSE):
        free = slice(0 if one.refined.poses else POSE, own)
        block = matrix[free, free]
        inverse[free, free] = torch.linalg.inv(block + torch.diag(t.damping * block.diagonal() + prior[free]))
    away = torch.cat((se3_log(t.place.pose @ torch.linalg.inv(t.start.pose)), t.place.motion))[:own]
    return inverse, matrix[:own, own:], gradient[:own] + prior * away


def _lens_prior(one: Alignment) -> Tensor:
    """Return the inverse square of how far each refined column may be off, in the units of the equations."""
    focal = float(one.lens_start[0])
    sigma = [
        FOCAL_TRUST * focal if c < 4 else TANGENTIAL_TRUST if c in (6, 7) else RADIAL_TRUST
        for c in one.columns
    ]
    return 1 / torch.tensor(sigma, dtype=torch.float64).square() / INDEPENDENT


def _put_back(one: Alignment, tracked: list[TrackedPhoto], scale: int) -> None:
    """Put photos that are not clearly better back to their start; with a lens, all where together they are not."""
    lens, enough = one.lens_values(), 1 - one.config.min_improvement
    one.set_lens(one.lens_start)
    starts = [one.look(t.photo, t.start, scale) for t in tracked]
    together = sum(t.equations.cost for t in tracked) < enough * sum(start.cost for start, _ in starts)
    if together:
        one.set_lens(lens)
    for t, (start, depth) in zip(tracked, starts, strict=True):
        old, new = one.camera(t.photo, t.start, 1), one.camera(t.photo, t.place, 1)
        t.away = pixel_shift(old, new, depth, one.directions(scale))
        t.kept = t.equations.cost < enough * start.cost and (together or not one.columns)
        if not t.kept:
            t.place = t.start


def _settle(one: Alignment, t: TrackedPhoto) -> CameraMove:
    """Put a photo where it ended, and say how far that is from its start."""
    one.camera(t.photo, t.place, 1)
    turn = se3_log(t.place.pose @ torch.linalg.inv(t.start.pose))[3:]
    centres = [-p[:3, :3].T @ p[:3, 3] for p in (t.place.pose, t.start.pose)]
    distance = float((centres[0] - centres[1]).norm())
    return CameraMove(t.photo, t.away, math.degrees(float(turn.norm())), distance, t.kept)
