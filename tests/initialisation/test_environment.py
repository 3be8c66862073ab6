"""The start of the environment: mean of censored light, cross-validation, and the size of the map."""

import dataclasses
from pathlib import Path

import pytest
import torch

from adop.config import EnvironmentConfig, TrainConfig
from adop.initialisation.environment import (
    MAP_ROWS,
    RaySums,
    censored_mean,
    choose_rows,
    cross_validation_error,
    initialise_environment,
)
from adop.model.environment import level_directions
from adop.run.run import open_scene


def sums_of_folds(maps: list[torch.Tensor]) -> RaySums:
    """Each fold has rays in a random half of the texels of its own map [3, 256, 512], and nothing is clipped."""
    generator = torch.Generator().manual_seed(0)
    count = (torch.rand(len(maps), 1, 256, 512, generator=generator) < 0.5).float()
    nothing = torch.zeros(len(maps), 3, 256, 512)
    return RaySums(torch.stack(maps) * count, count, nothing, torch.zeros_like(count))


def detailed_map() -> torch.Tensor:
    generator = torch.Generator().manual_seed(1)
    coarse = torch.rand(1, 3, 64, 128, generator=generator) * -3
    return torch.nn.functional.interpolate(coarse, size=(256, 512), mode="bilinear")[0]


def one_texel(measured: list[float], clipped: list[float]) -> RaySums:
    """Folds that each have one ray in the only texel: some measure a log radiance, in others it is clipped."""
    count = len(measured) + len(clipped)
    first = torch.arange(count)[:, None, None, None] < len(measured)
    values = torch.tensor([*measured, *clipped])[:, None, None, None].expand(count, 3, 1, 1)
    return RaySums(values * first, first.float(), values * ~first, (~first).float())


def test_far_background_gets_a_fine_map():
    far = detailed_map()
    assert choose_rows(sums_of_folds([far] * 4), torch.zeros(3)) >= 64


def test_near_background_gets_a_coarse_map():
    # From each position the same details are seen 40 texels, 28 degrees, further on.
    near = [torch.roll(detailed_map(), 40 * position, dims=2) for position in range(4)]
    assert choose_rows(sums_of_folds(near), torch.zeros(3)) <= 16


def test_bright_background_gets_a_fine_map_too():
    assert choose_rows(sums_of_folds([detailed_map() + 3] * 4), torch.zeros(3)) >= 64


def test_clipped_light_is_a_lower_bound():
    """Compare with the minimum of the cost on a fine grid."""
    grid = torch.linspace(-4, 4, 80_001, dtype=torch.float64)
    for measured, clipped in (
        ([1.0, 2.0], [0.5, 1.4]),  # brighter than what is clipped: the mean of what is measured
        ([-2.0], [1.0, 1.0, 1.0]),  # leaves in one photo, a sky that is clipped in three
        ([0.0], [-1.0, 0.5, 2.0]),
        ([], [0.5, 1.5]),
    ):
        mean, observed = censored_mean(one_texel(measured, clipped))
        cost = sum((grid - value).square() for value in measured)
        cost = cost + sum((value - grid).clamp_min(0).square() for value in clipped)
        assert torch.allclose(mean, grid[cost.argmin()].float(), atol=2e-4), (measured, clipped)
        assert float(observed) == 1


def test_texels_without_rays_are_reported():
    nothing = RaySums(*(torch.zeros(2, channels, 4, 8) for channels in (3, 1, 3, 1)))
    assert float(censored_mean(nothing)[1].sum()) == 0


def test_the_map_has_the_configured_or_the_chosen_size(small_folder: Path):
    """All sizes start from the same rays, so the mean of the map over one photo's rays is about the same."""
    shares, colours, sizes = [], [], []
    for environment in (EnvironmentConfig(), EnvironmentConfig(height=60), EnvironmentConfig(enabled=False)):
        config = dataclasses.replace(TrainConfig(), environment=environment, test_every=0)
        pipeline, scene, cache = open_scene(small_folder, config, lambda _: None)
        shares.append(initialise_environment(pipeline, cache, list(range(len(scene.photos)))))
        sizes.append(tuple(pipeline.environment.map.shape[2:]))
        directions = level_directions(pipeline.camera(torch.tensor([0])), pipeline.config.levels)
        with torch.no_grad():
            colours.append(pipeline.environment(directions)[0][:, :3].mean())
    assert sizes[0][0] in MAP_ROWS and sizes[1:] == [(60, 120), (1, 1)]
    assert shares[0] == shares[1] == shares[2] > 0
    assert float(torch.stack(colours).std()) < 0.2


@pytest.mark.parametrize(("far", "low", "high"), [(True, 0.0, 1e-3), (False, 0.1, 1.0)])
def test_only_a_far_background_is_predicted_well(far: bool, low: float, high: float):
    colours = [torch.randn(3, 1, 1)] * 6 if far else [torch.randn(3, 1, 1) for _ in range(6)]
    error, weight = cross_validation_error(sums_of_folds(colours), 16, torch.zeros(3))
    assert low <= float((error.sum() / weight.sum()).sqrt()) <= high
