"""Small photos of textured planes, with known planes for every pixel, for the tests of stereo."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from adop.geometry.camera import Camera
from adop.geometry.lens import Lens
from adop.geometry.rigid_motion import look_at_pose
from adop.scene.point_cloud import order
from adop.scene.scene import Photo, Scene
from adop.stereo.problem import StereoProblem, StereoView

SIZE = (44, 60)  # rows and columns
FOCAL = 60.0
EYES = ((0.0, 0.0, 0.0), (0.6, 0.1, 0.0), (-0.5, 0.2, 0.1), (0.1, -0.6, -0.2), (0.3, 0.5, 0.0))
NORMAL, DISTANCE = (0.25, -0.15, 1.0), 4.0  # of the plane: NORMAL · X = DISTANCE, world axes


@dataclass(frozen=True)
class PlaneScene:
    """A problem whose surface is one plane in space."""

    problem: StereoProblem
    planes: Tensor  # [3, H, W], the true ones


def texture(x: Tensor, y: Tensor) -> Tensor:
    """Return the brightness of the surface at two coordinates on it, smooth and nowhere repeated."""
    value = torch.zeros_like(x)
    for k, (a, b) in enumerate(((2.1, 0.7), (-1.3, 2.9), (4.7, 3.1), (5.3, -4.1), (9.0, 8.0), (-8.5, 7.0))):
        value = value + torch.sin(a * x + b * y + 0.9 * k) / (1 + 0.3 * k)
    return 0.5 + 0.12 * value


def plane_scene(dtype: torch.dtype = torch.float64, sources: int = 3) -> PlaneScene:
    """Return a camera at the origin and others beside it that look at the same textured plane."""
    views = [_photo(eye, dtype) for eye in EYES[: sources + 1]]
    problem = StereoProblem(views[0], tuple(views[1:]), min_inverse=0.1, max_inverse=0.6)
    return PlaneScene(problem, true_planes(views[0]))


def true_planes(view: StereoView) -> Tensor:
    """Return the planes [3, H, W] of the surface in a view."""
    rays, centre = _rays(view)
    normal = torch.tensor(NORMAL, dtype=torch.float64)
    inverse = (rays @ normal) / (DISTANCE - centre @ normal)
    slopes = inverse[0, 1] - inverse[0, 0], inverse[1, 0] - inverse[0, 0]
    return torch.stack((inverse, *(slope.expand(inverse.shape) for slope in slopes))).to(view.image)


def photographed_plane(folder: Path, lens: Lens, noise: float = 0.0) -> Scene:
    """Return a scene of five photos of the plane, which are written to a folder, with a few points on the plane.

    Args: noise: deviation of the noise at the right edge of the photos, none at the left, in brightness.
    """
    folder.mkdir(parents=True)
    random, photos = np.random.default_rng(0), []
    v, u = np.mgrid[: lens.height, : lens.width] + 0.5
    uv = torch.from_numpy(np.stack((u, v), -1).reshape(1, -1, 2)).float()
    for index, eye in enumerate(EYES):
        pose = look_at_pose(eye, (0.0, 0.0, DISTANCE), (0.0, -1.0, 0.0))
        camera = Camera.from_lens(lens, pose)
        ray = (camera.unproject(uv, torch.ones(1, uv.shape[1])) - camera.centre())[0].double()
        centre, normal = torch.tensor(eye).double(), torch.tensor(NORMAL).double()
        xyz = centre + ray * ((DISTANCE - centre @ normal) / (ray @ normal))[:, None]
        brightness = texture(xyz[:, 0], xyz[:, 1]).numpy().reshape(v.shape)
        brightness = brightness + noise * u / lens.width * random.standard_normal(v.shape)
        file = folder / f"{index}.png"
        Image.fromarray((255 * brightness.clip(0, 1)).round().astype(np.uint8)).convert("RGB").save(file)
        photos.append(Photo(file, 0, pose))
    xy = random.uniform(-1.2, 1.2, (300, 2))
    z = (DISTANCE - xy @ NORMAL[:2]) / NORMAL[2]
    points = order(np.column_stack((xy, z)).astype(np.float32), None, None, np.full(300, 0.1, np.float32))
    return Scene("plane", folder, (lens,), tuple(photos), points, np.array([0.0, -1.0, 0.0]))


def _photo(eye: tuple[float, float, float], dtype: torch.dtype) -> StereoView:
    height, width = SIZE
    intrinsics = torch.tensor([[FOCAL, 0, width / 2], [0, FOCAL, height / 2], [0, 0, 1]], dtype=torch.float64)
    pose = torch.from_numpy(look_at_pose(eye, (0.0, 0.0, DISTANCE), (0.0, -1.0, 0.0)))
    view = StereoView(torch.zeros(SIZE, dtype=dtype), intrinsics, pose)
    rays, centre = _rays(view)
    normal = torch.tensor(NORMAL, dtype=torch.float64)
    xyz = centre + rays * ((DISTANCE - centre @ normal) / (rays @ normal))[..., None]
    return StereoView(texture(xyz[..., 0], xyz[..., 1]).to(dtype), intrinsics, pose)


def _rays(view: StereoView) -> tuple[Tensor, Tensor]:
    """Return the vectors [H, W, 3] to depth 1 in each pixel, world axes, and the camera's centre."""
    height, width = view.image.shape
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    pixels = torch.stack((u, v, torch.ones_like(u)), -1).double()
    rotation, translation = view.world_to_camera[:3, :3], view.world_to_camera[:3, 3]
    return pixels @ torch.linalg.inv(view.intrinsics).T @ rotation, -rotation.T @ translation
