"""The physical camera: kernel and plain torch against the tonemapper, the adjoint against finite differences."""

from dataclasses import replace

import pytest
import torch

from adop.backend.operator import flatten
from adop.model.tonemapper import Tonemapper
from adop.ops import Backend
from adop.ops.tonemap import PhysicalCamera, TonemapInputs, tonemap_operator, tonemap_photo

BACKENDS = ["cpu", "reference", pytest.param("cuda", marks=pytest.mark.cuda)]
CROP = torch.tensor([[1.2, 3.0, -2.0], [0.7, 0.0, 5.0]])
SIZE = torch.tensor([[90.0, 60.0], [50.0, 70.0]])


def position(height: int, width: int) -> torch.Tensor:
    """Return where the pixels of the two crops lie on their photos, by definition."""
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
def test_it_is_the_tonemapper(backend: Backend, leak: bool, size: tuple[int, int]) -> None:
    generator = torch.Generator().manual_seed(1)
    radiance = torch.randn(2, 3, *size, generator=generator) * 0.8 + 0.5  # some black, some clipped
    weight = torch.randn(radiance.shape, generator=generator)
    photos = torch.tensor([1, 2])
    results = []
    for device in ("cpu", "cuda" if backend == "cuda" else "cpu"):
        model, leaf = tonemapper().to(device), radiance.to(device).requires_grad_()
        photometry, lens = model.photometry(photos.to(device)), model.lens[photos]
        if len(results):
            crop, photo_size = CROP.to(device), SIZE.to(device)
            camera = model.physical_camera(photometry, crop, photo_size, lens, leak)
            photo = tonemap_photo(leaf, camera, backend)
        else:
            photo = model(leaf, photometry, position(*size), lens, leak)
        wanted = [leaf, *model.parameters()]
        gradients = torch.autograd.grad((photo * weight.to(device)).sum(), wanted)
        results.append([photo.detach().cpu(), *(g.cpu() for g in gradients)])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=2e-4, atol=2e-4 * float(expected.abs().max()))


def arguments(vignette: bool = True) -> tuple[torch.Tensor | None, ...]:
    """Return radiance, gain, curve, vignette, crop and photo size."""
    generator = torch.Generator().manual_seed(2)

    def random(*shape: int) -> torch.Tensor:
        return torch.rand(*shape, generator=generator, dtype=torch.float64)

    # Light within the response's range and between its samples, at which the curve has corners.
    steps = (torch.arange(2 * 3 * 4 * 5) % 23 + 0.5).reshape(2, 3, 4, 5) / 24
    light = ((steps.double() + 0.055) / 1.055) ** 2.4
    gain, curve = random(2, 3) * 0 + 1, random(2, 3, 25).cumsum(2) / 13
    falloff = torch.zeros(2, 5, dtype=torch.float64) if vignette else None
    leaves = [light, gain, curve, falloff]
    return *(None if leaf is None else leaf.requires_grad_() for leaf in leaves), CROP.double(), SIZE.double()


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_gradients_are_exact(backend: Backend) -> None:
    def run(radiance: torch.Tensor, *camera: torch.Tensor) -> torch.Tensor:
        return tonemap_photo(radiance, PhysicalCamera(*camera, 0.01), backend)

    for vignette in (False, True):
        assert torch.autograd.gradcheck(run, arguments(vignette), eps=1e-7)


@pytest.mark.parametrize("backend", ["cpu", "reference"])
def test_clipped_light_has_the_leaks_gradient(backend: Backend) -> None:
    light = torch.tensor([1.7, -0.2, 3.0], dtype=torch.float64).reshape(1, 3, 1, 1).requires_grad_()
    camera = PhysicalCamera(
        torch.ones(1, 3).double(),
        torch.linspace(0, 1, 25).double().expand(1, 3, 25),
        None,
        CROP[:1],
        SIZE[:1],
    )
    leaking = replace(camera, leak=0.01)
    assert torch.autograd.gradcheck(lambda r: tonemap_photo(r, leaking, backend), light)
    assert not torch.autograd.grad(tonemap_photo(light, camera, backend).sum(), light)[0].any()


def test_operator_is_registered_right() -> None:
    torch.library.opcheck(tonemap_operator.registered, flatten(TonemapInputs(*arguments(), 0.01)))  # type: ignore[arg-type]


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_pixel_without_a_number_stays_one_and_harms_no_other(backend: Backend) -> None:
    device = "cuda" if backend == "cuda" else "cpu"
    model, photos = tonemapper().to(device).requires_grad_(False), torch.tensor([1, 2])
    camera = model.physical_camera(
        model.photometry(photos.to(device)), CROP.to(device), SIZE.to(device), model.lens[photos], True
    )
    radiance = torch.rand(2, 3, 40, 50, device=device)
    right = tonemap_photo(radiance, camera, backend)
    for value in (torch.nan, torch.inf):
        broken = radiance.clone()
        broken[1, 2, 7, 9] = value
        broken.requires_grad_()
        photo = tonemap_photo(broken, camera, backend)
        same = torch.ones_like(photo, dtype=torch.bool)
        same[1, 2, 7, 9] = False
        assert torch.equal(photo[same], right[same])
        photo[same].sum().backward()
        assert broken.grad is not None and bool(broken.grad[same].isfinite().all())
        if value is torch.nan:
            assert bool(photo[1, 2, 7, 9].isnan())
