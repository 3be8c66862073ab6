"""A quicker picture while the camera moves: the network works at half the resolution, the points give the detail."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from adop.model.network import NeuralRenderer
from adop.model.pipeline import Pipeline
from adop.ops import Levels
from adop.ops.hole_filling import FilledPyramid

MOST_PHOTOS = 2  # that are looked up
MAX_RATIO = 4.0  # by which a pixel may be brighter or darker than what surrounds it
DARK = 0.02  # of the mean light, below which differences do not count


class QuickNetwork(nn.Module):
    """Let a network see the pyramid without its finest level, as in a picture of half the size, and add the detail.

    The detail is that of the photos that are looked up, or of the hole-filled points: how much brighter each pixel is
    than the level above it.

    Source: ratio images, as in joint upsampling (Kopf et al. 2007).
    """

    def __init__(self, network: NeuralRenderer) -> None:
        super().__init__()
        self.network = network
        self.photos = min(MOST_PHOTOS, network.photos)

    def forward(self, levels: Levels, filled: FilledPyramid, shown: Tensor | None = None) -> Tensor:
        """Return the radiance [B, 3, H, W], linear light, >= 0.

        Args: shown: [B, 8, H, W] what photos show, see `adop.reprojection.reproject`; None: nothing.
        """
        fine, above, dark = *filled.colours[:2], DARK * self.network.brightness(filled)
        half = None
        if shown is not None:
            half = _halved(shown)
            fine, above = _with_photos(fine, shown), _with_photos(above, half)
        coarse = self.network(
            Levels(*(_without_finest(images) for images in (levels.features, levels.weight, levels.depth))),
            FilledPyramid(*(_without_finest(images) for images in filled)),
            half,
        )
        detail = (fine + dark) / (_enlarged(above, fine) + dark)
        return _enlarged(coarse, fine) * detail.clamp(1 / MAX_RATIO, MAX_RATIO)


def _halved(shown: Tensor) -> Tensor:
    """Return what photos show, at half the size: the mean of the pixels that they show."""
    size = [(side + 1) // 2 for side in shown.shape[2:]]
    # Of four pixels each, and quicker than average pooling on a CPU. All channels are 0 where photos show nothing.
    halved = F.interpolate(shown, size=size, mode="bilinear", align_corners=False)
    return halved / halved[:, 3:4].clamp_min(1e-6)


def _with_photos(light: Tensor, shown: Tensor) -> Tensor:
    """Return light [B, 3, H, W] with the mean photo in its place where photos show anything."""
    return light.lerp(shown[:, 4:7].exp(), shown[:, 3:4])


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
