"""The chosen backend: with "reference", nothing that starts a run from the photos calls a kernel."""

from pathlib import Path
from typing import Any

import pytest
import torch

from adop.backend.launch import count_launches
from adop.config import GrowConfig, LearnConfig, PruneConfig, RenderConfig, TrainConfig
from adop.initialisation.consistency import remove_unsupported
from adop.initialisation.environment import initialise_environment
from adop.initialisation.grow import grow_points
from adop.initialisation.photometry import colour_points, sample_points
from adop.initialisation.physical_camera import calibrate
from adop.model.pipeline import build_pipeline
from adop.scene.photo_cache import PhotoCache
from support.small_scene import small_scene


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_the_reference_backend_calls_no_kernel(tmp_path: Path, backend: Any):
    scene = small_scene(tmp_path)
    count, photos = len(scene.photos), [0, 1, 2, 3]
    config = TrainConfig(render=RenderConfig(levels=4, backend=backend))
    pipeline = build_pipeline(scene, config, torch.zeros(count), torch.ones(count).bool())
    cache = PhotoCache(scene)

    def start() -> None:
        samples = {photo: sample_points(pipeline, cache, photo) for photo in photos}
        calibrate(pipeline, samples, LearnConfig())
        colour_points(pipeline, samples)
        remove_unsupported(pipeline, samples, PruneConfig())

    def grow() -> None:
        grow_points(pipeline, cache, photos, GrowConfig(longest_side=24))

    def environment() -> None:
        initialise_environment(pipeline, cache, photos)

    for stage in (start, grow, environment):
        with count_launches() as launches:
            stage()
        assert (launches.total() == 0) == (backend == "reference"), stage.__name__
