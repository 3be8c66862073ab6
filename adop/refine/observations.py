"""What photos show of the points beside what they should look like: where to move points and poses is read off it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.initialisation.reduced_photos import sample_image
from adop.model.pipeline import Pipeline
from adop.ops import project
from adop.refine.align import render_points
from adop.refine.alignment_equations import ROBUST, fit_gain, motion_of_points, slopes, smooth
from adop.scene.photo_cache import PhotoCache

SIGMA = 0.7  # of the blur, pixels of the scale
BEHIND = 0.02  # relative depth behind the picture's surface from which a point is hidden
STEP = 0.05  # relative, of the depth, beside which a blurred photo mixes two surfaces
REACH = 2  # pixels of the scale to either side
RIM = 2  # pixels along a photo's edge where its slopes are not known
ENDLESS = 1e9  # scene units, for the depth where nothing is


@dataclass(frozen=True)
class Shown:
    """The points that one photo sees, and what it shows around them."""

    points: Tensor  # [M] index
    uv: Tensor  # [M, 2] where they fall, pixels of the scale
    depth: Tensor  # [M] scene units
    own: Tensor  # [M, 3] what the photo would show there by their own colours
    photo: Tensor  # [1, 3, h, w] blurred
    uv_by_pose: Tensor  # [M, 2, 6] pixels per unit of the pose's twist (left update, translation first)
    uv_by_point: Tensor  # [M, 2, 3] pixels per scene unit of the point
    forward: Tensor  # [3] the way that depth grows, in the world

    def moved(self, shift: Tensor) -> Tensor:
        """Return [M, 2] where the points fall when they are moved by [M, 3], or [1, 3] alike, scene units.

        To first order of what the lens does, and exactly for the perspective: near points move farther as they come.
        """
        step = (self.uv_by_point @ shift[..., None])[..., 0]
        nearer = (self.depth + shift @ self.forward) / self.depth
        return self.uv + step / nearer.clamp_min(0.1)[:, None]

    def error(self, uv: Tensor) -> Tensor:
        """Return [M, 3], own colour minus the photo's value at a place [M, 2] for each point, in units of ROBUST."""
        return (self.own - sample_image(self.photo, uv).T) / ROBUST


@dataclass(frozen=True)
class Observed:
    """What one photo shows of the points that it sees, beside what they look like by their own colours."""

    points: Tensor  # [M] index
    error: Tensor  # [M, 3] own colour minus the photo's value where the point falls, in units of ROBUST
    weight: Tensor  # [M, 3] Cauchy's of each error
    by_point: Tensor  # [M, 3, 3] change of the error per scene unit of the point
    depth: Tensor  # [M] scene units
    slope: Tensor  # [2, 3, M] of the photo along u and v
    uv_by_pose: Tensor  # [M, 2, 6] pixels per unit of the pose's twist (left update, translation first)

    def by_pose(self) -> Tensor:
        """Return [M, 3, 6], the change of the error per unit of the pose's twist."""
        return _change_of_error(self.slope, self.uv_by_pose)


def _change_of_error(slope: Tensor, uv_by: Tensor) -> Tensor:
    return -torch.einsum("dcm,mdk->mck", slope, uv_by) / ROBUST


def depth_steps(depth: Tensor) -> Tensor:
    """Return [1, 1, H, W] bool, where `depth` [1, 1, H, W] changes by a share of STEP or more within REACH pixels."""
    near = torch.where(torch.isfinite(depth), depth, ENDLESS).log()
    high = F.max_pool2d(near, 2 * REACH + 1, stride=1, padding=REACH)
    low = -F.max_pool2d(-near, 2 * REACH + 1, stride=1, padding=REACH)
    return high - low > math.log1p(STEP)


@torch.no_grad()
def show(
    pipeline: Pipeline,
    cache: PhotoCache,
    photo: int,
    scale: int,
    radiance: Tensor,
    silhouettes: bool = True,
    rim: int = 0,
    every: int = 1,
) -> Shown:
    """Look up which points a photo, 1/scale as large, sees, and what they would look like by their own radiance [N, 3].

    The picture there may be of neighbours that are as far astray, so it is not compared. It says what is hidden, and
    what gain the photo has. A blurred photo mixes the surfaces at a silhouette and draws its points inwards, all round,
    as if the camera were farther away: without `silhouettes`, points at steps of the depth are not asked. Neither are
    those within `rim` pixels of the picture's edge; of the others each `every`-th is.
    """
    index = torch.tensor([photo])
    camera = pipeline.camera(index).reduced(scale)
    seen = render_points(pipeline, camera, index)
    target, mask = cache.reduced(photo, scale, pipeline.device)
    known = torch.isfinite(seen.depth).float() * mask
    # The cloud has a hole where points that are astray belong; the photo shows the place all the same.
    picture, target = smooth(seen.image, known, SIGMA), smooth(target, mask, SIGMA)
    gain = fit_gain(picture, target, known).expand_as(target)
    asked = F.pad(known[..., rim : known.shape[2] - rim, rim : known.shape[3] - rim], [rim] * 4) > 0
    if not silhouettes:
        asked &= ~depth_steps(seen.depth)
    found = project(camera, pipeline.points(), pipeline.raster.near)
    chosen = torch.nonzero(found.visible[0])[::every, 0]
    column, row = found.uv[0, chosen].long().unbind(1)
    shown = asked[0, 0, row, column] & (found.z[0, chosen] <= (1 + BEHIND) * seen.depth[0, 0, row, column])
    chosen, column, row = chosen[shown], column[shown], row[shown]
    position = pipeline.cameras.photo_position(camera, index)[0, :, row, column].T
    own = pipeline.photo_of_points(radiance[chosen], photo, position).clamp(0, 1)
    uv_by_pose, uv_by_point = motion_of_points(camera, pipeline.points.xyz[chosen], [])
    own = own * gain[0, :, row, column].T
    forward = camera.world_to_camera[0, 2, :3].to(own)
    uv, depth = found.uv[0, chosen], found.z[0, chosen]
    return Shown(chosen, uv, depth, own, target, uv_by_pose, uv_by_point, forward)


@torch.no_grad()
def observe(
    pipeline: Pipeline, cache: PhotoCache, photo: int, scale: int, radiance: Tensor, silhouettes: bool = True
) -> Observed:
    """Compare each point's own radiance [N, 3] with the photo where the point falls, and say how that changes; see
    `show`."""
    shown = show(pipeline, cache, photo, scale, radiance, silhouettes, RIM)
    slope = sample_image(slopes(shown.photo).flatten(0, 1)[None], shown.uv).reshape(2, 3, -1)
    error = shown.error(shown.uv)
    weight = 1 / (1 + error.square())
    by_point = _change_of_error(slope, shown.uv_by_point)
    return Observed(shown.points, error, weight, by_point, shown.depth, slope, shown.uv_by_pose)
