"""Start values and held-out photometry, against known truth."""

import math
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.config import RenderConfig, TrainConfig
from adop.initialisation.photometry import PointSamples, estimate_exposures, fit_photometry, gather, left_half
from adop.model.pipeline import build_pipeline
from adop.model.tonemapper import Photometry, Tonemapper, srgb_encode
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene


def test_exposures_from_points_that_several_photos_see():
    generator = torch.Generator().manual_seed(0)
    radiance = torch.rand(2000, 3, generator=generator) * 0.4 + 0.02
    truth = torch.tensor([0.7, -0.4, 0.0, -0.3])
    point_samples = {}
    for photo in range(4):
        seen = torch.randperm(2000, generator=generator)[:900].sort().values
        light = radiance[seen] * torch.exp2(-truth[photo])
        light[:90] *= 2  # a tenth is in the way of something bright
        point_samples[photo] = PointSamples(
            seen, srgb_encode(light.clamp(0, 1)), torch.ones(900), torch.zeros(900, 2)
        )
    found = estimate_exposures(point_samples, 2000, 4)
    assert torch.allclose(found, truth - truth.mean(), atol=0.05)


def test_photometry_is_found_in_spite_of_what_stands_in_the_way():
    generator = torch.Generator().manual_seed(0)
    tonemapper = Tonemapper(torch.zeros(1), torch.zeros(1, dtype=torch.long), torch.ones(1, dtype=torch.bool))
    radiance = torch.rand(1, 3, 40, 60, generator=generator) * 0.6
    position = torch.zeros(1, 2, 40, 60)

    def shoot(photometry: Photometry) -> torch.Tensor:
        return tonemapper(radiance, photometry, position, torch.tensor([0])).detach()

    truth = Photometry(torch.tensor([0.8]), torch.tensor([[1.1, 1.0, 0.9]]))
    target = shoot(truth)
    target[..., :15] = 0.02  # a tree
    start = Photometry(torch.zeros(1), torch.ones(1, 3))
    found = fit_photometry(shoot, target, torch.ones(1, 1, 40, 60), start)
    assert math.isclose(float(found.exposure), 0.8, abs_tol=0.02)
    assert torch.allclose(found.white_balance, truth.white_balance, atol=0.02)


def test_halves_share_no_pixel():
    mask = torch.ones(1, 1, 4, 7)
    left, right = left_half(mask)
    assert bool(((left + right) == mask).all()) and float(left.sum()) == 12


def test_gathered_light_is_the_photos_at_the_points(demo_folder: Path):
    """Independently: project with NumPy, take the pixel, for the points that the photo sees."""
    scene = load_scene(demo_folder, report=lambda _: None)
    config = TrainConfig(render=RenderConfig(levels=1))
    count = len(scene.photos)
    pipeline = build_pipeline(scene, config, torch.zeros(count), torch.ones(count, dtype=torch.bool))
    cache = PhotoCache(scene)
    found = gather(pipeline, cache, 4)
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
    assert float(same.float().mean()) > 0.995  # the rest fell on a pixel's edge


@pytest.mark.parametrize("photo", [0, 7])
def test_exposures_are_found_without_exif(demo_folder: Path, photo: int):
    """PointSamples from the demo's photos: the estimate is near what EXIF says."""
    scene = load_scene(demo_folder, report=lambda _: None)
    count = len(scene.photos)
    pipeline = build_pipeline(scene, TrainConfig(), torch.zeros(count), torch.ones(count, dtype=torch.bool))
    cache = PhotoCache(scene)
    chosen = list(range(photo, photo + 8))
    point_samples = {i: gather(pipeline, cache, i) for i in chosen}
    found = estimate_exposures(point_samples, len(pipeline.points.xyz), count)[chosen]
    exif = torch.tensor([scene.photos[i].exposure for i in chosen], dtype=torch.float32)
    # The true response is not sRGB, which bends the scale a little.
    assert float((found - (exif - exif.mean())).abs().median()) < 0.35
