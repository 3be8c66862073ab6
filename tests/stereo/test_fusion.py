"""Fusion: the confidence of points, by hand on planes that are known, and against the truth on photos with noise."""

from dataclasses import replace
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import torch
from safetensors.torch import save_file

from adop.geometry.lens import Lens
from adop.scene.photo_cache import PhotoCache
from adop.stereo.depth_maps import StereoScene, find_planes
from adop.stereo.fusion import fuse
from adop.stereo.stereo_config import StereoConfig
from adop.stereo.views import find_neighbourhoods
from support.stereo_scenes import DISTANCE, NORMAL, photographed_plane, true_planes

LENS = Lens("opencv", 80, 60, np.array([80.0, 80.0, 40.0, 30.0]), np.zeros(8))
COST = 0.1


def stereo_of(folder: Path, noise: float, config: StereoConfig) -> StereoScene:
    scene = photographed_plane(folder / "photos", LENS, noise)
    return StereoScene(scene, PhotoCache(scene), find_neighbourhoods(scene, 4), config, folder / "work")


def write_planes(stereo: StereoScene, factors: dict[int, float]) -> None:
    """Write the true planes of all photos, those of some photos times a factor, all at the same cost."""
    for photo in stereo.neighbourhoods:
        planes = true_planes(stereo.view(photo).view).float() * factors.get(photo, 1.0)
        stereo.file("fine", photo).parent.mkdir(parents=True, exist_ok=True)
        save_file({"planes": planes, "costs": torch.full(planes.shape[1:], COST)}, stereo.file("fine", photo))


def seen_by_all(stereo: StereoScene, xyz: np.ndarray) -> np.ndarray:
    return np.all(
        [lens.project(xyz @ pose[:3, :3].T + pose[:3, 3])[2] for lens, pose in stereo.scene.views], 0
    )


def confidence(support: float) -> float:
    return (1 - COST) * support / (1 + support)


def test_photos_that_agree_entirely_give_the_confidence_of_their_number_and_cost(tmp_path):
    stereo = stereo_of(tmp_path, 0.0, StereoConfig())
    write_planes(stereo, {})
    points = fuse(stereo)
    by_number = [confidence(number * (1 - COST)) for number in (2, 3, 4)]
    difference = np.abs(points.confidence[:, None] - by_number)
    assert len(points.xyz) > 4000 and difference.min(1).max() < 1e-3
    everywhere = seen_by_all(stereo, points.xyz)
    assert everywhere.mean() > 0.3
    assert np.mean(difference[everywhere].argmin(1) == 2) > 0.95  # at the edges a photo may count or not


def test_a_depth_that_is_off_by_half_the_tolerance_counts_half(tmp_path):
    stereo = stereo_of(tmp_path, 0.0, StereoConfig())
    write_planes(stereo, {3: 1 + 0.5 * stereo.config.depth_tolerance})
    points = fuse(stereo)
    whole = 1 - COST
    expected = [confidence(3 * whole + 0.5 * whole), confidence(4 * 0.5 * whole)]  # of the others, of photo 3
    difference = np.abs(points.confidence[seen_by_all(stereo, points.xyz), None] - expected).min(1)
    assert np.mean(difference < 2e-3) > 0.95


def test_what_one_photo_alone_shows_does_not_colour_the_points(tmp_path):
    """A red square in any one photo changes no colour, though another photo is darker."""
    clouds = []
    for painted in (None, 0, 2, 4):
        stereo = stereo_of(tmp_path / str(painted), 0.0, StereoConfig())
        files = [photo.file for photo in stereo.scene.photos]
        iio.imwrite(files[1], (iio.imread(files[1]) * 0.7).round().astype(np.uint8))
        if painted is not None:
            pixels = iio.imread(files[painted])
            pixels[20:40, 30:50] = (255, 0, 0)
            iio.imwrite(files[painted], pixels)
        write_planes(stereo, {})
        clouds.append(fuse(stereo))
    for cloud in clouds[1:]:
        assert np.array_equal(cloud.xyz, clouds[0].xyz)
        difference = np.abs(clouds[0].colors.astype(int) - cloud.colors).max(1)
        assert difference.max() < 40 and np.mean(difference > 8) < 0.01


def test_points_of_high_confidence_are_more_exact(tmp_path):
    """A confidence that was constant or random would give quarters with the same error."""
    config = StereoConfig(min_views=2, coarse_sweeps=3)
    stereo = stereo_of(tmp_path, 0.2, config)
    find_planes(stereo)
    points = fuse(stereo)
    assert points.confidence.dtype == np.float32
    assert points.confidence.min() >= 0 and 0.5 < points.confidence.max() <= 1
    error = np.abs(points.xyz @ np.array(NORMAL) - DISTANCE) / np.linalg.norm(NORMAL)
    quarters = [float(part.mean()) for part in np.array_split(error[np.argsort(points.confidence)], 4)]
    assert quarters[0] > 2.5 * quarters[3] and quarters[1] > quarters[2] > quarters[3]

    pruned = fuse(replace(stereo, config=replace(config, min_confidence=0.3)))
    np.testing.assert_array_equal(pruned.xyz, points.xyz[points.confidence >= np.float32(0.3)])
