"""The region that was captured: a box around the scene's points and the photos' cameras; beyond it, views fade."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
import torch
from torch import Tensor

from adop.geometry.camera import Camera
from adop.model.pipeline import Pipeline
from adop.model.views.view import Radiance
from adop.scene.scene import Scene

Surroundings = Literal["grey", "black", "white", "rendered"]
SURROUNDINGS: tuple[Surroundings, ...] = get_args(Surroundings)
COLOURS: dict[Surroundings, int] = {"grey": 118, "black": 16, "white": 240}  # of 255
MAX_POINTS = 50_000  # that are measured
QUANTILES = (0.02, 0.98)  # of the points along an axis, so that strays do not count
MARGIN = 0.05  # of the box's size, by which it is larger
FADE = 0.35  # distance of the camera from the box, in its sizes, at which what lies beyond has faded
POINT_FADE = 0.15  # likewise of a surface


@dataclass(frozen=True, eq=False)
class CapturedRegion:
    """A box around what the photos show and where they were taken."""

    centre: np.ndarray  # [3] f64, world
    axes: np.ndarray  # [3, 3] f64, one unit axis a row; the second points up
    half_size: np.ndarray  # [3] f64, scene units

    @property
    def size(self) -> float:
        """Half the box's diagonal, scene units."""
        return float(np.linalg.norm(self.half_size))

    def distance(self, position: np.ndarray) -> float:
        """Return how far a position [3] is from the box, in its sizes; 0 inside."""
        local = np.abs(self.axes @ (position - self.centre)) - self.half_size
        return float(np.linalg.norm(np.maximum(local, 0))) / self.size

    def corners(self) -> np.ndarray:
        """Return the corners [8, 3], world; the bits of a corner's number are its sides along the axes."""
        signs = np.array([[1 if corner >> axis & 1 else -1 for axis in range(3)] for corner in range(8)])
        return self.centre + (signs * self.half_size) @ self.axes


def captured_region(scene: Scene, up: np.ndarray) -> CapturedRegion:
    """Return the region of a scene: all cameras, and most of the points along each axis.

    Args: up: [3] unit, world; an axis of the box. The others are those along which the cameras spread most and least.
    """
    centres = np.stack([np.linalg.inv(photo.world_to_camera)[:3, 3] for photo in scene.photos])
    flat = np.eye(3) - np.outer(up, up)
    spread = (centres - centres.mean(0)) @ flat
    right = np.linalg.svd(spread)[2][0] @ flat
    if np.linalg.norm(right) < 1e-6:
        right = flat[np.argmax(np.linalg.norm(flat, axis=1))]
    right = right / np.linalg.norm(right)
    axes = np.stack([right, up, np.cross(right, up)])
    points = scene.points.xyz[:: max(1, len(scene.points.xyz) // MAX_POINTS)] @ axes.T
    low, high = np.quantile(points, QUANTILES, axis=0)
    cameras = centres @ axes.T
    low, high = np.minimum(low, cameras.min(0)), np.maximum(high, cameras.max(0))
    half = np.maximum((high - low) / 2, 1e-6)
    half = half + MARGIN * np.linalg.norm(half)
    return CapturedRegion((low + high) / 2 @ axes, axes, half)


def faded(
    pixels: np.ndarray,
    pipeline: Pipeline,
    camera: Camera,
    radiance: Radiance,
    region: CapturedRegion,
    surroundings: Surroundings,
) -> np.ndarray:
    """Return pixels [H, W, 3] uint8 of a view (B = 1), faded where the camera is outside and shows what is beyond.

    From inside the region, nothing changes: what the viewer shows is what `adop render` writes.
    """
    centre = camera.centre()[0].double().cpu().numpy()
    outside = min(1.0, region.distance(centre) / FADE)
    if surroundings == "rendered" or outside == 0:
        return pixels
    share = outside * _beyond(camera, pipeline.depth(radiance)[0, 0], region).cpu().numpy()[..., None]
    return (pixels + share * (COLOURS[surroundings] - pixels.astype(np.float32))).round().astype(np.uint8)


def _beyond(camera: Camera, depth: Tensor, region: CapturedRegion) -> Tensor:
    """Return [H, W], for each pixel of a depth map how far its surface is beyond the region: 0 inside, 1 faded."""
    height, width = depth.shape
    y = torch.arange(height, device=depth.device) + 0.5
    x = torch.arange(width, device=depth.device) + 0.5
    uv = torch.stack(torch.meshgrid(x, y, indexing="xy"), -1).reshape(1, -1, 2)
    known = torch.isfinite(depth)
    world = camera.unproject(uv, torch.where(known, depth, 1.0).reshape(1, -1))[0]
    axes, centre, half = (
        torch.from_numpy(values).to(world) for values in (region.axes, region.centre, region.half_size)
    )
    distance = (((world - centre) @ axes.T).abs() - half).clamp_min(0).norm(dim=1) / region.size
    return torch.where(known, (distance / POINT_FADE).clamp(0, 1).reshape(height, width), 1.0)
