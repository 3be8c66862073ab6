"""The physical camera's kernel against the tonemapper's torch, and its adjoint against finite differences."""

import pytest
import torch

from adop.model.tonemapper import Tonemapper
from adop.ops.tonemap import take_photo, take_photo_op

BACKENDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
CROP = torch.tensor([[1.2, 3.0, -2.0], [0.7, 0.0, 5.0]])
SIZE = torch.tensor([[90.0, 60.0], [50.0, 70.0]])


def position(height: int, width: int) -> torch.Tensor:
    """Where the pixels of the two crops lie on their photos, by the definition."""
    v, u = torch.meshgrid(torch.arange(height) + 0.5, torch.arange(width) + 0.5, indexing="ij")
    full = (torch.stack((u, v))[None] + CROP[:, 1:, None, None]) / CROP[:, :1, None, None]
    half = SIZE.norm(dim=1)[:, None, None, None] / 2
    return (full - SIZE[:, :, None, None] / 2) / half


def tonemapper() -> Tonemapper:
    made = Tonemapper(torch.linspace(-1, 1, 4), torch.tensor([0, 0, 1, 1]), torch.ones(4, dtype=torch.bool))
    generator = torch.Generator().manual_seed(0)
    for parameter in made.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) * 0.2
    return made


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("leak", [False, True])
@pytest.mark.parametrize("size", [(40, 50), (1, 1), (200, 33)])
def test_it_is_the_tonemapper(backend: str, leak: bool, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    radiance = torch.randn(2, 3, *size, generator=generator) * 0.8 + 0.5  # some black, some clipped
    weight = torch.randn(radiance.shape, generator=generator)
    photos = torch.tensor([1, 2])
    results = []
    for device in ("cpu", backend):
        model, leaf = tonemapper().to(device), radiance.to(device).requires_grad_()
        photometry, lens = model.photometry(photos.to(device)), model.lens[photos]
        if len(results):
            photo = model.take(leaf, photometry, CROP.to(device), SIZE.to(device), lens, leak)
        else:
            photo = model(leaf, photometry, position(*size), lens, leak)
        wanted = [leaf, *model.parameters()]
        gradients = torch.autograd.grad((photo * weight.to(device)).sum(), wanted)
        results.append([photo.detach().cpu(), *(g.cpu() for g in gradients)])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * float(expected.abs().max()))


def arguments(vignette: bool = True) -> tuple[torch.Tensor | None, ...]:
    generator = torch.Generator().manual_seed(2)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    # Light inside the response's range, not near a sample, where the curve has a corner.
    steps = (torch.arange(2 * 3 * 4 * 5) % 23 + 0.5).reshape(2, 3, 4, 5) / 24
    light = ((steps.double() + 0.055) / 1.055) ** 2.4
    gain, curve = random(2, 3) * 0 + 1, random(2, 3, 25).cumsum(2) / 13
    falloff = torch.zeros(2, 5, dtype=torch.float64) if vignette else None
    leaves = [light, gain, curve, falloff]
    return *(None if leaf is None else leaf.requires_grad_() for leaf in leaves), CROP.double(), SIZE.double()


def test_gradients_are_exact() -> None:
    for vignette in (False, True):
        assert torch.autograd.gradcheck(lambda *a: take_photo(*a, 0.01), arguments(vignette), eps=1e-7)


def test_clipped_light_has_the_leaks_gradient() -> None:
    light = torch.tensor([1.7, -0.2, 3.0], dtype=torch.float64).reshape(1, 3, 1, 1).requires_grad_()
    rest = (torch.ones(1, 3).double(), torch.linspace(0, 1, 25).double().expand(1, 3, 25), None)
    assert torch.autograd.gradcheck(lambda r: take_photo(r, *rest, CROP[:1], SIZE[:1], 0.01), light)
    assert not torch.autograd.grad(take_photo(light, *rest, CROP[:1], SIZE[:1]).sum(), light)[0].any()


def test_operator_is_registered_right() -> None:
    torch.library.opcheck(take_photo_op, (*arguments(), 0.01))
