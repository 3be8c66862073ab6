"""The learned points."""

import dataclasses
from pathlib import Path

import numpy as np

from adop.model.points import LearnedPoints
from support.small_scene import small_scene


def test_the_points_share_no_memory_with_the_scene(tmp_path: Path):
    """A checkpoint of as many points is loaded in place: the scene must stay what it is."""
    cloud = small_scene(tmp_path).points
    before = {
        field.name: None if (value := getattr(cloud, field.name)) is None else np.copy(value)
        for field in dataclasses.fields(cloud)
    }
    points = LearnedPoints(cloud, 4, False, False)
    for tensor in points.state_dict().values():
        tensor.fill_(7)
    assert (points.xyz == 7).all()
    for name, value in before.items():
        assert value is None or np.array_equal(getattr(cloud, name), value), name
