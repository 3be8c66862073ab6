"""The environment map: directions, seam, blur, and what fills it."""

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import torch

from adop.config import EnvironmentConfig, TrainConfig
from adop.errors import UserError
from adop.initialisation.environment import (
    ROWS,
    Light,
    choose_rows,
    foretell,
    initialise_environment,
    reconcile,
)
from adop.model.environment import Environment, push_pull
from adop.model.environment_lookup import level_directions
from adop.run.run import open_scene


def rays(columns: list[float], row: float = 0.0) -> torch.Tensor:
    """Directions at angles (radians) round the vertical axis, as a picture of one row."""
    angle = torch.tensor(columns)
    directions = torch.stack(
        (angle.sin() * math.cos(row), torch.full_like(angle, math.sin(row)), angle.cos() * math.cos(row))
    )
    return directions[None, :, None]


def test_a_texel_is_seen_in_its_direction():
    environment = Environment(EnvironmentConfig(height=64), 4)
    with torch.no_grad():
        column, row = environment.coordinates(rays([0.7], 0.4))
        environment.map[0, :, int(row), int(column)] = 5.0
        there, elsewhere = (environment([rays([a], 0.4)])[0] for a in (0.7, 0.7 + math.pi / 2))
    assert float(there[0, 0, 0, 0]) > 1.0
    assert float(elsewhere[0, 0, 0, 0]) == 0.0


def test_the_seam_is_continuous():
    environment = Environment(EnvironmentConfig(height=64), 4)
    torch.nn.init.normal_(environment.map)
    epsilon = 1e-4
    with torch.no_grad():
        left, right = (environment([rays([a])])[0] for a in (math.pi - epsilon, -math.pi + epsilon))
    assert torch.allclose(left, right, atol=0.05)


def test_coarse_levels_average():
    environment = Environment(EnvironmentConfig(height=256), 4)
    torch.nn.init.normal_(environment.map)
    step = math.pi / 256
    levels = [rays([i * step * 2**level for i in range(64 >> level)]) for level in range(4)]
    with torch.no_grad():
        images = environment(levels)
    assert float(images[3].std()) < 0.5 * float(images[0].std())


def test_without_a_map_it_is_one_colour():
    environment = Environment(EnvironmentConfig(enabled=False), 4)
    environment.fill(torch.full((3, 1, 1), -4.0), torch.full((1, 1, 1), 2.0), torch.zeros(3))
    image = environment([rays([0.0, 1.0, 2.0])])[0]
    assert image.shape == (1, 4, 1, 3)
    assert torch.allclose(image[0, :3].detach(), torch.tensor(-2.0))


def test_unseen_texels_take_their_surroundings():
    total, count = torch.zeros(1, 3, 16, 32), torch.zeros(1, 1, 16, 32)
    total[..., :16], count[..., :16] = 6.0, 3.0
    total[..., 16:], count[..., 16:] = 4.0, 1.0
    total[..., 5, 5], count[..., 5, 5] = 0.0, 0.0
    filled = push_pull(total, count, torch.zeros(3))
    assert math.isclose(float(filled[0, 0, 5, 5]), 2.0, abs_tol=1e-5)
    assert torch.allclose(filled[0, 0, :, 20], torch.tensor(4.0))


def test_nothing_seen_takes_the_given_colour():
    filled = push_pull(torch.zeros(1, 3, 8, 16), torch.zeros(1, 1, 8, 16), torch.tensor([1.0, 2.0, 3.0]))
    assert torch.allclose(filled[0, :, 3, 3], torch.tensor([1.0, 2.0, 3.0]))


def _groups_of_rays(shown: list[torch.Tensor]) -> Light:
    """Each group sees a random half of the texels of its own map [3, 256, 512], and nothing clips."""
    generator = torch.Generator().manual_seed(0)
    count = (torch.rand(len(shown), 1, 256, 512, generator=generator) < 0.5).float()
    return Light(
        torch.stack(shown) * count, count, torch.zeros(len(shown), 3, 256, 512), torch.zeros_like(count)
    )


def _map_with_details() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 64, 128, generator=generator) * -3
    return torch.nn.functional.interpolate(coarse, size=(256, 512), mode="bilinear")[0]


def test_far_surroundings_get_a_fine_map():
    far = _map_with_details()
    assert choose_rows(_groups_of_rays([far] * 4), torch.zeros(3)) >= 64


def test_near_surroundings_get_a_coarse_map():
    # From each place the same details are seen 40 texels, 28 degrees, further on.
    near = [torch.roll(_map_with_details(), 40 * place, dims=2) for place in range(4)]
    assert choose_rows(_groups_of_rays(near), torch.zeros(3)) <= 16


def test_bright_surroundings_are_told_apart_too():
    assert choose_rows(_groups_of_rays([_map_with_details() + 3] * 4), torch.zeros(3)) >= 64


def _one_texel(measured: list[float], clipped: list[float]) -> Light:
    """Groups of which each sees the texel once: some measure it, in others it clips at a log radiance."""
    count = len(measured) + len(clipped)
    first = torch.arange(count)[:, None, None, None] < len(measured)
    values = torch.tensor([*measured, *clipped])[:, None, None, None].expand(count, 3, 1, 1)
    return Light(values * first, first.float(), values * ~first, (~first).float())


def test_clipped_light_is_a_least_value():
    """Against the minimum of the cost, looked for on a fine grid."""
    grid = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    for measured, clipped in (
        ([1.0, 2.0], [0.5, 1.4]),  # brighter than what clips: the mean of what is measured
        ([-2.0], [1.0, 1.0, 1.0]),  # leaves in one photo, a sky that clips in three
        ([0.0], [-1.0, 0.5, 2.0]),
        ([], [0.5, 1.5]),
    ):
        found, seen = reconcile(_one_texel(measured, clipped))
        cost = sum((grid - value).square() for value in measured)
        cost = cost + sum((value - grid).clamp_min(0).square() for value in clipped)
        assert torch.allclose(found, grid[cost.argmin()].float(), atol=2e-4), (measured, clipped)
        assert float(seen) == 1


def test_an_unseen_texel_is_told():
    nothing = Light(*(torch.zeros(2, channels, 4, 8) for channels in (3, 1, 3, 1)))
    assert float(reconcile(nothing)[1].sum()) == 0


@pytest.mark.parametrize("height", [0, True, 64.0, "64"])
def test_a_height_that_is_no_positive_whole_number_is_refused(height: Any):
    with pytest.raises(UserError, match=r"environment\.height"):
        Environment(EnvironmentConfig(height=height), 4)


def test_the_start_is_as_fine_as_configured_or_chosen(small_folder: Path):
    """All sizes start from the same rays, so their mean light over the rays is about the same."""
    shares, lights = [], []
    for environment in (EnvironmentConfig(), EnvironmentConfig(height=60), EnvironmentConfig(enabled=False)):
        config = dataclasses.replace(TrainConfig(), environment=environment, test_every=0)
        pipeline, scene, cache = open_scene(small_folder, config, lambda _: None)
        shares.append(initialise_environment(pipeline, cache, list(range(len(scene.photos)))))
        rows, columns = pipeline.environment.map.shape[2:]
        assert (rows in ROWS, rows == 60, (rows, columns) == (1, 1))[len(lights)]
        camera = pipeline.camera(torch.tensor([0]))
        with torch.no_grad():
            lights.append(
                pipeline.environment(level_directions(camera, pipeline.config.levels))[0][:, :3].mean()
            )
    assert shares[0] == shares[1] == shares[2] > 0
    assert float(torch.stack(lights).std()) < 0.2


@pytest.mark.parametrize("rows", [8, 100, 256])
def test_how_well_photos_foretell_one_another_is_kept_by_direction(rows: int):
    environment = Environment(EnvironmentConfig(height=8), 4)
    assert torch.equal(environment.error_along(rays([0.5])), torch.ones(1, 1, 1, 1))  # not known yet
    error, weight = torch.zeros(1, 1, rows, 2 * rows), torch.zeros(1, 1, rows, 2 * rows)
    error[..., rows:], weight[..., rows:] = 0.04 * 3.0, 3.0  # of angles above zero
    error[..., : rows // 2], weight[..., : rows // 2] = 0.0001 * 5.0, 5.0
    environment.set_error(error, weight)
    found = environment.error_along(rays([1.5, -2.5, -0.3, 0.3]))[0, 0, 0]
    assert found[0].item() == pytest.approx(0.2, abs=1e-3)
    assert found[1].item() == pytest.approx(0.01, abs=1e-3)
    assert 0.01 < found[2].item() < 0.2  # nobody saw it: as around


def test_a_far_sky_is_foretold_well_and_near_things_are_not():
    sky = _groups_of_rays([torch.randn(3, 1, 1)] * 6)
    near = _groups_of_rays([torch.randn(3, 1, 1) for _ in range(6)])
    for light, low, high in ((sky, 0.0, 1e-3), (near, 0.1, 1.0)):
        error, weight = foretell(light, 16, torch.zeros(3))
        assert low <= float((error.sum() / weight.sum()).sqrt()) <= high
