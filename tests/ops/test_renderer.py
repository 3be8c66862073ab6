"""What stands around the network: kernels against plain torch, and exact gradients."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from adop.backend.choice import Backend
from adop.backend.operator import flatten
from adop.ops import Levels
from adop.ops.hole_filling import FilledPyramid
from adop.ops.renderer.inputs import (
    InputSettings,
    PyramidParts,
    renderer_inputs,
    renderer_inputs_operator,
)
from adop.ops.renderer.output import OutputParts, renderer_output, renderer_output_operator

BACKENDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
VIEWS, CHANNELS = 2, 5


@dataclass(frozen=True)
class Parts:
    """A pyramid of random numbers, and random outputs of a network."""

    images: list[Tensor]
    colours: list[Tensor]
    valid: list[Tensor]
    occlusion: list[Tensor]
    brightness: Tensor
    shown: Tensor | None
    outputs: Tensor

    def inputs(self, joined: bool, backend: Backend) -> list[Tensor]:
        levels = Levels(self.images, self.valid, self.valid)
        filled = FilledPyramid(self.colours, self.valid, self.occlusion)
        return renderer_inputs(levels, filled, self.brightness, self.shown, joined, backend)

    def output(self, backend: Backend) -> Tensor:
        return renderer_output(self.outputs, self.colours[0], self.brightness, self.shown, backend)

    @property
    def leaves(self) -> list[Tensor]:
        return [*self.images, *self.colours, self.outputs]


def make_parts(height: int, width: int, photos: bool, dtype: torch.dtype, device: str = "cpu") -> Parts:
    """Return parts with pixels that show points and photos, only one of them, or neither; all changes within bounds."""
    generator = torch.Generator().manual_seed(7)
    sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(3)]

    def random(channels: int, size: tuple[int, int], low: float, high: float) -> Tensor:
        values = torch.rand(VIEWS, channels, *size, generator=generator, dtype=torch.float64)
        return (low + (high - low) * values).to(device, dtype)

    shown = None
    if photos:
        any_ = (random(1, sizes[0], 0, 1) > 0.3).to(dtype)
        light, mean, share = (random(count, sizes[0], -2, 2) * any_ for count in (3, 3, 1))
        shown = torch.cat((light, any_, mean, share), 1)
    return Parts(
        images=[random(CHANNELS, size, -2, 2).requires_grad_() for size in sizes],
        colours=[random(3, size, 0.01, 4).requires_grad_() for size in sizes],
        valid=[(random(1, size, 0, 1) > 0.4).to(dtype) for size in sizes],
        occlusion=[random(1, size, 0, 1) for size in sizes],
        brightness=torch.tensor([0.3, 1.7]).to(device, dtype),
        shown=shown,
        outputs=random(9 if photos else 6, sizes[0], -3, 3).requires_grad_(),
    )


def with_gradients(parts: Parts, joined: bool, backend: Backend) -> list[Tensor]:
    """Return inputs, radiance and the gradients of a fixed weighting of them."""
    images = [*parts.inputs(joined, backend), parts.output(backend)]
    generator = torch.Generator().manual_seed(8)
    weights = [torch.randn(image.shape, generator=generator).to(image) for image in images]
    return [t.detach().cpu() for t in (*images, *torch.autograd.grad(images, parts.leaves, weights))]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("joined", [True, False])
@pytest.mark.parametrize("photos", [True, False])
@pytest.mark.parametrize("size", [(70, 91), (5, 3), (1, 1)])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_kernels_and_plain_torch_agree(
    backend: Backend, joined: bool, photos: bool, size: tuple[int, int], dtype: torch.dtype
) -> None:
    expected = with_gradients(make_parts(*size, photos, dtype), joined, "reference")
    found = with_gradients(make_parts(*size, photos, dtype, backend), joined, backend)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-12
    for got, wanted in zip(found, expected, strict=True):
        torch.testing.assert_close(got, wanted, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("photos", [True, False])
def test_gradients_are_exact(photos: bool) -> None:
    parts = make_parts(6, 7, photos, torch.float64)

    def run(*leaves: Tensor) -> tuple[Tensor, ...]:
        moved = Parts(
            list(leaves[:3]),
            list(leaves[3:6]),
            parts.valid,
            parts.occlusion,
            parts.brightness,
            parts.shown,
            leaves[6],
        )
        return (*moved.inputs(True, "cpu"), moved.output("cpu"))

    assert torch.autograd.gradcheck(run, tuple(parts.leaves))


def test_what_lies_beyond_the_bounds_has_no_gradient() -> None:
    """A change of more than exp(8) and light below 0 are cut off; neither is moved further that way."""
    parts = make_parts(4, 4, False, torch.float32)
    with torch.no_grad():
        parts.outputs[:, 0], parts.outputs[:, 1], parts.outputs[:, 5] = 9.0, -9.0, -1e4
    for backend in ("cpu", "reference"):
        radiance = parts.output(backend)
        assert bool((radiance[:, 2] == 0).all())
        (gradient,) = torch.autograd.grad(radiance.sum(), parts.outputs)
        assert not gradient[:, [0, 1, 2, 5]].any()
        assert bool((gradient[:, 3] == parts.brightness[:, None, None]).all())


def test_outputs_without_the_photos_shares_are_refused() -> None:
    parts = make_parts(4, 4, True, torch.float32)
    with pytest.raises(ValueError, match="outputs: expected 9 channels, got 6"):
        renderer_output(parts.outputs[:, :6], parts.colours[0], parts.brightness, parts.shown)


@pytest.mark.parametrize("photos", [True, False])
def test_operators_are_registered_right(photos: bool) -> None:
    parts = make_parts(5, 4, photos, torch.float64)
    pyramid = (parts.images, parts.valid, parts.occlusion, parts.colours, parts.brightness, parts.shown)
    inputs = PyramidParts(*pyramid, InputSettings(joined=False, interleaved=True))
    torch.library.opcheck(renderer_inputs_operator.registered, flatten(inputs))
    outputs = OutputParts(parts.outputs, parts.colours[0], parts.brightness, parts.shown)
    torch.library.opcheck(renderer_output_operator.registered, flatten(outputs))
