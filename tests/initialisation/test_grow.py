"""Points are added where points were taken away, and not in the sky."""

import dataclasses
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import pytest
import torch
from scipy.spatial import cKDTree

from adop.config import GrowConfig, TrainConfig
from adop.initialisation.grow import grow_points
from adop.model.pipeline import build_pipeline
from adop.ops import project
from adop.run.photos.scene_photos import known_exposures
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene
from adop.scene.scene import Scene
from support.small_scene import with_points


def grown(
    scene: Scene, stereo: bool = True, budget: int = 200_000, photos: list[int] | None = None
) -> np.ndarray:
    """Return the added points [M, 3]; by default from every second photo."""
    exposure = known_exposures(scene)
    assert exposure is not None
    pipeline = build_pipeline(scene, TrainConfig(), exposure, torch.ones(len(scene.photos), dtype=torch.bool))
    before = len(pipeline.points.xyz)
    config = GrowConfig(max_photos=8, longest_side=240, stereo=stereo, max_points=budget)
    photos = photos or list(range(0, len(scene.photos), 2))
    added = grow_points(pipeline, PhotoCache(scene), photos, config)
    assert (
        len(pipeline.points.xyz)
        == len(pipeline.points.features)
        == len(pipeline.points.lod_radius)
        == before + added
    )
    return pipeline.points.xyz[before:].numpy()


def scene_with_hole(scene: Scene) -> tuple[Scene, np.ndarray, np.ndarray]:
    """Return the scene without a disc of the paving that many photos see, the disc's centre, and its points."""
    points = scene.points
    centres = np.stack([np.linalg.inv(p.world_to_camera)[:3, 3] for p in scene.photos])
    ground = np.abs(points.xyz[:, 2] - np.median(points.xyz[points.xyz[:, 2] < 0.1, 2])) < 0.05
    towards = 0.5 * centres.mean(0)[:2]
    middle = points.xyz[ground][np.argmin(np.linalg.norm(points.xyz[ground][:, :2] - towards, axis=1))]
    inside = np.linalg.norm(points.xyz - middle, axis=1) < 1.0
    assert inside.sum() > 500
    return with_points(scene, ~inside), middle, points.xyz[inside]


def with_photos(
    scene: Scene, folder: Path, gain: float, noise: float = 0.0, exposure: float | None = None
) -> Scene:
    """Return the scene with photos whose values are multiplied by `gain`, plus noise; `exposure` replaces their own."""
    photos, generator = [], np.random.default_rng(0)
    for photo in scene.photos:
        image = imageio.imread(photo.file).astype(np.float32) * gain
        image += noise * generator.standard_normal(image.shape)
        file = folder / f"{photo.file.stem}.png"
        imageio.imwrite(file, image.clip(0, 255).round().astype(np.uint8))
        value = photo.exposure if exposure is None else exposure
        photos.append(dataclasses.replace(photo, file=file, exposure=value))
    return dataclasses.replace(scene, photos=tuple(photos))


@pytest.mark.long
def test_a_hole_is_filled_where_its_points_were(demo_folder: Path):
    scene = load_scene(demo_folder, report=lambda _: None)
    without, middle, taken = scene_with_hole(scene)
    before = grown(scene)
    errors = {}
    for stereo in (True, False):
        after = grown(without, stereo)
        in_hole = after[np.linalg.norm(after - middle, axis=1) < 1.0]
        assert len(in_hole) > 500
        assert np.sum(np.linalg.norm(before - middle, axis=1) < 1.0) < 0.2 * len(in_hole)
        errors[stereo], _ = cKDTree(taken).query(in_hole)
    # Points of the cloud lie a few centimetres apart here; the square is 25 m wide.
    assert np.median(errors[True]) < 0.05 and np.quantile(errors[True], 0.9) < 0.12
    assert np.median(errors[False]) < 0.15


@pytest.mark.long
def test_a_sparse_cloud_becomes_dense(demo_folder: Path):
    """With one point in sixty, what stereo adds lies on the whole cloud, relative to the distance from the cameras."""
    scene = load_scene(demo_folder, report=lambda _: None)
    whole = scene.points.xyz
    after = grown(with_points(scene, slice(None, None, 60)))
    centres = np.stack([np.linalg.inv(p.world_to_camera)[:3, 3] for p in scene.photos])
    distance, _ = cKDTree(whole).query(after)
    error = distance / cKDTree(centres).query(after)[0]
    assert len(after) > 5 * len(whole) / 60
    assert np.median(error) < 0.02
    # Without stereo, a fifth as many are added, and their depths are a fifth off.
    assert len(grown(with_points(scene, slice(None, None, 60)), stereo=False)) < 0.3 * len(after)
    few = grown(with_points(scene, slice(None, None, 60)), budget=1000)
    assert len(few) == 1000
    # They come from the whole scene, not only from the first photos.
    nearest, _ = cKDTree(few).query(after)
    assert np.median(nearest) < 0.5


@pytest.mark.long
def test_a_dark_hole_is_filled_too(demo_folder: Path, tmp_path: Path):
    """In the dark, noise is a large part of the light and must not count as a difference between photos."""
    scene, middle, _ = scene_with_hole(load_scene(demo_folder, report=lambda _: None))
    after = grown(with_photos(scene, tmp_path, gain=0.15, noise=3.0))
    in_hole = after[np.linalg.norm(after - middle, axis=1) < 1.0]
    # If logarithms of the light itself were compared, 988 would be added.
    assert len(in_hole) > 1030


@pytest.mark.long
def test_a_surface_goes_on_where_only_one_photo_looks(demo_folder: Path):
    """Without the points of a photo's lower border that the only other photo does not show."""
    scene = load_scene(demo_folder, report=lambda _: None)
    exposure, count = known_exposures(scene), len(scene.photos)
    assert exposure is not None
    pipeline = build_pipeline(scene, TrainConfig(), exposure, torch.ones(count, dtype=torch.bool))
    first, other = (project(pipeline.camera(torch.tensor([i])), pipeline.points()) for i in (0, 12))
    height = scene.lenses[scene.photos[0].lens].height
    border = (first.visible[0] & (first.uv[0, :, 1] > 0.85 * height) & ~other.visible[0]).numpy()
    assert border.sum() > 1000
    after = grown(with_points(scene, ~border), photos=[0, 12])
    taken = scene.points.xyz[border]
    beside = cKDTree(after).query(taken)[0]
    centre = np.linalg.inv(scene.photos[0].world_to_camera)[:3, 3]
    distance = np.linalg.norm(taken - centre, axis=1)
    assert np.median(beside / distance) < 0.1
    whole = cKDTree(grown(scene, photos=[0, 12])).query(taken)[0]
    assert np.median(whole / distance) > 2 * np.median(beside / distance)


def test_the_sky_gets_few_points(demo_folder: Path):
    """Where photos show only the sky, there is no surface to add points to."""
    scene = load_scene(demo_folder, report=lambda _: None)
    added = grown(scene)
    # If infinite depth were not tried as well, half as many points as the cloud has would be added.
    assert len(added) < 0.05 * len(scene.points.xyz)


@pytest.mark.long
def test_an_overexposed_sky_gets_no_points(demo_folder: Path, tmp_path: Path):
    """Clipped pixels agree at any depth, and most of all in photos of the same exposure."""
    scene = load_scene(demo_folder, report=lambda _: None)
    added = grown(with_photos(scene, tmp_path, gain=4.0, exposure=10.0))
    assert len(added) < 0.001 * len(scene.points.xyz)
