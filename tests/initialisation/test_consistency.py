"""Points that the photos contradict are removed; the others remain."""

import dataclasses
from pathlib import Path

import numpy as np
import torch

from adop.config import PruneConfig, TrainConfig
from adop.initialisation.photometry import colour_points, sample_points
from adop.initialisation.prune import remove_unsupported
from adop.model.pipeline import build_pipeline
from adop.run.photos import known_exposures
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene


def test_floaters_are_removed_and_the_scene_remains(demo_folder: Path):
    scene = load_scene(demo_folder, report=lambda _: None)
    points, rng = scene.points, np.random.default_rng(0)
    # Floaters of vivid colours, half way between points of the scene and the centre of the cameras.
    centres = np.stack([np.linalg.inv(p.world_to_camera)[:3, 3] for p in scene.photos])
    chosen = rng.choice(len(points.xyz), 200, replace=False)
    assert points.colors is not None and points.normals is not None
    xyz = points.xyz.copy()
    xyz[chosen] = 0.5 * (points.xyz[chosen] + centres.mean(0)).astype(np.float32)
    colors = points.colors.copy()
    colors[chosen] = rng.choice(np.array([[255, 0, 255], [0, 255, 0]], dtype=colors.dtype), 200)
    moved = dataclasses.replace(
        scene, points=dataclasses.replace(points, xyz=xyz, colors=colors, normals=None)
    )
    exposure = known_exposures(moved)
    assert exposure is not None
    photos = list(range(0, len(scene.photos), 3))
    pipeline = build_pipeline(moved, TrainConfig(), exposure, torch.ones(len(scene.photos), dtype=torch.bool))
    point_samples = {photo: sample_points(pipeline, PhotoCache(moved), photo) for photo in photos}
    views = torch.zeros(len(xyz))
    for samples in point_samples.values():
        views[samples.points] += 1
    colour_points(pipeline, point_samples)
    removed = remove_unsupported(pipeline, point_samples, PruneConfig())
    left = torch.zeros(len(xyz), dtype=torch.bool)
    left[pipeline.points.origin.long()] = True
    points = pipeline.points
    assert len(points) == len(points.features) == len(points.lod_radius) == len(xyz) - removed
    floaters = torch.zeros(len(xyz), dtype=torch.bool)
    floaters[chosen] = True
    judged = views >= 3
    assert (floaters & judged).sum() > 30
    assert (left & floaters & judged).sum() < 0.4 * (floaters & judged).sum()
    assert (~left & ~floaters).sum() < 0.03 * len(xyz)
    assert torch.equal(pipeline.points.xyz, torch.from_numpy(xyz).float()[left])
