"""The networks: the paper's size, the identity at the start, images of any size."""

import pytest
import torch

from adop.config import NetworkConfig
from adop.model.hole_filling import fill_holes
from adop.model.network import GatedConv, NeuralRenderer
from adop.ops import Levels


def pyramid(height: int, width: int, levels: int, channels: int = 4) -> Levels:
    sizes = [(-(-height // 2**level), -(-width // 2**level)) for level in range(levels)]
    generator = torch.Generator().manual_seed(0)
    weight = [(torch.rand(1, 1, *s, generator=generator) > 0.5).float() for s in sizes]
    return Levels(
        features=[torch.randn(1, channels, *s, generator=generator) for s in sizes],
        weight=weight,
        depth=[torch.where(w > 0, 2.0, float("inf")) for w in weight],
    )


def base_of(levels: Levels):
    background = [image[:, :3].exp() for image in levels.features]
    return fill_holes(levels, background, 4, 0.05)


def test_the_plain_unet_has_the_papers_size():
    network = NeuralRenderer(NetworkConfig(kind="unet", width=16, residual=False), 4, 4)
    assert sum(p.numel() for p in network.parameters()) == 574_651


@pytest.mark.parametrize("kind", ["light", "decoder", "unet"])
@pytest.mark.parametrize("size", [(64, 64), (33, 50), (17, 9)])
def test_starts_as_the_hole_filled_points(kind: str, size: tuple[int, int]):
    levels = pyramid(*size, 4)
    base = base_of(levels)
    picture = NeuralRenderer(NetworkConfig(kind=kind), 4, 4)(levels, base)
    assert picture.shape == (1, 3, *size)
    assert torch.allclose(picture, base.colours[0], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("kind", ["light", "decoder", "unet"])
def test_output_scales_with_the_brightness_of_the_scene(kind: str):
    """Twice the light in, twice the light out: the network does not depend on exposure."""
    torch.manual_seed(0)
    levels = pyramid(32, 32, 4)
    network = NeuralRenderer(NetworkConfig(kind=kind), 4, 4)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.1)
    shift = torch.zeros(4)
    shift[:3] = torch.log(torch.tensor(2.0))
    brighter = Levels([f + shift[:, None, None] for f in levels.features], levels.weight, levels.depth)
    once, twice = network(levels, base_of(levels)), network(brighter, base_of(brighter))
    assert torch.allclose(twice, 2 * once, rtol=1e-3, atol=1e-5)


def test_a_gated_convolution_of_parts_equals_that_of_their_concatenation():
    torch.manual_seed(0)
    gated = GatedConv(7, 5)
    first, second = torch.randn(2, 4, 9, 11), torch.randn(2, 3, 9, 11)
    value, gate = gated.convolution(torch.cat((first, second), 1)).chunk(2, 1)
    expected = torch.nn.functional.elu(value) * torch.sigmoid(gate)
    torch.testing.assert_close(gated(first, second), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("kind", ["light", "decoder", "unet"])
@pytest.mark.parametrize("residual", [True, False])
def test_every_parameter_learns(residual: bool, kind: str):
    levels = pyramid(32, 32, 4)
    network = NeuralRenderer(NetworkConfig(kind=kind, residual=residual), 4, 4)
    torch.nn.init.normal_(network.body.final.weight, std=0.1)
    (network(levels, base_of(levels)) ** 2).mean().backward()
    assert all(p.grad is not None and bool((p.grad != 0).any()) for p in network.parameters())
