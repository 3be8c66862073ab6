"""Photos sampled at points, and exposures estimated from them, against known truth."""

from pathlib import Path

import numpy as np
import pytest
import torch

from adop.config import RenderConfig, TrainConfig
from adop.initialisation.photometry import (
    PointSamples,
    estimate_exposures,
    judge_exposures,
    sample_points,
    unrelated_photos,
)
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
    found = estimate_exposures(point_samples, 2000, torch.full((4,), torch.nan))
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
    found = estimate_exposures(point_samples, len(pipeline.points.xyz), torch.zeros(count))[chosen]
    exif = torch.tensor([scene.photos[i].exposure for i in chosen], dtype=torch.float32)
    # The true response is not that of sRGB, so the scale of the estimate is a little off.
    assert float((found - (exif - exif.mean())).abs().median()) < 0.35


ESTIMATED = torch.tensor([0.3, -0.2, 0.5, -0.6, 0.1, -0.1])
TRAINED = torch.tensor([True, True, True, True, True, False])


def test_exposures_that_the_photos_bear_out_are_taken_as_given():
    given = ESTIMATED + torch.tensor([0.1, -0.1, 0.2, -0.3, 0.1, 0.0]) + 11.0
    found = judge_exposures(given, torch.where(TRAINED, ESTIMATED, torch.nan), TRAINED)
    assert found.from_exif and found.doubted == {}
    assert torch.allclose(found.ev, given - given[TRAINED].mean(), atol=1e-5)


def test_a_photo_five_stops_off_starts_where_it_shows():
    given = ESTIMATED + 11.0
    given[2] += 5
    found = judge_exposures(given, torch.where(TRAINED, ESTIMATED, torch.nan), TRAINED)
    assert found.from_exif and list(found.doubted) == [2] and abs(found.doubted[2] - 5) < 0.2
    assert torch.allclose(found.ev, ESTIMATED - ESTIMATED[TRAINED].mean(), atol=1e-5)


def test_photos_without_exposure_start_where_they_show_or_between_neighbours():
    given = ESTIMATED + 11.0
    given[1] = given[5] = torch.nan
    found = judge_exposures(given, torch.where(TRAINED, ESTIMATED, torch.nan), TRAINED)
    expected = torch.cat((ESTIMATED[:5], ESTIMATED[4:5]))
    assert found.from_exif and found.doubted == {}
    assert torch.allclose(found.ev, expected - expected[:5].mean(), atol=1e-5)


def test_a_held_out_photo_far_from_all_others_starts_between_its_neighbours():
    given = ESTIMATED + 11.0
    given[5] = 3.0
    found = judge_exposures(given, torch.where(TRAINED, ESTIMATED, torch.nan), TRAINED)
    assert list(found.doubted) == [5] and float(found.ev[5]) == float(found.ev[4])


def test_exposures_that_the_photos_do_not_follow_are_not_used():
    given = torch.tensor([11.0, 14.0, 9.0, 12.0, 8.0, 11.0])
    found = judge_exposures(given, torch.where(TRAINED, 0.1 * ESTIMATED, torch.nan), TRAINED)
    assert not found.from_exif and len(found.doubted) == 5
    assert torch.allclose(found.ev[:5], 0.1 * (ESTIMATED - ESTIMATED[TRAINED].mean())[:5], atol=1e-5)


def test_without_any_exposure_all_start_alike():
    unknown = torch.full((6,), torch.nan)
    found = judge_exposures(unknown, unknown, TRAINED)
    assert not found.from_exif and torch.equal(found.ev, torch.zeros(6))


def test_a_photo_that_shows_something_else_is_unrelated():
    generator = torch.Generator().manual_seed(3)
    radiance = torch.rand(2000, 3, generator=generator) * 0.4 + 0.02
    point_samples = {}
    for photo in range(5):
        points = torch.randperm(2000, generator=generator)[:900].sort().values
        light = radiance[points] * (1 + 0.3 * torch.randn(900, 1, generator=generator))
        if photo == 3:
            light = light[torch.randperm(900, generator=generator)]
        value = srgb_encode(light.clamp(0, 1))
        point_samples[photo] = PointSamples(points, value, torch.ones(900), torch.zeros(900, 2))
    assert unrelated_photos(point_samples, 2000) == [3]
    few = point_samples[1]
    point_samples[1] = PointSamples(
        *(part[:20] for part in (few.points, few.value, few.confidence, few.position))
    )
    assert unrelated_photos(point_samples, 2000) == [1, 3]
    point_samples[2] = point_samples[1]  # now there are many, as of views of the sky
    assert unrelated_photos(point_samples, 2000) == [3]
