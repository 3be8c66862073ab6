"""A pipeline whose image is given points in front of a given environment: no network, nothing learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from adop.config import EnvironmentConfig, NetworkConfig, RenderConfig, TrainConfig
from adop.geometry.lens import Lens
from adop.model.pipeline import Pipeline, build_pipeline
from adop.scene.point_cloud import PointCloud
from adop.scene.scene import Photo, Scene


def point_pipeline(
    xyz: np.ndarray, colours: np.ndarray, folder: Path, levels: int = 4, environment_rows: int | None = None
) -> Pipeline:
    """Return the pipeline of points xyz [N, 3] with colours [N, 3] uint8.

    Args:
        levels: of the pyramid, whose holes are filled from coarser ones; 1: points are single pixels.
        environment_rows: of a map of the environment; None: one colour.
    """
    radius = np.full(len(xyz), 1.0, np.float32)
    cloud = PointCloud(xyz=xyz, normals=None, colors=colours, radius=radius, lod_radius=radius)
    lens = Lens("opencv", 32, 32, np.array([32.0, 32, 16, 16]), np.zeros(8))
    photos = tuple(Photo(folder / f"{i}.png", 0, np.eye(4)) for i in range(2))
    scene = Scene("points", folder, (lens,), photos, cloud, np.array([0.0, -1.0, 0.0]))
    config = TrainConfig(
        render=RenderConfig(levels=levels, fill_levels=levels, antialias=levels > 1),
        network=NetworkConfig(kind="none"),
        environment=EnvironmentConfig(enabled=environment_rows is not None, height=environment_rows),
        scene=str(folder),
    )
    return build_pipeline(scene, config, torch.zeros(2), torch.ones(2, dtype=torch.bool)).eval()
