"""Views to render, with all that the host decides of them, and what they become."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from adop.geometry.camera import Camera
from adop.model.environment import EnvironmentLookup
from adop.model.hole_filling import FilledPyramid
from adop.ops import Levels
from adop.ops.environment import RayGrid


@dataclass(frozen=True)
class ChosenPhotos:
    """Which photos views look up, and where."""

    rows: Tensor  # [B, K] of the table, -1: none
    rays: RayGrid  # of the views


@dataclass(frozen=True)
class ViewInputs:
    """Views to render, with all decisions that are made on the CPU."""

    camera: Camera
    lookup: EnvironmentLookup
    photos: ChosenPhotos | None = None  # that the network sees too
    ghosts: Tensor | None = None  # [B, N] bool, points that are left out and compared with the image instead
    thinning: float = 1.0  # factor on the smallest radius that is drawn: the density falls by its square


@dataclass(frozen=True)
class PictureInputs:
    """A view as people look at it, with all decisions that are made on the CPU."""

    view: ViewInputs
    moved: list[ViewInputs]  # by a fraction of a pixel each; the picture is the mean of all
    nearest: list[
        Camera
    ]  # trained photos that say what is unknown space, a batch for each lens model and size


@dataclass(frozen=True)
class Radiance:
    """Rendered views before the physical camera."""

    image: Tensor  # [B, 3, H, W] linear light, >= 0
    levels: Levels
    filled: FilledPyramid
