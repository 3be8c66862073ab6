"""Gaps between points are filled on the surface of the points, in the photos' colours, within the budget."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from adop.config import DensifyConfig, TrainConfig
from adop.initialisation.densify import densify
from adop.model.pipeline import Pipeline, build_pipeline
from adop.run.photos.scene_photos import known_exposures
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene
from adop.scene.scene import Scene
from support.small_scene import with_points

PHOTOS = list(range(1, 16, 2))
CONFIG = DensifyConfig(max_points=400_000, scales=(0.5, 1.0))


def densified(
    scene: Scene, config: DensifyConfig = CONFIG, photos: list[int] = PHOTOS
) -> tuple[Pipeline, np.ndarray]:
    """Return the pipeline with added points, and which of its points [N] are new."""
    exposure = known_exposures(scene)
    assert exposure is not None
    pipeline = build_pipeline(scene, TrainConfig(), exposure, torch.ones(len(scene.photos), dtype=torch.bool))
    before = len(pipeline.points)
    added = densify(pipeline, PhotoCache(scene), photos, config)
    new = (pipeline.points.origin < 0).numpy()
    assert len(pipeline.points) == before + added == before + new.sum()
    assert np.array_equal(np.sort(pipeline.points.origin.numpy()[~new]), np.arange(before))
    return pipeline, new


def coverage(pipeline: Pipeline, photo: int) -> float:
    """Return the share of a photo's pixels with a surface that have a point."""
    camera = pipeline.camera(torch.tensor([photo]))
    raster = dataclasses.replace(pipeline.raster, radius_threshold=0.0)
    levels = pipeline.draw(camera, torch.zeros(len(pipeline.points), 1), raster)
    surface = torch.nn.functional.interpolate((levels.weight[2] > 0).float(), scale_factor=4)
    height, width = levels.weight[0].shape[2:]
    surface = surface[..., :height, :width]
    return float(((levels.weight[0] > 0) * surface).sum() / surface.sum())


@pytest.fixture(scope="module")
def thinned(demo_folder: Path) -> tuple[Scene, np.ndarray]:
    """Return the demo scene with a third of its points, and the others, which are the truth."""
    scene = load_scene(demo_folder, report=lambda _: None)
    kept = np.arange(len(scene.points)) % 3 == 0
    return with_points(scene, kept), scene.points.xyz[~kept]


def test_gaps_are_filled_on_the_surface_and_in_its_colours(thinned: tuple[Scene, np.ndarray]) -> None:
    scene, truth = thinned
    untouched, _ = densified(scene, dataclasses.replace(CONFIG, max_points=1))
    pipeline, new = densified(scene)
    assert coverage(untouched, PHOTOS[3]) < 0.6 < 0.7 < coverage(pipeline, PHOTOS[3])
    xyz = pipeline.points.xyz.numpy()
    centres = np.stack([np.linalg.inv(p.world_to_camera)[:3, 3] for p in scene.photos])
    everything = np.concatenate((truth, xyz[~new]))
    spacing = np.median(cKDTree(everything).query(everything, k=2)[0][:, 1])
    error = cKDTree(everything).query(xyz[new])[0]
    assert np.median(error) < 2 * spacing
    assert np.quantile(error / cKDTree(centres).query(xyz[new])[0], 0.95) < 0.02
    _, nearest = cKDTree(xyz[~new]).query(xyz[new])
    colours = pipeline.points.features.detach().numpy()[:, :3]
    # The photos' exposures in EXIF are some tenths of a stop off, so the new colours are compared by their course.
    assert np.corrcoef(colours[new].mean(1), colours[~new][nearest].mean(1))[0, 1] > 0.8


def test_blocks_stay_sorted_and_radii_fit_the_new_density(thinned: tuple[Scene, np.ndarray]) -> None:
    pipeline, new = densified(thinned[0])
    blocks = pipeline.points().blocks
    assert blocks is not None and blocks.falling.all()
    radius = pipeline.points.lod_radius.numpy()
    assert np.median(radius[new]) < np.median(radius[~new])


def test_a_small_budget_is_spread_over_the_scene(thinned: tuple[Scene, np.ndarray]) -> None:
    scene = thinned[0]
    full, all_new = densified(scene)
    few, new = densified(scene, dataclasses.replace(CONFIG, max_points=len(scene.points) + 20_000))
    assert new.sum() == 20_000
    distance = cKDTree(few.points.xyz.numpy()[new]).query(full.points.xyz.numpy()[all_new])[0]
    assert np.median(distance) < 0.3  # metres, in a square of 25 m


def test_points_that_no_other_photo_confirms_are_not_added(
    thinned: tuple[Scene, np.ndarray], tmp_path: Path
) -> None:
    scene = thinned[0]
    _, new = densified(scene)
    # The photos of other places: no two of them agree on a colour.
    order = np.roll(np.arange(len(scene.photos)), 5)
    photos = [
        dataclasses.replace(p, file=scene.photos[i].file) for p, i in zip(scene.photos, order, strict=True)
    ]
    _, wrong = densified(dataclasses.replace(scene, photos=tuple(photos)))
    assert wrong.sum() < 0.5 * new.sum()
    _, alone = densified(scene, photos=PHOTOS[:1])
    assert not alone.any()


def test_the_same_points_are_added_every_time(thinned: tuple[Scene, np.ndarray]) -> None:
    config = dataclasses.replace(CONFIG, max_photos=3)
    first, second = (densified(thinned[0], config)[0].points for _ in range(2))
    assert torch.equal(first.xyz, second.xyz) and torch.equal(first.lod_radius, second.lod_radius)
    assert torch.equal(first.features, second.features)
