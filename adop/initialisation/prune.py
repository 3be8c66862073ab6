"""Remove points that the photos contradict."""

from __future__ import annotations

import torch
from torch import Tensor

from adop.config import PruneConfig
from adop.initialisation.photometry import PointSamples
from adop.model.pipeline import Pipeline


@torch.no_grad()
def unsupported_points(
    pipeline: Pipeline, point_samples: dict[int, PointSamples], config: PruneConfig
) -> Tensor:
    """Return [N] bool, the points that enough photos see and too few of them show in the point's colour.

    Args:
        point_samples: by photo, see `adop.initialisation.photometry.sample_points`.

    Source: photo-consistency (Kutulakos and Seitz 2000), applied to single points.
    """
    device = pipeline.device
    visible, consistent = (torch.zeros(len(pipeline.points), device=device) for _ in range(2))
    for photo, samples in point_samples.items():
        points, value, position = (x.to(device) for x in (samples.points, samples.value, samples.position))
        expected = pipeline.photo_of_points(pipeline.points.features[points, :3].exp(), photo, position)
        agrees = (expected - value).abs().amax(1) < config.colour_tolerance
        visible.index_add_(0, points, torch.ones_like(expected[:, 0]))
        consistent.index_add_(0, points, agrees.float())
    return (visible >= config.min_views) & (consistent < config.min_agreement * visible)


def remove_unsupported(
    pipeline: Pipeline, point_samples: dict[int, PointSamples], config: PruneConfig
) -> int:
    """Remove the unsupported points from the pipeline and return how many.

    The point indices of `point_samples` are invalid afterwards.
    """
    unsupported = unsupported_points(pipeline, point_samples, config)
    pipeline.points.keep(~unsupported)
    return int(unsupported.sum())
