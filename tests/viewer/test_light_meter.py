"""The histogram of a view's light, and automatic exposure."""

import pytest
import torch

from adop.viewer.drawing.light_meter import BINS, MIN_STOP, adapt_exposure, histogram, metered_exposure


def test_the_histogram_counts_stops_and_clipped_pixels():
    light = torch.full((3, 40, 60), 0.25)
    light[:, :, 30:] = 2.0
    measured = histogram(light, 1.0)
    index = int((-2 - MIN_STOP) / 13 * BINS)
    assert measured["bins"][0][index] == pytest.approx(0.5) and sum(measured["bins"][1]) == pytest.approx(1)
    assert measured["clipped"] == pytest.approx(0.5) and measured["black"] == 0


def test_automatic_exposure_evens_out_brightness_and_adapts_smoothly():
    light = torch.rand(3, 50, 80, generator=torch.Generator().manual_seed(0)) * 0.5
    for stops in (-4, 0, 3):
        assert metered_exposure(light * 2.0**stops) == pytest.approx(
            metered_exposure(light) + stops, abs=0.05
        )
    exposure, steps = 0.0, []
    for _ in range(60):
        steps.append(adapt_exposure(exposure, 2.0, 0.1) - exposure)
        exposure += steps[-1]
    assert exposure == 2.0 and all(step >= 0 for step in steps) and steps[0] < 0.5
