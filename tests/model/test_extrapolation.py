"""What is drawn goes on into space that no photo saw, and only there."""

import dataclasses
from pathlib import Path

import pytest
import torch

from adop.config import EnvironmentConfig, RenderConfig, TrainConfig
from adop.geometry.camera import Camera
from adop.model.environment import Environment
from adop.model.extrapolation import composite_extrapolation, extrapolate
from adop.ops import Levels, Points, RasterConfig, draw
from adop.run.run import open_scene

FILLS = 3
WALL, SKY = 1.0, 9.0
MODELS = ["opencv", "fisheye"]


def environment(error: float = 1.0) -> Environment:
    """An environment by which photos foretell one another with such an error."""
    result = Environment(EnvironmentConfig(), 4)
    result.error.fill_(error)
    return result


def looking(model: str, x: float, count: int = 1) -> Camera:
    """Cameras at x that look along z, a hair apart, 45 degrees to each side."""
    pose = torch.eye(4).repeat(count, 1, 1)
    pose[:, 0, 3] = -x + 0.001 * torch.arange(count)
    focal = 64.0 if model == "opencv" else 64.0 / (torch.pi / 4)
    intrinsics = torch.tensor([[focal, focal, 64.0, 48.0]]).expand(count, 4)
    distortion = torch.zeros(count, 8 if model == "opencv" else 4)
    return Camera(model, 128, 96, intrinsics, distortion, pose)  # type: ignore[arg-type]


def wall(camera: Camera, right: float) -> Levels:
    """A wall two units ahead from far left up to `right`, before a sky."""
    x, y = torch.meshgrid(torch.arange(-8, right, 0.02), torch.arange(-4, 4, 0.02), indexing="ij")
    xyz = torch.stack((x, y, torch.full_like(x, 2.0)), -1).reshape(-1, 3)
    points = Points(xyz, torch.full((len(xyz),), 1.0))
    return draw(
        camera, points, torch.full((len(xyz), 4), WALL), RasterConfig(levels=5), torch.full((4,), SKY)
    )


def continued(levels: Levels, view: Camera, photos: Camera) -> list[torch.Tensor]:
    around = extrapolate(levels, view, [photos], environment(), 4, FILLS)
    return composite_extrapolation(levels, around).features if around else levels.features


@pytest.mark.parametrize("model", MODELS)
def test_a_wall_goes_on_beyond_all_photos(model: str) -> None:
    view, photos = looking(model, 1.5), looking(model, -0.1, 4)
    levels = wall(view, 1.9)  # they look up to x = 1.9, where the view has column 77
    shown = continued(levels, view, photos)
    assert len(shown) == 5
    for level, image in enumerate(shown):
        assert image.shape == levels.features[level].shape
        drawn = levels.weight[level] > 0
        assert torch.equal(image[:, :1][drawn], levels.features[level][:, :1][drawn])
    row = shown[0][0, 0, 48]
    assert row[90].item() == pytest.approx(WALL, abs=0.2)
    # Farther from the wall than a quarter of the picture nothing is known of it.
    assert row[125].item() > row[95].item()


@pytest.mark.parametrize("model", MODELS)
def test_space_that_photos_see_empty_stays_empty(model: str) -> None:
    view, photos = looking(model, 1.5), looking(model, 1.4, 4)
    levels = wall(view, 1.9)
    for before, after in zip(levels.features, continued(levels, view, photos), strict=True):
        seen = slice(0, before.shape[3] * 7 // 8)  # the photos look up to x = 3.4, beyond column 120 of 128
        assert torch.equal(after[..., seen], before[..., seen])


@pytest.mark.parametrize(
    ("look", "away", "views", "enough"),
    [
        (3, 13, 3, True),
        (3, 13, 4, False),
        (1, 6, 4, True),
        (1, 7, 4, False),
        (0, 4, 4, False),
    ],
)
def test_as_many_photos_must_look(look: int, away: int, views: int, enough: bool) -> None:
    view = looking("opencv", 1.5)
    photos = [looking("opencv", 1.6, look), looking("opencv", 100.0, away)]
    around = extrapolate(wall(view, 1.9), view, photos, environment(), views, FILLS)
    assert len(around) == (0 if enough else 5)


def test_a_far_sky_stays() -> None:
    view, nowhere = looking("opencv", 1.5), [looking("opencv", 100.0, 4)]
    levels = wall(view, 1.9)
    shares = [
        extrapolate(levels, view, nowhere, environment(error), 4, FILLS)[0][1].max().item()
        for error in (0.005, 0.1, 0.5)
    ]
    assert shares[0] < 0.01
    assert shares[1] == pytest.approx(0.5)
    assert shares[2] > 0.95


def test_behind_the_photos_is_no_look() -> None:
    view, photos = looking("opencv", 1.5), looking("opencv", 1.5, 4)
    turned = photos.world_to_camera.clone()
    turned[:, [0, 2]] *= -1  # half a turn about y
    levels = wall(view, 1.9)
    assert (
        len(
            extrapolate(
                levels, view, [dataclasses.replace(photos, world_to_camera=turned)], environment(), 1, FILLS
            )
        )
        == 5
    )


def test_nothing_to_do() -> None:
    view = looking("opencv", 0.0)
    nowhere = [looking("opencv", 100.0, 4)]
    full, none = wall(view, 8.0), wall(view, -7.9)
    assert extrapolate(full, view, nowhere, environment(), 4, FILLS) == []
    assert extrapolate(none, view, nowhere, environment(), 4, FILLS) == []
    one = Levels(*(part[:1] for part in (full.features, full.weight, full.depth)))
    assert extrapolate(one, view, nowhere, environment(), 4, FILLS) == []


@pytest.mark.parametrize("size", [(1, 40), (33, 1), (17, 50), (64, 64)])
def test_pictures_of_any_size(size: tuple[int, int]) -> None:
    width, height = size
    view = dataclasses.replace(looking("opencv", 1.5), width=width, height=height)
    levels = wall(view, 1.0 if width > 1 else 8.0)
    for image, changed in zip(
        levels.features, continued(levels, view, looking("opencv", 100.0, 4)), strict=True
    ):
        assert image.shape == changed.shape
        assert torch.isfinite(changed).all()


@pytest.mark.parametrize("backend", ["auto", "reference"])
def test_only_new_views_go_on(small_folder: Path, backend: str) -> None:
    pictures = []
    for views in (0, 100):  # a hundred photos never look: whatever is empty goes on
        render = RenderConfig(levels=5, extrapolation_views=views, backend=backend)  # type: ignore[arg-type]
        config = dataclasses.replace(TrainConfig(), render=render, bf16=False)
        torch.manual_seed(0)
        pipeline, _, _ = open_scene(small_folder, config, lambda _: None)
        pipeline.environment.map.data.fill_(1.0)
        photo = torch.tensor([3])
        camera = pipeline.camera(photo)
        for new_view in (False, True):
            with torch.no_grad():
                pictures.append(pipeline.radiance(camera, [pipeline.lens_of[3]], new_view=new_view).picture)
    trained, off, trained_too, on = pictures
    assert torch.equal(trained, off) and torch.equal(trained, trained_too)
    changed = (on - trained).abs().amax(1) > 0.1
    assert 0.001 < float(changed.float().mean()) < 0.9
    assert float(on[:, :, :4].mean()) < float(trained[:, :, :4].mean())  # the bright sky is less bright
