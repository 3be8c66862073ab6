"""The options of multi-view stereo. The command line reads them for its help, so this module must not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Literal

import tyro

from adop.ranges import Count, Fraction, Natural, Positive, Range, Side


@dataclass(frozen=True)
class StereoConfig:
    """How depth is found in photos, and which depths become points."""

    method: Annotated[Literal["adop", "colmap"], tyro.conf.arg(name="stereo", prefix_name=False)] = "adop"
    """Whose stereo. colmap: COLMAP's, which needs a CUDA GPU and a pycolmap built with CUDA, and gives no confidence;
    it follows longest-side, sources, min-views, depth-tolerance, max-shift-px and keep-points."""
    longest_side: Side = 1000
    """Longer side of the photos that are compared, in pixels: larger ones are reduced."""
    sources: Annotated[int, Range(1, 12)] = 5
    """With how many other photos each photo is compared, at most."""
    sources_kept: Annotated[int, Range(1, 4)] = 2
    """In how many of them, the most similar ones, a surface must look alike."""
    coarse_sweeps: Natural = 4
    """Sweeps over each photo at a quarter of the size."""
    middle_sweeps: Natural = 2
    """Sweeps at half of the size, before and again after the depths of the other photos are known."""
    fine_sweeps: Natural = 1
    """Sweeps at full size."""
    max_cost: Annotated[float, Range(0, 2)] = 0.9
    """Largest cost of a depth that is used: 0 is the same texture, 1 an unrelated one."""
    min_views: Count = 3
    """Photos, the own one included, that must find the same surface."""
    depth_tolerance: Positive = 0.01
    """Relative difference in depth within which they do."""
    max_shift_px: Positive = 1.5
    """Difference in pixels within which they do."""
    min_confidence: Fraction = 0.0
    """Least confidence of a point: the larger, the fewer and the more exact points."""
    keep_points: bool = True
    """Keep the scene's own points beside the new ones."""
    device: str = "auto"
    """auto: a CUDA GPU if there is one, else the CPU; or the name of a device."""
