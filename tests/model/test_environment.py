"""The environment map: directions, seam, blur, and what fills it."""

import math
from typing import Any

import pytest
import torch

from adop.config import EnvironmentConfig
from adop.errors import UserError
from adop.model.environment import Environment, push_pull


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


@pytest.mark.parametrize("height", [0, True, 64.0, "64"])
def test_a_height_that_is_no_positive_whole_number_is_refused(height: Any):
    with pytest.raises(UserError, match=r"environment\.height"):
        Environment(EnvironmentConfig(height=height), 4)


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
