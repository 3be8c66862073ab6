"""The benchmark of position gradients: its reference against one point shifted alone, and the numbers that it writes."""

import dataclasses
import json
import math
from pathlib import Path

import pytest
import torch

from adop.bench.gradients import (
    CELL,
    BenchGradientsConfig,
    Problem,
    agreement,
    bench_gradients,
    supersampled_gradient,
)
from adop.errors import UserError
from adop.ops import Projection, RasterConfig


def problem() -> Problem:
    """Return two adjacent cells with a point in each, before a photo that brightens from left to right."""
    uv = torch.tensor([[[5.3, 6.2], [CELL + 6.1, 5.4]]])
    ones = torch.ones(1, 2)
    projection = Projection(uv, ones, 4 * ones, ones.bool())
    target = torch.linspace(0, 1, 2 * CELL).expand(1, 3, CELL, -1).contiguous()
    colours = torch.tensor([[0.2] * 3, [0.9] * 3])
    return Problem(projection, colours, target, RasterConfig(levels=1), torch.tensor([0, 1]))


def test_points_that_are_shifted_together_get_the_gradient_of_each_alone():
    both = problem()
    together = supersampled_gradient(both, 8, 0.5)
    for k in range(2):
        alone = supersampled_gradient(dataclasses.replace(both, compared=both.compared[k : k + 1]), 8, 0.5)
        assert torch.allclose(together[k], alone[0], atol=1e-6)
    # The loss of a point falls towards where the photo has the point's value.
    ramp = torch.linspace(0, 1, 2 * CELL)
    for k, value in ((0, 0.2), (1, 0.9)):
        here = float(ramp[int(both.projection.uv[0, k, 0])])
        assert (together[k, 0] > 0) == (here > value)
    assert together[:, 1].abs().max() < 1e-3 * together[:, 0].abs().max()


def test_agreement_of_equal_and_of_opposite_gradients():
    truth = torch.tensor([[1.0, 0.0], [0.0, 2.0]])
    assert agreement(truth, truth) == pytest.approx((1, 1, 1))
    assert agreement(-truth, truth) == pytest.approx((-1, -1, 0))


def test_the_benchmark_writes_a_row_per_level_and_method(small_folder: Path, tmp_path: Path):
    config = BenchGradientsConfig(small_folder, levels=1, points=5, shifts=2, json=tmp_path / "rows.json")
    assert bench_gradients(config) == 0
    rows = json.loads((tmp_path / "rows.json").read_text())["rows"]
    assert [row["method"] for row in rows] == [
        "ghost, as published",
        "bilinear footprint",
        "slope of the image",
    ]
    assert all(math.isfinite(row["cosine"]) and math.isfinite(row["sign"]) for row in rows)
    assert any(row["cosine"] != 0 for row in rows)


def test_a_photo_that_is_not_there_is_refused(small_folder: Path):
    with pytest.raises(UserError, match="--photo 99"):
        bench_gradients(BenchGradientsConfig(small_folder, photo=99))
