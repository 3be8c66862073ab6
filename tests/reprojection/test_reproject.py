"""Photos looked up from other views: the kernel against plain torch, and both against a plane whose colours are known."""

from __future__ import annotations

import pytest
import torch

from adop.backend.operator import flatten
from adop.ops import Backend
from adop.reprojection.photo_table import choose_photos
from adop.reprojection.reproject import FAR, ReprojectInputs, ViewRays, reproject, reproject_operator
from support.looked_up_photos import HEIGHT, WIDTH, photo_camera, photo_light, photo_table, rays_of

BACKENDS = ["cpu", "reference", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("backend", ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)])
@pytest.mark.parametrize("motion", [False, True])
@pytest.mark.parametrize("model", ["opencv", "fisheye", "ocam"])
def test_the_kernel_is_plain_torch(model: str, motion: bool, backend: Backend) -> None:
    generator = torch.Generator().manual_seed(0)
    cameras = [photo_camera(model, x, a, motion) for x, a in ((-0.4, -0.05), (0.1, 0.02), (0.5, 0.1))]
    pixels = torch.randint(256, (3, HEIGHT, WIDTH, 3), generator=generator, dtype=torch.uint8)
    surfaces = 4 + 0.3 * torch.rand(3, HEIGHT // 2, WIDTH // 2, generator=generator)
    surfaces[:, :4] = FAR
    depth = 4 + 0.3 * torch.rand(1, 1, HEIGHT, WIDTH, generator=generator)
    depth[:, :, :9] = torch.inf
    view, chosen = photo_camera(model, 0.05), torch.tensor([[2, 0, -1, 1]])
    photos = photo_table(cameras, pixels, surfaces)
    arguments = (photos, chosen, view, rays_of(view), depth, photo_light(3), 1e5)
    expected, got = reproject(*arguments, backend="reference"), reproject(*arguments, backend=backend)
    assert 0.2 < float(expected[0, 3].mean()) < 0.99
    assert (expected[0, 3, :8] > 0).any() and (expected[0, 3, 10:] > 0).any()
    # Where rounding decides whether a surface agrees, or which photo counts most, they may differ.
    differs = (got - expected).abs().amax(1) > 2e-3
    assert float(differs.float().mean()) < 5e-3
    assert torch.equal(got[:, 3:4] > 0, got[:, 7:] > 0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_wall_shows_the_light_that_photos_took_of_it(backend: Backend) -> None:
    # The wall z = 4 whose brightness rises with x, photographed by definition: value = 100 (light's logarithm).
    cameras = [photo_camera("opencv", x) for x in (-0.4, 0.3)]
    physical, taken = photo_light(2), []
    for row, photo in enumerate(cameras):
        depth = torch.full((1, WIDTH * HEIGHT), 4.0)
        x, y, _ = photo.unproject(photo.pixel_centres(0), depth)[0].unbind(1)
        wanted = (1.4 + 0.2 * x + 0.1 * y)[:, None] + physical.gain[row]
        half = (WIDTH**2 + HEIGHT**2) ** 0.5 / 2
        centre = torch.tensor([WIDTH / 2 + 0.02 * half, HEIGHT / 2 - 0.01 * half])
        at = (photo.pixel_centres(0)[0] - centre) / half
        r2 = at.square().sum(1)
        wanted = wanted + (1 + r2 * (-0.2 + r2 * 0.05)).log()[:, None]
        taken.append((100 * wanted).round().clamp(0, 255).to(torch.uint8).reshape(HEIGHT, WIDTH, 3))
    photos = photo_table(cameras, torch.stack(taken), torch.full((2, HEIGHT // 2, WIDTH // 2), 4.0))
    view = photo_camera("opencv", 0.0)
    depth = torch.full((1, 1, HEIGHT, WIDTH), 4.0)
    shown = reproject(photos, torch.tensor([[0, 1]]), view, rays_of(view), depth, physical, 1e5, backend)
    x, y, _ = view.unproject(view.pixel_centres(0), depth.flatten(1))[0].T.reshape(3, HEIGHT, WIDTH)
    seen = shown[0, 3] > 0
    assert float(seen.float().mean()) > 0.9
    for channels in (shown[0, :3], shown[0, 4:7]):
        error = (channels - (1.4 + 0.2 * x + 0.1 * y))[:, seen].abs()
        assert float(error.max()) < 0.02 and float(error.mean()) < 0.004
    assert set(shown[0, 7].unique().tolist()) <= {0.0, 0.5, 1.0}


@pytest.mark.parametrize("backend", BACKENDS)
def test_what_something_hides_or_a_mask_leaves_out_is_not_shown(backend: Backend) -> None:
    cameras = [photo_camera("opencv", 0.2)]
    pixels = torch.full((1, HEIGHT, WIDTH, 3), 100, dtype=torch.uint8)
    view, depth = photo_camera("opencv", 0.0), torch.full((1, 1, HEIGHT, WIDTH), 4.0)
    for hidden in (2.0, FAR, 0.0):  # something nearer, nothing at all, masked
        photos = photo_table(cameras, pixels, torch.full((1, HEIGHT // 2, WIDTH // 2), hidden))
        shown = reproject(
            photos, torch.tensor([[0]]), view, rays_of(view), depth, photo_light(1), 1e5, backend
        )
        assert not shown.any()
    sky = reproject(
        photo_table(cameras, pixels, torch.full((1, HEIGHT // 2, WIDTH // 2), FAR)),
        torch.tensor([[0]]),
        view,
        rays_of(view),
        torch.full_like(depth, torch.inf),
        photo_light(1),
        1e5,
        backend,
    )
    assert float(sky[0, 3].mean()) > 0.9
    none = reproject(
        photos, torch.tensor([[-1, -1]]), view, rays_of(view), depth, photo_light(1), 1e5, backend
    )
    assert not none.any()


def test_the_operator_is_registered_right() -> None:
    view = photo_camera("opencv", 0.0)
    photos = photo_table(
        [photo_camera("opencv", 0.2)],
        torch.full((1, HEIGHT, WIDTH, 3), 100, dtype=torch.uint8),
        torch.full((1, HEIGHT // 2, WIDTH // 2), 4.0),
    )
    grid = rays_of(view)
    inputs = ReprojectInputs(
        torch.full((1, 1, HEIGHT, WIDTH), 4.0),
        ViewRays(grid.local, grid.size, grid.crop, grid.world_to_camera),
        torch.tensor([[0]]),
        photos.cameras,
        photos.pixels,
        photos.surfaces,
        photos.places,
        photo_light(1),
        "opencv",
        True,
        1e5,
    )
    torch.library.opcheck(reproject_operator.registered, flatten(inputs))  # type: ignore[arg-type]


def test_near_photos_are_chosen_first_and_never_the_views_own() -> None:
    cameras = [photo_camera("opencv", x) for x in (1.0, 0.1, -0.6, 0.0)]
    photos = photo_table(
        cameras,
        torch.zeros(4, HEIGHT, WIDTH, 3, dtype=torch.uint8),
        torch.full((4, HEIGHT // 2, WIDTH // 2), 4.0),
    )
    view = photo_camera("opencv", 0.0)
    assert choose_photos(photos, view, 2).tolist()[0] == [3, 1]
    assert choose_photos(photos, view, 5, own=[13]).tolist() == [[1, 2, 0, -1, -1]]
    away = photo_camera("opencv", 0.0, angle=3.1)
    assert choose_photos(photos, away, 2).tolist() == [[-1, -1]]
