"""A made-up scene that needs nothing but the package: a painted wall, seen by a row of cameras."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from PIL import Image

from adop.bench.raster.scene import WALL_DISTANCE, make_bench_scene
from adop.geometry.lens import Lens
from adop.scene.point_cloud import PointCloud
from adop.scene.scene import Photo, Scene
from adop.scene.write import save_scene

STEP = 0.4  # metres between two cameras


def make_wall_scene(folder: Path, points: int, photos: int, size: tuple[int, int]) -> Path:
    """Write a scene folder of the benchmarks' wall, made flat, with photos [width, height] of it, and return the folder.

    Its colours are a sum of waves, so what each pixel of a photo shows is computed and not drawn.
    """
    scratch = folder / "photos"
    scratch.mkdir(parents=True)
    width, height = size
    lens = Lens(
        "opencv", width, height, np.array([0.8 * width, 0.8 * width, width / 2, height / 2]), np.zeros(8)
    )
    taken = []
    for number in range(photos):
        x = STEP * (number - (photos - 1) / 2)
        file = scratch / f"wall_{number:03d}.png"
        Image.fromarray(_photo(lens, x)).save(file)
        pose = np.eye(4)
        pose[0, 3] = -x
        taken.append(Photo(file, 0, pose))
    wall = make_bench_scene(points).points
    xyz, radius = wall.xyz.numpy(), wall.radius.numpy()
    xyz[:, 2] = WALL_DISTANCE
    cloud = PointCloud(xyz, None, _paint(xyz[:, 0], xyz[:, 1]), radius, radius)
    scene = Scene("synthetic wall", scratch, (lens,), tuple(taken), cloud, np.array([0.0, -1.0, 0.0]))
    save_scene(scene, folder / "scene")
    return folder / "scene"


def _photo(lens: Lens, x: float) -> np.ndarray:
    """Return the photo [H, W, 3] u8 of a camera at (x, 0, 0) that looks along z."""
    focal, _, centre_x, centre_y = lens.intrinsics
    across = x + (np.arange(lens.width) + 0.5 - centre_x) / focal * WALL_DISTANCE
    down = (np.arange(lens.height) + 0.5 - centre_y) / focal * WALL_DISTANCE
    return _paint(*np.broadcast_arrays(across[None, :], down[:, None]))


def _paint(x: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the colours [..., 3] u8 of the wall at x, y (metres)."""
    generator = torch.Generator().manual_seed(3)
    waves = torch.randn(8, 3, 3, generator=generator, dtype=torch.float64).numpy()
    value = sum(np.sin(3 * (wave[0] * x[..., None] + wave[1] * y[..., None]) + 6 * wave[2]) for wave in waves)
    return np.clip(128 + 30 * value, 0, 255).astype(np.uint8)
