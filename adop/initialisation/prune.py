"""Points that no photo supports are taken away: what the photos show there is something else."""

from __future__ import annotations

import torch
from torch import Tensor

from adop.config import PruneConfig
from adop.initialisation.photometry import PointSamples
from adop.model.pipeline import Pipeline


@torch.no_grad()
def unsupported(pipeline: Pipeline, point_samples: dict[int, PointSamples], config: PruneConfig) -> Tensor:
    """Return [N] bool, the points that enough photos see and too few of them show in the point's own colour.

    Args:
        point_samples: what the photos show at the points that they see, see `adop.initialisation.photometry.gather`.

    Source: photo-consistency (Kutulakos and Seitz 2000), asked of single points.
    """
    device = pipeline.device
    seen, agreed = (torch.zeros(len(pipeline.points.xyz), device=device) for _ in range(2))
    for photo, g in point_samples.items():
        points, value, position = (x.to(device) for x in (g.points, g.value, g.position))
        own = pipeline.photo_of_points(pipeline.points.features[points, :3].exp(), photo, position)
        alike = (own - value).abs().amax(1) < config.colour_tolerance
        seen.index_add_(0, points, torch.ones_like(own[:, 0]))
        agreed.index_add_(0, points, alike.float())
    return (seen >= config.min_views) & (agreed < config.min_agreement * seen)


def remove_unsupported(
    pipeline: Pipeline, point_samples: dict[int, PointSamples], config: PruneConfig
) -> int:
    """Take unsupported points out of the pipeline; return how many. `point_samples` is of no use afterwards."""
    wrong = unsupported(pipeline, point_samples, config)
    pipeline.points.keep(~wrong)
    return int(wrong.sum())
