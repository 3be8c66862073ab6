"""Points that the photos contradict are removed, and what hides the scene in one photo is found; the rest remains."""

import dataclasses
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
import torch

from adop.config import LearnConfig, OccludersConfig, PruneConfig, TrainConfig
from adop.initialisation.consistency import find_occluders, remove_unsupported
from adop.initialisation.photometry import colour_points, sample_points
from adop.initialisation.physical_camera import calibrate
from adop.model.pipeline import build_pipeline
from adop.run.photos.scene_photos import known_exposures
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


def test_what_hides_the_scene_in_one_photo_is_found(demo_folder: Path, tmp_path: Path):
    truth, hidden = _found_in_one_photo(demo_folder, tmp_path, (slice(180, 300), slice(160, 310)))
    assert (hidden & truth).sum() > 0.9 * truth.sum()
    assert (hidden & ~truth).sum() < 0.015 * truth.size


def test_what_hides_the_scene_is_found_before_the_sky_too_where_no_point_judges(
    demo_folder: Path, tmp_path: Path
):
    truth, hidden = _found_in_one_photo(demo_folder, tmp_path, (slice(0, 160), slice(240, 400)))
    sky = slice(0, 60)
    assert (hidden & truth)[sky].sum() > 0.8 * truth[sky].sum()
    assert (hidden & ~truth).sum() < 0.03 * truth.size  # the sky itself remains


def _found_in_one_photo(
    folder: Path, work: Path, painted: tuple[slice, slice]
) -> tuple[np.ndarray, np.ndarray]:
    """Paint leaves into a photo of the demo scene; return [H, W] bool, where, and what is found to hide the scene."""
    scene = load_scene(folder, report=lambda _: None)
    hiding, photos = 9, list(range(1, len(scene.photos), 4))
    image = imageio.imread(scene.photos[hiding].file).copy()
    truth = np.zeros(image.shape[:2], dtype=bool)
    truth[painted] = True
    noise = np.random.default_rng(0).integers(0, 60, (*truth.shape, 3), dtype=np.uint8)
    image[truth] = (noise + np.array([20, 120, 20], dtype=np.uint8))[truth]  # like leaves
    file = work / "hidden.png"
    imageio.imwrite(file, image)
    changed = list(scene.photos)
    changed[hiding] = dataclasses.replace(changed[hiding], file=file)
    scene = dataclasses.replace(scene, photos=tuple(changed))
    exposure = known_exposures(scene)
    assert exposure is not None
    pipeline = build_pipeline(scene, TrainConfig(), exposure, torch.ones(len(scene.photos), dtype=torch.bool))
    cache = PhotoCache(scene)
    point_samples = {photo: sample_points(pipeline, cache, photo) for photo in photos}
    calibrate(pipeline, point_samples, LearnConfig())
    found = find_occluders(pipeline, cache, point_samples, OccludersConfig())
    hidden = found.pop(hiding).numpy()
    assert all(float(other.float().mean()) < 0.01 for other in found.values())
    assert find_occluders(pipeline, cache, point_samples, OccludersConfig(min_views=len(photos))) == {}
    return truth, hidden
