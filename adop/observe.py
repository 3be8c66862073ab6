"""What photos show of the points beside what they should look like: where to move points and poses is read off it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from adop.align import see_points
from adop.motion import ROBUST, fit_gain, motion_of_points, slopes, smooth
from adop.ops import project
from adop.photos import PhotoCache
from adop.pipeline import Pipeline

SIGMA = 0.7  # of the blur, pixels of the scale
BEHIND = 0.02  # relative depth behind the picture's surface from which a point is hidden
STEP = 0.05  # relative, of the depth, beside which a blurred photo mixes two surfaces
REACH = 2  # pixels of the scale to either side
ENDLESS = 1e9  # scene units, for the depth where nothing is


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
def observe(
    pipeline: Pipeline, cache: PhotoCache, photo: int, scale: int, radiance: Tensor, silhouettes: bool = True
) -> Observed:
    """Compare each point's own radiance [N, 3] with the photo, 1/scale as large, where the point falls.

    The picture there may be of neighbours that are as far astray, so it is not compared. It says what is hidden, and
    what gain the photo has. A blurred photo mixes the surfaces at a silhouette and draws its points inwards, all round,
    as if the camera were farther away: without `silhouettes`, points at steps of the depth are not asked.
    """
    index = torch.tensor([photo])
    camera = pipeline.camera(index).reduced(scale)
    seen = see_points(pipeline, camera, index)
    target, mask = cache.reduced(photo, scale, pipeline.xyz.device)
    known = torch.isfinite(seen.depth).float() * mask
    known[:, :, :2], known[:, :, -2:], known[:, :, :, :2], known[:, :, :, -2:] = 0, 0, 0, 0
    picture, target = smooth(seen.picture, known, SIGMA), smooth(target, known, SIGMA)
    gain = fit_gain(picture, target, known).expand_as(target)
    asked = known > 0
    if not silhouettes:
        asked &= ~depth_steps(seen.depth)
    found = project(camera, pipeline.points(), pipeline.raster.near)
    chosen = torch.nonzero(found.visible[0])[:, 0]
    column, row = found.uv[0, chosen].long().unbind(1)
    shown = asked[0, 0, row, column] & (found.z[0, chosen] <= (1 + BEHIND) * seen.depth[0, 0, row, column])
    chosen, column, row = chosen[shown], column[shown], row[shown]
    grid = 2 * found.uv[:, None, chosen] / found.uv.new_tensor([camera.width, camera.height]) - 1
    there = torch.cat((target, *slopes(target)[:, None]), dim=1)
    there = F.grid_sample(there, grid, align_corners=False, padding_mode="border")[0, :, 0]
    position = pipeline.position(camera, index)[0, :, row, column].T
    value, slope = there[:3], there[3:].reshape(2, 3, -1)
    own = pipeline.photo_of_points(radiance[chosen], photo, position).clamp(0, 1)
    error = (own * gain[0, :, row, column].T - value.T) / ROBUST
    weight = 1 / (1 + error.square())
    uv_by_pose, uv_by_point = motion_of_points(camera, pipeline.xyz[chosen], [])
    by_point = _change_of_error(slope, uv_by_point)
    return Observed(chosen, error, weight, by_point, found.z[0, chosen], slope, uv_by_pose)
