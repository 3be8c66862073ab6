"""Training steps draw the points at random densities."""

import dataclasses
from pathlib import Path

import torch

from adop.config import TrainConfig
from adop.run.run import load
from adop.training.steps.step import THINNING_STEPS, draw_batch, step_inputs, thinning


def test_the_density_depends_on_the_step_alone() -> None:
    config = TrainConfig(thinning=8.0)
    factors = [thinning(config, step) for step in range(60)]
    assert factors == [thinning(config, step) for step in range(60)]
    assert len(set(factors)) == THINNING_STEPS and min(factors) == 1 and max(factors) == 8
    assert {thinning(dataclasses.replace(config, thinning=1.0), step) for step in range(60)} == {1.0}
    assert factors != [thinning(dataclasses.replace(config, seed=1), step) for step in range(60)]


def test_a_thinned_view_shows_fewer_points(trained_folder: Path, small_folder: Path) -> None:
    run = load(trained_folder, small_folder, say=lambda _: None)
    inputs = step_inputs(run, draw_batch(run, 0))
    drawn = []
    with torch.no_grad():
        for factor in (1.0, 4.0, 16.0):
            rendered = run.pipeline.radiance(dataclasses.replace(inputs.view, thinning=factor))
            drawn.append(float(rendered.levels.weight[0].sum()))
    assert drawn[0] > drawn[1] > drawn[2] > 0
