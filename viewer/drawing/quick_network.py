"""A quicker picture while the camera moves: the network works at half the resolution, the points give the detail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adop.model.network import NeuralRenderer
from adop.model.pipeline import Pipeline
from adop.ops import Backend, Levels
from adop.ops.hole_filling import FilledPyramid

MAX_RATIO = 4.0  # by which a pixel may be brighter or darker than what surrounds it
DARK = 0.02  # of the mean light, below which differences do not count


class QuickNetwork(nn.Module):
    """Let a network see the pyramid without its finest level, as in a picture of half the size, and add the detail.

    Photos are not looked up, which takes as long as the points.

    The detail is that of the hole-filled points: how much brighter each is than the level above it.

    Source: ratio images, as in joint upsampling (Kopf et al. 2007).
    """

    photos = 0  # that are looked up

    def __init__(self, network: NeuralRenderer) -> None:
        super().__init__()
        self.network = network

    def forward(
        self, levels: Levels, filled: FilledPyramid, shown: None = None, backend: Backend = "auto"
    ) -> Tensor:
        """Return the radiance [B, 3, H, W], linear light, >= 0."""
        coarse = self.network(
            Levels(*(_without_finest(images) for images in (levels.features, levels.weight, levels.depth))),
            FilledPyramid(*(_without_finest(images) for images in filled)),
            backend=backend,
        )
        fine, dark = filled.colours[0], DARK * self.network.brightness(filled)[:, None, None, None]
        detail = (fine + dark) / (_enlarged(filled.colours[1], fine) + dark)
        return _enlarged(coarse, fine) * detail.clamp(1 / MAX_RATIO, MAX_RATIO)


def _without_finest(images: list[Tensor]) -> list[Tensor]:
    """Return a pyramid of as many levels, from the second one on; the coarsest has every other pixel of the last."""
    return [*images[1:], images[-1][:, :, ::2, ::2]]


def _enlarged(image: Tensor, like: Tensor) -> Tensor:
    large = F.interpolate(image, scale_factor=2.0, mode="bilinear", align_corners=False)
    return large[:, :, : like.shape[2], : like.shape[3]]


def can_be_quicker(pipeline: Pipeline) -> bool:
    """Return whether the network is what a picture waits for: on a CPU, where there is one and a level to leave out."""
    network, levels = pipeline.network, pipeline.config.levels
    return pipeline.device.type == "cpu" and network.kind != "none" and levels > 1


@contextmanager
def quicker(pipeline: Pipeline) -> Iterator[None]:
    """Render with the quick network while the context lasts; nothing else may render or train meanwhile."""
    network = pipeline.network
    pipeline.network = QuickNetwork(network)  # type: ignore[assignment]
    try:
        with torch.no_grad():
            yield
    finally:
        pipeline.network = network
