"""How a new view maps directions to pixels: perspective, fisheye or panorama; for one eye or for two, side by side.

A fisheye view is rendered as such, by a lens model that the points and the environment know. A panorama is put together
from six perspective views, the faces of a cube, because no lens sees all directions.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Literal, get_args

import numpy as np
import torch
import torch.nn.functional as F
from scipy.spatial.transform import Rotation
from torch import Tensor

from adop.geometry.camera import Camera
from adop.geometry.rigid_motion import look_at_pose, rigid
from adop.model.pipeline import Pipeline
from adop.render.camera_path import CameraPath, Frame, pinhole
from adop.render.camera_settings import CameraSettings, develop
from adop.render.views import View, render_views

Kind = Literal["perspective", "fisheye", "equirectangular"]
KINDS: tuple[Kind, ...] = get_args(Kind)
MAX_SIDE = 16_384  # px
FACES = (
    (0, 0),
    (90, 0),
    (180, 0),
    (270, 0),
    (0, 90),
    (0, -90),
)  # heading to the right and pitch upwards, degrees
# Tangents of half angles. A face of a cube has 1. What is rendered reaches further, so that the network has the
# surroundings of all pixels that are used, and around 1 the two faces that meet merge into each other.
FACE_REACH, MERGE = 1.3, 0.1
FACE_DENSITY = (
    1.25  # pixels of a face's middle over those of the panorama there: interpolation costs some sharpness
)
SAMPLES = (
    2  # in each direction, of which a pixel of a panorama is the mean: near its corners a face is denser
)
BAND_ROWS = 64  # of a panorama that are put together at once


@dataclass(frozen=True)
class Projection:
    """How views map directions to pixels.

    perspective: a pinhole. fisheye: the distance from the image centre is proportional to the angle from the optical
    axis (equidistant); the circle touches the nearest sides. equirectangular: all directions, longitude over the width
    and latitude over the height, which is half the width.
    """

    kind: Kind = "perspective"
    field_of_view: float = math.pi  # fisheye: the angle across the circle, radians
    # Scene units between a left and a right eye, which are shown side by side; 0: one eye.
    baseline: float = 0.0
    # Scene units: the depth of what both eyes see at the same pixel of a perspective view.
    screen: float = math.inf


def sized(path: CameraPath, projection: Projection, width: int | None) -> CameraPath:
    """Return a path of perspective frames with the size that a projection needs.

    Args: width: of the frames in pixels; None: so that a pixel in the middle is as large an angle as it was. Widths are
        rounded to even numbers, those of panoramas to multiples of 4.
    """
    if projection.kind == "perspective":
        return path
    angle = 2 * math.pi if projection.kind == "equirectangular" else projection.field_of_view
    focal = path.height * float(np.median([frame.focal for frame in path.frames]))
    width = min(width or round(angle * focal), MAX_SIDE)
    if projection.kind == "fisheye":
        side = max(2, width - width % 2)
        return replace(path, width=side, height=side)
    width = max(4, width - width % 4)
    return replace(path, width=width, height=width // 2)


def level_path(path: CameraPath, up: np.ndarray) -> CameraPath:
    """Return a path whose cameras keep their heading but neither tilt nor roll: their image up is `up` [3], world."""
    frames = [replace(frame, world_to_camera=levelled(frame.world_to_camera, up)) for frame in path.frames]
    return replace(path, frames=frames)


def levelled(world_to_camera: np.ndarray, up: np.ndarray) -> np.ndarray:
    """Return a pose [4, 4] of the same place and heading without tilt and roll, its image upwards `up` [3], world."""
    _, down, forward = world_to_camera[:3, :3]
    # Looking straight down, the heading is where the top of the image is; straight up, where its bottom is.
    steep = abs(float(forward @ up)) > math.cos(math.radians(5))
    heading = (down if forward @ up > 0 else -down) if steep else forward
    eye = -world_to_camera[:3, :3].T @ world_to_camera[:3, 3]
    return look_at_pose(eye, eye + heading - (heading @ up) * up, up)


def render_frame(
    pipeline: Pipeline,
    frame: Frame,
    size: tuple[int, int],
    settings: CameraSettings,
    projection: Projection | None = None,
) -> View:
    """Render a frame of a path, developed with `settings`; their vignette is for a perspective only.

    Args:
        size: width and height in pixels; of each eye, where there are two.
        projection: None: perspective.

    The depth of fisheye and equirectangular views is the distance from the camera centre.
    """
    projection = projection or Projection()
    if projection.kind == "equirectangular":
        return render_panorama(pipeline, frame.world_to_camera, size[0], settings)
    if projection.kind == "fisheye":
        settings = replace(settings, vignette=False)
    cameras = _cameras(frame, size, projection, pipeline.device)
    eyes = [render_views(pipeline, camera, settings)[0] for camera in cameras]
    if projection.kind == "fisheye":
        eyes = [_inside_circle(eye) for eye in eyes]
    if len(eyes) == 1:
        return eyes[0]
    return View(
        radiance=torch.cat([eye.radiance for eye in eyes], dim=-1),
        image=torch.cat([eye.image for eye in eyes], dim=-1),
        depth=torch.cat([eye.depth for eye in eyes], dim=-1),
    )


def _cameras(
    frame: Frame, size: tuple[int, int], projection: Projection, device: torch.device
) -> list[Camera]:
    """Return the camera (B = 1) of a frame, or those of the left and the right eye.

    The eyes look the same way. With a perspective, their images are shifted so that they agree at the screen's depth.
    """
    if projection.kind == "fisheye":
        camera = fisheye_camera(frame.world_to_camera, size, projection.field_of_view).to(device)
    else:
        camera = pinhole(frame, *size, device)
    if projection.baseline == 0:
        return [camera]
    cameras = []
    for offset in (-projection.baseline / 2, projection.baseline / 2):
        pose, intrinsics = camera.world_to_camera.clone(), camera.intrinsics.clone()
        pose[:, 0, 3] -= offset
        if projection.kind == "perspective":
            intrinsics[:, 2] += intrinsics[:, 0] * offset / projection.screen
        cameras.append(replace(camera, world_to_camera=pose, intrinsics=intrinsics))
    return cameras


def fisheye_camera(world_to_camera: np.ndarray, size: tuple[int, int], field_of_view: float) -> Camera:
    """Return an equidistant fisheye camera (B = 1): u, v lie `focal * angle` from the image centre.

    Args:
        world_to_camera: [4, 4].
        size: width and height in pixels; the circle touches the nearest sides.
        field_of_view: across the circle, radians, at most 2 pi.
    """
    width, height = size
    focal = min(size) / field_of_view  # px per radian
    return Camera(
        model="fisheye",
        width=width,
        height=height,
        intrinsics=torch.tensor([[focal, focal, width / 2, height / 2]], dtype=torch.float32),
        distortion=torch.zeros(1, 4),
        world_to_camera=torch.from_numpy(world_to_camera).float()[None],
    )


def _inside_circle(view: View) -> View:
    """Return a view that is black, without depth, outside the circle that touches the nearest sides."""
    height, width = view.depth.shape
    y = torch.arange(height, device=view.depth.device) + 0.5 - height / 2
    x = torch.arange(width, device=view.depth.device) + 0.5 - width / 2
    inside = torch.hypot(y[:, None], x[None]) <= min(height, width) / 2
    return View(view.radiance * inside, view.image * inside, view.depth.where(inside, math.inf))


@torch.no_grad()
def render_panorama(
    pipeline: Pipeline, world_to_camera: np.ndarray, width: int, settings: CameraSettings
) -> View:
    """Render the panorama of all directions, equirectangular, [width / 2, width], developed as one image.

    Its middle is the camera's viewing direction; longitude grows to the right and latitude upwards. Where no photo
    looked, it shows the environment. The vignette of `settings` is left out. The depth is the distance from the camera
    centre.

    Args:
        world_to_camera: [4, 4]; see `levelled` for a panorama whose horizon is straight.
        width: pixels, a multiple of 2.
    """
    height, device = width // 2, pipeline.device
    light = torch.zeros(3, height, width, device=device)
    total = torch.zeros(1, height, width, device=device)
    depth = torch.full((height, width), math.inf, device=device)
    for heading, pitch in FACES:
        # Of a point in the panorama's axes: x right, y down, z forward.
        rotation = Rotation.from_euler("YX", (heading, pitch), degrees=True).as_matrix().T
        camera = _face_camera(rigid(rotation, np.zeros(3)) @ world_to_camera, width).to(device)
        # Surfaces are not extrapolated: each face would continue what it sees itself, and the faces would not agree.
        rendered = pipeline.render(camera, antialias=pipeline.config.antialias)
        face = Face(
            torch.from_numpy(rotation).float().to(device),
            camera,
            rendered.image,
            pipeline.depth(rendered)[0, 0],
        )
        for rows in _bands(height):
            add, weight = face.light_at(_directions(width, rows, SAMPLES, device))
            light[:, rows] += F.avg_pool2d(add, SAMPLES)
            total[:, rows] += F.avg_pool2d(weight, SAMPLES)
            depth[rows] = torch.minimum(depth[rows], face.distance_at(_directions(width, rows, 1, device)))
    radiance = light / total
    image = develop(pipeline.tonemapper, radiance[None], replace(settings, vignette=False))[0]
    return View(radiance, image, depth, panorama=True)


def _face_camera(world_to_camera: np.ndarray, width: int) -> Camera:
    """Return the camera (B = 1) of a cube's face for a panorama of `width` pixels."""
    focal = FACE_DENSITY * width / (2 * math.pi)
    side = max(16, 2 * math.ceil(FACE_REACH * focal))
    return Camera.from_intrinsics(side, side, focal, world_to_camera)


def _bands(height: int) -> Iterator[slice]:
    return (slice(first, min(first + BAND_ROWS, height)) for first in range(0, height, BAND_ROWS))


def _directions(width: int, rows: slice, samples: int, device: torch.device) -> Tensor:
    """Return the directions [3, samples R, samples width] of points evenly spread over the pixels of some rows."""
    row = (torch.arange(samples * rows.start, samples * rows.stop, device=device) + 0.5) / samples
    column = (torch.arange(samples * width, device=device) + 0.5) / samples
    latitude, longitude = math.pi * (0.5 - row / (width / 2)), 2 * math.pi * (column / width - 0.5)
    across = latitude.cos()[:, None]
    down = -latitude.sin()[:, None].expand(-1, len(longitude))
    return torch.stack((longitude.sin() * across, down, longitude.cos() * across))


@dataclass(frozen=True)
class Face:
    """A rendered face of a cube."""

    rotation: Tensor  # [3, 3] from the panorama's axes to the face's
    camera: Camera  # B = 1
    image: Tensor  # [1, 3, S, S] linear light
    depth: Tensor  # [S, S] camera z

    def light_at(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return the light [3, ...] along directions [3, ...], times its weight [1, ...], and the weight."""
        tangents, reach = self._tangents(directions)
        weight = ((1 + MERGE - reach) / (2 * MERGE)).clamp(0, 1)
        used = weight > 0
        grid = self._pixels(tangents[:, used]) * 2 / self.camera.width - 1
        light = torch.zeros(3, *weight.shape, device=weight.device)
        sampled = F.grid_sample(self.image, grid.T[None, None], padding_mode="border", align_corners=False)
        light[:, used] = sampled[0, :, 0] * weight[used]
        return light, weight[None]

    def distance_at(self, directions: Tensor) -> Tensor:
        """Return the distance [...] of what is seen along directions [3, ...]; +inf where this is not their face."""
        tangents, reach = self._tangents(directions)
        used = reach <= 1 + 1e-4
        column, row = self._pixels(tangents[:, used]).long().clamp(0, self.camera.width - 1)
        distance = torch.full(reach.shape, math.inf, device=reach.device)
        stretch = (1 + tangents[:, used].square().sum(0)).sqrt()
        distance[used] = self.depth[row, column] * stretch
        return distance

    def _tangents(self, directions: Tensor) -> tuple[Tensor, Tensor]:
        """Return x/z and y/z [2, ...] of directions [3, ...] in the face's axes, and the greater of the two, unsigned.

        Behind the face it is +inf.
        """
        x, y, z = torch.einsum("ij,j...->i...", self.rotation, directions)
        tangents = torch.stack((x, y)) / z.clamp_min(1e-6)
        return tangents, tangents.abs().amax(0).where(z > 1e-6, math.inf)

    def _pixels(self, tangents: Tensor) -> Tensor:
        """Return the pixels [2, M] (column, row) of tangents [2, M]."""
        return tangents * self.camera.intrinsics[0, 0] + self.camera.width / 2
