"""The environment map: directions, seam, blur, and what fills it."""

import math

import pytest
import torch

from adop.config import EnvironmentConfig
from adop.environment import Environment, push_pull
from adop.errors import UserError
from adop.surroundings import choose_rows


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


def _groups_of_rays(shown: list[torch.Tensor]) -> tuple[torch.Tensor, torch.Tensor]:
    """Each group sees a random half of the texels of its own map [3, 256, 512]."""
    generator = torch.Generator().manual_seed(0)
    count = (torch.rand(len(shown), 1, 256, 512, generator=generator) < 0.5).float()
    return torch.stack(shown) * count, count


def _map_with_details() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 64, 128, generator=generator) * -3
    return torch.nn.functional.interpolate(coarse, size=(256, 512), mode="bilinear")[0]


def test_far_surroundings_get_a_fine_map():
    far = _map_with_details()
    assert choose_rows(*_groups_of_rays([far] * 4), torch.zeros(3)) >= 64


def test_near_surroundings_get_a_coarse_map():
    # From each place the same details are seen 40 texels, 28 degrees, further on.
    near = [torch.roll(_map_with_details(), 40 * place, dims=2) for place in range(4)]
    assert choose_rows(*_groups_of_rays(near), torch.zeros(3)) <= 16


def test_a_height_below_one_is_refused():
    with pytest.raises(UserError, match=r"environment\.height"):
        Environment(EnvironmentConfig(height=0), 4)
