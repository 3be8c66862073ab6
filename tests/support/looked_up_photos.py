"""Photos of known cameras that can be looked up, and the views that look them up."""

from __future__ import annotations

import torch

from adop.geometry.camera import Camera
from adop.ops.environment import RayGrid
from adop.reprojection.photo_table import PhotoTable, photo_cameras
from adop.reprojection.reproject import Light

WIDTH, HEIGHT = 60, 40
DISTORTION = {"opencv": 8, "fisheye": 4, "ocam": 20}


def photo_camera(model: str, x: float, angle: float = 0.0, motion: bool = False) -> Camera:
    """Return a camera at x that looks along z, turned by an angle around y."""
    rotation = torch.eye(3)
    rotation[0, 0] = rotation[2, 2] = torch.tensor(angle).cos()
    rotation[0, 2], rotation[2, 0] = -torch.tensor(angle).sin(), torch.tensor(angle).sin()
    pose = torch.eye(4)[None]
    pose[0, :3, :3], pose[0, :3, 3] = rotation, -rotation @ torch.tensor([x, 0.0, 0.0])
    distortion = torch.zeros(1, DISTORTION[model])
    if model == "opencv":
        distortion[0, :2] = torch.tensor([0.05, -0.01])
    if model == "fisheye":
        distortion[0, 0] = 0.02
    if model == "ocam":
        distortion[0, 0], distortion[0, 3], distortion[0, 4], distortion[0, 5] = 1.0, 0.5, 63.0, 40.0
    moving = torch.tensor([[0.02, 0.01, 0.0, 0.001, -0.002, 0.003]]) if motion else None
    intrinsics = torch.tensor([[40.0, 40.0, 30.0, 20.0]])
    return Camera(model, WIDTH, HEIGHT, intrinsics, distortion, pose, motion=moving)  # type: ignore[arg-type]


def rays_of(view: Camera) -> RayGrid:
    """Return the rays of a view."""
    size = torch.tensor([[float(view.width), float(view.height)]])
    whole = torch.tensor([[1.0, 0.0, 0.0]])
    return RayGrid(view.ray_grid(129), size, whole, view.world_to_camera)


def photo_table(cameras: list[Camera], pixels: torch.Tensor, surfaces: torch.Tensor) -> PhotoTable:
    """Return the table of photos [P, H, W, 3] u8 that see surfaces [P, H/2, W/2]."""
    count = len(cameras)
    rows = torch.arange(count)
    places = [rows * 3 * WIDTH * HEIGHT, rows * WIDTH * HEIGHT // 4]
    places += [torch.full_like(rows, value) for value in (WIDTH, HEIGHT, 0)]
    samples = torch.tensor([[-0.5, 0.0, 5.0], [0.0, 0.1, 5.0], [0.5, 0.0, 5.0], [50.0, 0.0, 5.0]])
    return PhotoTable(
        cameras[0].model,
        photo_cameras(cameras),
        pixels.flatten(),
        surfaces.flatten(),
        torch.stack(places, 1),
        samples,
        torch.ones(count, len(samples), dtype=torch.bool),
        {photo: row for row, photo in enumerate(range(10, 10 + count))},
        torch.arange(10, 10 + count),
    )


def photo_light(photos: int) -> Light:
    """Return a physical camera of which a value v means the light exp(v / 100), times 1 / gain and 1 / vignette."""
    curve = (torch.arange(256.0) / 100).expand(1, 3, 256).contiguous()
    gain = torch.linspace(-0.3, 0.4, 3 * photos).reshape(photos, 3)
    return Light(curve, gain, torch.tensor([[-0.2, 0.05, 0.0, 0.02, -0.01]]))
