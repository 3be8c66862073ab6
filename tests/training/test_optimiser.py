"""The optimiser's groups, and the order in which checkpoints number its state."""

import dataclasses
from pathlib import Path

import pytest
import torch

from adop.config import EnvironmentConfig, LearnConfig, LearningRateConfig, TrainConfig
from adop.run.run import open_scene
from adop.training.optimiser import Optimiser


def test_joining_groups_keeps_the_order_of_parameters(small_folder: Path):
    pipeline, _, _ = open_scene(small_folder, TrainConfig(), lambda _: None)
    tonemapper = pipeline.tonemapper
    expected = [
        *pipeline.network.parameters(),
        pipeline.environment.map,
        tonemapper.exposure_delta,
        tonemapper.white_balance_log,
        tonemapper.vignette_coefficients,
        tonemapper.vignette_centre,
        tonemapper.response_logits,
    ]
    groups = Optimiser(pipeline, LearnConfig(), LearningRateConfig()).adam.param_groups
    assert [id(tensor) for group in groups for tensor in group["params"]] == [id(t) for t in expected]
    assert len({(group["start"], id(group["params"][0])) for group in groups}) == len(groups) == 5


def test_texels_that_crops_hardly_show_hardly_move(small_folder: Path):
    moved = []
    for height in (8, 64):
        config = dataclasses.replace(TrainConfig(), environment=EnvironmentConfig(height=height))
        pipeline, _, _ = open_scene(small_folder, config, lambda _: None)
        optimiser = Optimiser(pipeline, config.learn, config.lr)
        texels = pipeline.environment.map[0, 0].numel()
        for step in range(20):
            gradient = torch.zeros_like(pipeline.environment.map)
            gradient[0, 0, 2, 3], gradient[0, 0, 4, 5] = 1.0 / texels, 1e-4 / texels
            pipeline.environment.map.grad = gradient
            optimiser.step(config.lr.warmup + step, 0.0)
        moved.append((-pipeline.environment.map.detach()[0, 0, [2, 4], [3, 5]]).tolist())
    for shown, hardly in moved:
        assert shown == pytest.approx(20 * config.lr.environment, rel=0.1)
        assert 0 < hardly < 0.01 * shown
