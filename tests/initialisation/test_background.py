"""The far background is told from surfaces, whichever photo they are seen in."""

import dataclasses
from pathlib import Path

import torch

from adop.config import TrainConfig
from adop.initialisation.background import measure_background
from adop.initialisation.reduced_photos import ReducedPhoto, reduce_photos
from adop.model.pipeline import build_pipeline
from adop.run.photos.scene_photos import known_exposures
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene


def reduced_demo(folder: Path) -> dict[int, ReducedPhoto]:
    scene = load_scene(folder, report=lambda _: None)
    exposure = known_exposures(scene)
    assert exposure is not None
    pipeline = build_pipeline(scene, TrainConfig(), exposure, torch.ones(len(scene.photos), dtype=torch.bool))
    return reduce_photos(pipeline, PhotoCache(scene), list(range(0, len(scene.photos), 2)), 240)


def test_the_sky_is_background_and_the_square_is_not(demo_folder: Path) -> None:
    photos = reduced_demo(demo_folder)
    background = measure_background(photos.values(), 4, torch.device("cpu"))
    sky, surface = [], []
    for photo in photos.values():
        shown = background.shows(photo.rays(), photo.log_radiance[0].flatten(1).T, 0.25)
        sky.append(shown[photo.holes(4).flatten()])
        surface.append(shown[photo.has_point().flatten()])
    assert torch.cat(sky).float().mean() > 0.4
    assert torch.cat(surface).float().mean() < 0.02


def test_light_that_changes_with_the_position_is_no_background(demo_folder: Path) -> None:
    """Photos that show other colours in the same directions see something near."""
    photos = list(reduced_demo(demo_folder).values())
    changed = [
        dataclasses.replace(photo, log_radiance=photo.log_radiance + (2.0 if number % 2 else 0.0))
        for number, photo in enumerate(photos)
    ]
    background = measure_background(changed, 4, torch.device("cpu"))
    rays = torch.cat([photo.rays() for photo in photos])
    light = torch.cat([photo.log_radiance[0].flatten(1).T for photo in changed])
    before = measure_background(photos, 4, torch.device("cpu"))
    same = torch.cat([photo.log_radiance[0].flatten(1).T for photo in photos])
    assert background.shows(rays, light, 0.25).sum() < 0.3 * before.shows(rays, same, 0.25).sum()
