"""The depth of a view is that of the surface that its image shows."""

from pathlib import Path

import numpy as np
import torch

from adop.config import EnvironmentConfig, NetworkConfig, RenderConfig, TrainConfig
from adop.geometry.lens import Lens
from adop.model.pipeline import Pipeline, build_pipeline
from adop.render.camera_path import Frame, pinhole
from adop.render.views import render_views
from adop.scene.point_cloud import PointCloud
from adop.scene.scene import Photo, Scene

SIDE = 32  # px of the image
NEAR, FAR = 2.0, 6.0  # depth of the surface with gaps, and of the wall behind it
RED, BLUE = (200, 20, 20), (20, 20, 200)


def plane(depth: float, step: int, half_width: float) -> np.ndarray:
    """Return points [N, 3] at a depth, one in every `step`-th column and row of pixels of a square in the centre.

    Args: half_width: of the square, in shares of the image's half width.
    """
    pixels = np.arange(0, SIDE, step) + 0.5
    pixels = pixels[np.abs(pixels - SIDE / 2) < half_width * SIDE / 2]
    u, v = np.meshgrid(pixels, pixels)
    x, y = ((u.ravel() - SIDE / 2) / SIDE * depth, (v.ravel() - SIDE / 2) / SIDE * depth)
    return np.stack([x, y, np.full(x.shape, depth)], axis=1).astype(np.float32)


def pipeline_of(xyz: np.ndarray, colours: np.ndarray, folder: Path) -> Pipeline:
    """Return a pipeline whose image is the hole-filled points."""
    radius = np.full(len(xyz), 1.0, np.float32)
    cloud = PointCloud(xyz=xyz, normals=None, colors=colours, radius=radius, lod_radius=radius)
    intrinsics = np.array([SIDE, SIDE, SIDE / 2, SIDE / 2])
    lens = Lens("opencv", SIDE, SIDE, intrinsics, np.zeros(8))
    photos = tuple(Photo(folder / f"{i}.png", 0, np.eye(4)) for i in range(2))
    scene = Scene("planes", folder, (lens,), photos, cloud, np.array([0.0, -1.0, 0.0]))
    config = TrainConfig(
        render=RenderConfig(levels=4, fill_levels=4),
        network=NetworkConfig(kind="none"),
        environment=EnvironmentConfig(enabled=False),
        scene=str(folder),
    )
    return build_pipeline(scene, config, torch.zeros(2), torch.ones(2, dtype=torch.bool)).eval()


def test_depth_in_the_gaps_of_a_near_surface_is_that_of_the_surface(tmp_path: Path):
    """A point in every other column and row leaves gaps through which single points of the wall behind are drawn."""
    surface, wall = plane(NEAR, step=2, half_width=0.6), plane(FAR, step=1, half_width=1.0)
    colours = np.array([RED] * len(surface) + [BLUE] * len(wall), np.uint8)
    pipeline = pipeline_of(np.concatenate([surface, wall]), colours, tmp_path)
    camera = pinhole(Frame(np.eye(4), 1.0), SIDE, SIDE, torch.device("cpu"))
    with torch.no_grad():
        finest = pipeline.draw(camera, pipeline.points.features, pipeline.raster).depth[0][0, 0]
    view = render_views(pipeline, camera)[0]
    inner = slice(SIDE // 2 - 6, SIDE // 2 + 6)  # of the surface, away from its outline
    assert float((finest[inner, inner] == FAR).float().mean()) > 0.7  # the gaps
    red, _, blue = view.radiance[:, inner, inner]
    assert bool((red > 4 * blue).all())
    assert bool((view.depth[inner, inner] == NEAR).all())
    assert bool((view.depth[:3] == FAR).all())  # beside the surface, the wall
