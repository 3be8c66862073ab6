"""Drawn surfaces continue into space that no photo saw, and only there."""

import dataclasses
from pathlib import Path

import pytest
import torch

from adop.config import EnvironmentConfig, RenderConfig, TrainConfig
from adop.geometry.camera import Camera
from adop.model.environment import Environment
from adop.model.views.extrapolation import (
    FALLING,
    REJECTED_ERROR,
    TRUSTED_ERROR,
    Extrapolation,
    _spread,
    composite_extrapolation,
    extrapolate,
)
from adop.ops import Levels, Points, RasterConfig, draw
from adop.run.run import open_scene

FILLS = 3
WALL, SKY = 1.0, 9.0
MODELS = ["opencv", "fisheye"]


def environment(error: float = 1.0) -> Environment:
    """Return an environment with the same cross-validation error everywhere."""
    result = Environment(EnvironmentConfig(), 4)
    result.error.fill_(error)
    return result


def camera_at(model: str, x: float, count: int = 1) -> Camera:
    """Return cameras at x, 1 mm apart, that look along z with a field of view of 90 degrees."""
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, 0, 3] = -x + 0.001 * torch.arange(count)
    focal = 64.0 if model == "opencv" else 64.0 / (torch.pi / 4)
    intrinsics = torch.tensor([[focal, focal, 64.0, 48.0]]).expand(count, 4)
    distortion = torch.zeros(count, 8 if model == "opencv" else 4)
    return Camera(model, 128, 96, intrinsics, distortion, pose)  # type: ignore[arg-type]


def wall(camera: Camera, right: float) -> Levels:
    """Draw a wall two units ahead, from far left up to `right`, in front of a sky."""
    x, y = torch.meshgrid(torch.arange(-8, right, 0.02), torch.arange(-4, 4, 0.02), indexing="ij")
    xyz = torch.stack((x, y, torch.full_like(x, 2.0)), -1).reshape(-1, 3)
    points = Points(xyz, torch.full((len(xyz),), 1.0))
    return draw(
        camera, points, torch.full((len(xyz), 4), WALL), RasterConfig(levels=5), torch.full((4,), SKY)
    )


def continued(levels: Levels, view: Camera, photos: Camera) -> list[torch.Tensor]:
    around = extrapolate(levels, view, [photos], environment(), Extrapolation(4, FILLS))
    return composite_extrapolation(levels, around).features if around else levels.features


@pytest.mark.parametrize("model", MODELS)
def test_a_wall_continues_beyond_all_photos(model: str) -> None:
    view, photos = camera_at(model, 1.5), camera_at(model, -0.1, 4)
    levels = wall(view, 1.9)  # the photos see up to x = 1.9, which is column 77 of the view
    shown = continued(levels, view, photos)
    assert len(shown) == 5
    for level, image in enumerate(shown):
        assert image.shape == levels.features[level].shape
        drawn = levels.weight[level] > 0
        assert torch.equal(image[:, :1][drawn], levels.features[level][:, :1][drawn])
    row = shown[0][0, 0, 48]
    assert row[90].item() == pytest.approx(WALL, abs=0.2)
    # Beyond a quarter of the image from the wall, the environment is back.
    assert row[125].item() > row[95].item()


@pytest.mark.parametrize("model", MODELS)
def test_space_that_photos_see_empty_stays_empty(model: str) -> None:
    view, photos = camera_at(model, 1.5), camera_at(model, 1.4, 4)
    levels = wall(view, 1.9)
    for before, after in zip(levels.features, continued(levels, view, photos), strict=True):
        seen = slice(0, before.shape[3] * 7 // 8)  # the photos see up to x = 3.4, beyond column 120 of 128
        assert torch.equal(after[..., seen], before[..., seen])


@pytest.mark.parametrize(
    ("seeing", "elsewhere", "least_views", "enough"),
    [
        (3, 13, 3, True),
        (3, 13, 4, False),
        (1, 6, 4, True),
        (1, 7, 4, False),
        (0, 4, 4, False),
    ],
)
def test_enough_photos_must_see_a_place(seeing: int, elsewhere: int, least_views: int, enough: bool) -> None:
    view = camera_at("opencv", 1.5)
    photos = [camera_at("opencv", 1.6, seeing), camera_at("opencv", 100.0, elsewhere)]
    around = extrapolate(wall(view, 1.9), view, photos, environment(), Extrapolation(least_views, FILLS))
    assert len(around) == (0 if enough else 5)


def test_a_distant_sky_stays() -> None:
    view, nowhere = camera_at("opencv", 1.5), [camera_at("opencv", 100.0, 4)]
    levels = wall(view, 1.9)
    trusted, doubted, rejected = (
        extrapolate(levels, view, nowhere, environment(error), Extrapolation(4, FILLS))
        for error in (0.005, (TRUSTED_ERROR + REJECTED_ERROR) / 2, 0.5)
    )
    assert trusted == []
    assert doubted[0][1].max().item() == pytest.approx(0.5)
    assert rejected[0][1].max().item() > 0.95


def test_a_surface_continues_from_its_nearest_edge() -> None:
    generator = torch.Generator().manual_seed(0)
    image, known = torch.rand(1, 2, 24, 40, generator=generator), torch.zeros(1, 1, 24, 40, dtype=torch.bool)
    known[..., 9:, 6:31] = True
    known[..., 14:17, 20:23] = False  # a hole
    found = _spread(image, known)
    assert torch.equal(found[:, :, known[0, 0]], image[:, :, known[0, 0]])
    beside = torch.nn.functional.max_pool2d((~known).float(), 3, 1, 1)[0, 0] > 0
    edge, unknown = (known[0, 0] & beside).nonzero(), (~known[0, 0]).nonzero()
    weights = torch.cdist(unknown.float(), edge.float()) ** -float(FALLING)
    expected = image[0][:, edge[:, 0], edge[:, 1]] @ (weights / weights.sum(1, keepdim=True)).T
    torch.testing.assert_close(found[0][:, unknown[:, 0], unknown[:, 1]], expected, atol=0.03, rtol=0)
    assert float((expected - 0.5).abs().max()) > 0.2


def test_what_lies_behind_a_photo_is_not_seen_by_it() -> None:
    view, photos = camera_at("opencv", 1.5), camera_at("opencv", 1.5, 4)
    turned = photos.world_to_camera.clone()
    turned[:, [0, 2]] *= -1  # half a turn about y
    levels = wall(view, 1.9)
    behind = [dataclasses.replace(photos, world_to_camera=turned)]
    assert len(extrapolate(levels, view, behind, environment(), Extrapolation(1, FILLS))) == 5


def test_without_holes_or_points_nothing_is_extrapolated() -> None:
    view = camera_at("opencv", 0.0)
    nowhere = [camera_at("opencv", 100.0, 4)]
    full, none = wall(view, 8.0), wall(view, -7.9)
    assert extrapolate(full, view, nowhere, environment(), Extrapolation(4, FILLS)) == []
    assert extrapolate(none, view, nowhere, environment(), Extrapolation(4, FILLS)) == []
    one = Levels(*(part[:1] for part in (full.features, full.weight, full.depth)))
    assert extrapolate(one, view, nowhere, environment(), Extrapolation(4, FILLS)) == []


@pytest.mark.parametrize("size", [(1, 40), (33, 1), (17, 50), (64, 64)])
def test_images_of_any_size(size: tuple[int, int]) -> None:
    width, height = size
    view = dataclasses.replace(camera_at("opencv", 1.5), width=width, height=height)
    levels = wall(view, 1.0 if width > 1 else 8.0)
    for image, changed in zip(
        levels.features, continued(levels, view, camera_at("opencv", 100.0, 4)), strict=True
    ):
        assert image.shape == changed.shape
        assert torch.isfinite(changed).all()


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_only_new_views_are_extrapolated(small_folder: Path, backend: str) -> None:
    pictures = []
    for views in (0, 100):  # no place is seen by a hundred photos: every hole is filled
        render = RenderConfig(levels=5, extrapolation_views=views, backend=backend)  # type: ignore[arg-type]
        config = dataclasses.replace(TrainConfig(), render=render, bf16=False)
        torch.manual_seed(0)
        pipeline, _, _ = open_scene(small_folder, config, lambda _: None)
        with torch.no_grad():
            pipeline.environment.map.fill_(1.0)
        photo = torch.tensor([3])
        camera = pipeline.camera(photo)
        known = pipeline.cameras.view_info([3], [1.0], trained=False)
        for new_view in (False, True):
            with torch.no_grad():
                pictures.append(pipeline.render(camera, known, extrapolate=new_view).image)
    trained, off, trained_too, on = pictures
    assert torch.equal(trained, off) and torch.equal(trained, trained_too)
    changed = (on - trained).abs().amax(1) > 0.1
    assert 0.001 < float(changed.float().mean()) < 0.9
    assert float(on[:, :, :4].mean()) < float(trained[:, :, :4].mean())  # the bright sky is less bright
