"""A run in which everything differs from what its scene says: cameras, colours, harmonics, physical camera, source."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from adop.config import TrainConfig
from adop.geometry.rigid_motion import se3_exp
from adop.run.run import Run, new_run


def untrained_run(folder: Path) -> Run:
    """Return a run of a scene before its first step."""
    return new_run(folder, Path("run"), TrainConfig(device="cpu"), say=lambda _: None)


@pytest.fixture
def plain_run(tiny_folder: Path) -> Run:
    """Return a run as it is before its first step: its points have their own colours."""
    return untrained_run(tiny_folder)


@pytest.fixture(scope="session")
def refined_run(tiny_folder: Path) -> Run:
    """Return a run whose parameters have all moved away from their start; tests leave it as it is."""
    run = untrained_run(tiny_folder)
    run.scene = replace(run.scene, world_offset=np.array([500_000.25, 4_200_000.5, 80.125]))
    random = torch.Generator().manual_seed(0)
    pipeline = run.pipeline
    cameras, points, tonemapper = pipeline.cameras, pipeline.points, pipeline.tonemapper
    with torch.no_grad():
        twists = 0.02 * torch.randn(len(cameras), 6, generator=random, dtype=torch.float64)
        trained = torch.tensor(run.split["train"])
        cameras.set_poses(trained.tolist(), se3_exp(twists[trained]) @ cameras.poses[trained])
        lens = cameras.lens_values(0)
        cameras.set_lens(0, lens * 1.01 + torch.tensor([0] * 4 + [0.02, -0.01, 1e-3, -2e-3, 0, 0, 0, 0]))
        # In new memory: the scene shares that of its points.
        points.xyz = points.xyz + 0.01 * torch.randn(len(points), 3, generator=random)
        points.invalidate()
        points.features[:, :3] += 0.2 * torch.randn(len(points), 3, generator=random)
        points.features[:, -9:] = 0.1 * torch.randn(len(points), 9, generator=random)
        tonemapper.response_logits += 0.5 * torch.randn(1, 3, 24, generator=random)
        tonemapper.exposure_delta += 0.3 * torch.randn(len(cameras), generator=random)
        tonemapper.white_balance_log += 0.1 * torch.randn(len(cameras), 2, generator=random)
    return run
