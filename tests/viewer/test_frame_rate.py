"""The scale of frames during motion, for a target frame rate."""

import pytest

from adop.viewer.session.frame_rate import MIN_SCALE, FrameRate


@pytest.mark.parametrize(("fixed_seconds", "pixel_seconds"), [(0.02, 0.5), (0.005, 2.0), (0.001, 0.01)])
def test_the_scale_converges_to_one_that_reaches_the_frame_rate(fixed_seconds: float, pixel_seconds: float):
    rate = FrameRate(15.0)
    for _ in range(60):
        scale = rate.scale()
        rate.record(scale, fixed_seconds + pixel_seconds * scale**2)
    seconds = fixed_seconds + pixel_seconds * rate.scale() ** 2
    assert seconds < 1.12 / 15  # smaller changes of the scale are not made
    assert rate.scale() == 1.0 or seconds > 0.5 / 15
    assert rate.is_slow == (pixel_seconds > 0.4)


def test_the_scale_has_a_minimum():
    rate = FrameRate(60.0)
    for _ in range(20):
        rate.record(rate.scale(), 2.0)
    assert rate.scale() == MIN_SCALE
