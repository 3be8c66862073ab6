"""Photos sampled at points, and exposures estimated from them, against known truth."""

from pathlib import Path

import numpy as np
import pytest
import torch

from adop.config import RenderConfig, TrainConfig
from adop.initialisation.photometry import PointSamples, estimate_exposures, sample_points
from adop.model.pipeline import build_pipeline
from adop.model.tonemapper import srgb_encode
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene


def test_exposures_follow_from_points_that_several_photos_see():
    generator = torch.Generator().manual_seed(0)
    radiance = torch.rand(2000, 3, generator=generator) * 0.4 + 0.02
    truth = torch.tensor([0.7, -0.4, 0.0, -0.3])
    point_samples = {}
    for photo in range(4):
        points = torch.randperm(2000, generator=generator)[:900].sort().values
        light = radiance[points] * torch.exp2(-truth[photo])
        light[:90] *= 2  # something bright hides a tenth of the points
        value = srgb_encode(light.clamp(0, 1))
        point_samples[photo] = PointSamples(points, value, torch.ones(900), torch.zeros(900, 2))
    found = estimate_exposures(point_samples, 2000, 4)
    assert torch.allclose(found, truth - truth.mean(), atol=0.05)


def test_samples_are_the_pixels_that_points_project_to(demo_folder: Path):
    """Compare with an independent projection in NumPy, of the points that are visible."""
    scene = load_scene(demo_folder, report=lambda _: None)
    config = TrainConfig(render=RenderConfig(levels=1))
    count = len(scene.photos)
    pipeline = build_pipeline(scene, config, torch.zeros(count), torch.ones(count, dtype=torch.bool))
    cache = PhotoCache(scene)
    found = sample_points(pipeline, cache, 4)
    assert len(found.points) > 1000
    lens, pose = scene.lenses[scene.photos[4].lens], scene.photos[4].world_to_camera
    local = scene.points.xyz[found.points.numpy()].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3]
    x, y = local[:, 0] / local[:, 2], local[:, 1] / local[:, 2]
    k1, k2, p1, p2 = lens.distortion[:4]
    r2 = x * x + y * y
    radial = 1 + k1 * r2 + k2 * r2 * r2 + lens.distortion[4] * r2**3
    u = lens.intrinsics[0] * (x * radial + 2 * p1 * x * y + p2 * (r2 + 2 * x * x)) + lens.intrinsics[2]
    v = lens.intrinsics[1] * (y * radial + p1 * (r2 + 2 * y * y) + 2 * p2 * x * y) + lens.intrinsics[3]
    pixel = cache.get(4)[np.floor(v).astype(int), np.floor(u).astype(int)]
    same = torch.isclose(pixel.float() / 255, found.value, atol=1e-4).all(1)
    assert float(same.float().mean()) > 0.995  # the others lie on the edge of a pixel


@pytest.mark.parametrize("photo", [0, 7])
def test_exposures_are_estimated_without_exif(demo_folder: Path, photo: int):
    """The estimate from the demo's photos is near EXIF."""
    scene = load_scene(demo_folder, report=lambda _: None)
    count = len(scene.photos)
    pipeline = build_pipeline(scene, TrainConfig(), torch.zeros(count), torch.ones(count, dtype=torch.bool))
    cache = PhotoCache(scene)
    chosen = list(range(photo, photo + 8))
    point_samples = {i: sample_points(pipeline, cache, i) for i in chosen}
    found = estimate_exposures(point_samples, len(pipeline.points.xyz), count)[chosen]
    exif = torch.tensor([scene.photos[i].exposure for i in chosen], dtype=torch.float32)
    # The true response is not that of sRGB, so the scale of the estimate is a little off.
    assert float((found - (exif - exif.mean())).abs().median()) < 0.35
