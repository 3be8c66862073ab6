"""New points in holes: where points were taken away, points come back; where none belong, none come."""

import dataclasses
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch
from scipy.spatial import cKDTree

from adop.config import GrowConfig, TrainConfig
from adop.grow import fill_holes
from adop.photometry import known_exposures
from adop.photos import PhotoCache
from adop.pipeline import Pipeline
from adop.scene import Scene, load_scene


def grown(scene: Scene) -> np.ndarray:
    """The points that filling adds, [M, 3]."""
    exposure = known_exposures(scene)
    assert exposure is not None
    pipeline = Pipeline(scene, TrainConfig(), exposure, torch.ones(len(scene.photos), dtype=torch.bool))
    before = len(pipeline.xyz)
    config = GrowConfig(photos=8, side=240)
    added = fill_holes(pipeline, PhotoCache(scene), list(range(0, len(scene.photos), 2)), config)
    assert len(pipeline.xyz) == len(pipeline.features) == len(pipeline.lod_radius) == before + added
    return pipeline.xyz[before:].numpy()


def test_a_hole_in_the_cloud_is_filled_near_where_its_points_were(demo_folder: Path):
    scene = load_scene(demo_folder, report=lambda _: None)
    points = scene.points
    # The paving before the fountain: many photos see it.
    centres = np.stack([np.linalg.inv(p.world_to_camera)[:3, 3] for p in scene.photos])
    ground = np.abs(points.xyz[:, 2] - np.median(points.xyz[points.xyz[:, 2] < 0.1, 2])) < 0.05
    towards = 0.5 * centres.mean(0)[:2]
    middle = points.xyz[ground][np.argmin(np.linalg.norm(points.xyz[ground][:, :2] - towards, axis=1))]
    inside = np.linalg.norm(points.xyz - middle, axis=1) < 1.0
    assert inside.sum() > 500
    keep = ~inside
    holed = dataclasses.replace(
        points,
        **{
            name: None if getattr(points, name) is None else getattr(points, name)[keep]
            for name in ("xyz", "normals", "colors", "radius", "lod_radius")
        },
    )
    before, after = grown(scene), grown(dataclasses.replace(scene, points=holed))
    in_hole = after[np.linalg.norm(after - middle, axis=1) < 1.0]
    assert len(in_hole) > 30
    assert np.sum(np.linalg.norm(before - middle, axis=1) < 1.0) < 0.2 * len(in_hole)
    distance, _ = cKDTree(points.xyz[inside]).query(in_hole)
    assert np.median(distance) < 0.15


def test_a_sky_is_no_curtain(demo_folder: Path):
    """Few points come where only the sky is: above everything that the cloud holds."""
    scene = load_scene(demo_folder, report=lambda _: None)
    added = grown(scene)
    # Without asking whether the place may as well be endlessly far, half as many again as there were would come.
    assert len(added) < 0.05 * len(scene.points.xyz)


def test_an_overexposed_sky_is_no_curtain(demo_folder: Path, tmp_path: Path):
    """White agrees with white at any depth, and most of all in photos that were exposed alike."""
    scene = load_scene(demo_folder, report=lambda _: None)
    for photo in scene.photos:
        image = imageio.imread(photo.file).astype(np.float32)
        imageio.imwrite(tmp_path / photo.file.name, (image * 4).clip(0, 255).astype(np.uint8))
    bright = tuple(dataclasses.replace(p, file=tmp_path / p.file.name, exposure=10.0) for p in scene.photos)
    added = grown(dataclasses.replace(scene, photos=bright))
    assert len(added) < 0.001 * len(scene.points.xyz)
