"""Every output and every gradient, ghosts' included, against the oracle where things go wrong first: empty views, single
points, borders, crowded pixels, behind the camera, numbers that are none. In every order that the kernels have."""

import math
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from compare import assert_same_gradients, assert_same_pictures
from strategies import LENSES, Scene, draw_with_gradients
from test_rasterize import by_band, by_point, through_autograd

from adop.camera import Camera
from adop.ops import Levels, Points, RasterConfig, count_invalid, make_blocks, project

WIDTH, HEIGHT = 33, 21
BAD = (math.nan, math.inf, -math.inf)


def camera_of(model: str, views: int) -> Camera:
    """Views a little beside one another; a pinhole whose borders are exact numbers, or a fisheye or ocam lens."""
    focal = 16.0
    lens = torch.tensor(LENSES[model]) if model != "opencv" else torch.zeros(8)
    if model == "ocam":
        lens[4:] *= focal
    pose = torch.eye(4).repeat(views, 1, 1)
    pose[:, 0, 3] = torch.arange(views) * 0.125
    intrinsics = torch.tensor([[focal, focal, 16.0, 10.0]]).repeat(views, 1)
    return Camera(model, WIDTH, HEIGHT, intrinsics, lens.repeat(views, 1), pose)  # type: ignore[arg-type]


def at(camera: Camera, uv: list[tuple[float, float]], z: list[float]) -> torch.Tensor:
    """Return points that the first view sees at these pixels and depths."""
    if not uv:
        return torch.zeros(0, 3)
    depth = torch.tensor(z)
    if camera.model == "opencv":
        plane = (torch.tensor(uv) - torch.tensor([16.0, 10.0])) / 16.0
        return torch.cat((plane, torch.ones(len(z), 1)), 1) * depth[:, None]
    return camera[0].unproject(torch.tensor(uv)[None], depth[None])[0]


def nothing(camera: Camera) -> torch.Tensor:
    return at(camera, [], [])


def none_in_view(camera: Camera) -> torch.Tensor:
    return torch.tensor([[0.0, 0.0, -2.0], [0.5, 0.1, -1.0], [0.0, 1000.0, -1.0]])


def one(camera: Camera) -> torch.Tensor:
    return at(camera, [(12.5, 8.25)], [2.0])


def borders(camera: Camera) -> torch.Tensor:
    """On the edges of pixels and of the picture; of lenses that round, a little to either side."""
    edges = [(x, y) for x in (0.0, 2.0, 8.0, 16.0, 31.0, 32.0, 33.0) for y in (0.0, 1.0, 4.0, 20.0, 21.0)]
    if camera.model != "opencv":
        edges = [(x + d, y - d) for x, y in edges for d in (-0.03, 0.03)]
    return at(camera, [(float(x), float(y)) for x, y in edges], [2.0] * len(edges))


def one_pixel(camera: Camera) -> torch.Tensor:
    places = [(12.2 + 0.6 * (i % 7) / 7, 8.2 + 0.6 * (i % 5) / 5) for i in range(60)]
    return at(camera, places, [2.0 + 0.003 * i for i in range(60)])


def behind(camera: Camera) -> torch.Tensor:
    seen = at(camera, [(12.4, 8.3), (20.6, 11.7), (13.4, 8.3)], [2.0, 3.0, 2.0])
    return torch.cat((-seen, seen, seen * 0.001, torch.zeros(1, 3)))  # behind, seen, nearer than near


def not_finite(camera: Camera) -> torch.Tensor:
    xyz = at(camera, [(12.4 + i % 3, 8.3) for i in range(24)], [2.0] * 24)
    for number, bad in enumerate(BAD):
        for axis in range(3):
            xyz[3 * number + axis, axis] = bad
    return xyz


CASES = (nothing, none_in_view, one, borders, one_pixel, behind, not_finite)


def scene_of(
    case: Callable[[Camera], torch.Tensor], model: str, views: int, ghosts: float, bilinear: bool = False
) -> Scene:
    camera = camera_of(model, views)
    xyz = case(camera)
    generator = torch.Generator().manual_seed(len(xyz))
    radius = torch.where(torch.rand(len(xyz), generator=generator) < 0.3, 0.15, 100.0)
    if case is not_finite:
        radius[9:12] = torch.tensor(BAD)
    features, background = torch.rand(len(xyz), 4, generator=generator), torch.rand(4, generator=generator)
    seen = torch.rand(views, len(xyz), generator=generator) < ghosts
    config = RasterConfig(near=0.01, position_gradient="bilinear" if bilinear else "ghost")
    return Scene(camera, Points(xyz, radius), features, background, seen, config)


def draw_as_the_oracle(scene: Scene) -> tuple[Levels, dict[str, torch.Tensor]]:
    """Draw with and without blocks, and hold pictures and gradients to the oracle's, which are returned."""
    expected, oracle = draw_with_gradients(scene, "reference")
    blocks = make_blocks(scene.points.xyz, scene.points.radius, 16)
    for points in (scene.points, replace(scene.points, blocks=blocks)):
        levels, gradients = draw_with_gradients(replace(scene, points=points), "cpu")
        for name in ("features", "weight", "depth"):
            assert_same_pictures(getattr(levels, name), getattr(expected, name))
        assert_same_gradients(gradients, oracle)
    return expected, oracle


@pytest.mark.parametrize(("ghosts", "bilinear"), [(0.0, False), (0.4, False), (1.0, False), (0.3, True)])
@pytest.mark.parametrize("views", [1, 3])
@pytest.mark.parametrize("model", sorted(LENSES))
@pytest.mark.parametrize("case", CASES)
def test_fused_draw(
    case: Callable[[Camera], torch.Tensor], model: str, views: int, ghosts: float, bilinear: bool
) -> None:
    scene = scene_of(case, model, views, ghosts, bilinear)
    expected, _ = draw_as_the_oracle(scene)
    if case in (nothing, none_in_view):
        assert all((weight == 0).all() for weight in expected.weight)
    elif ghosts == 0:
        assert expected.weight[0].sum() > 0


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("run", [by_point, by_band])
@pytest.mark.parametrize("model", sorted(LENSES))
@pytest.mark.parametrize("case", CASES)
def test_projected_points(
    case: Callable[[Camera], torch.Tensor], model: str, run: Callable[..., tuple], bilinear: bool
) -> None:
    scene = scene_of(case, model, 3, 0.4, bilinear)
    projection = project(scene.camera, scene.points, backend="reference")
    generator = torch.Generator().manual_seed(0)
    sizes = [(-(-HEIGHT >> level), -(-WIDTH >> level)) for level in range(4)]
    grads = [torch.randn(3, 4, *size, generator=generator) for size in sizes]
    levels, gradients = run(scene, projection, grads)
    expected, oracle = through_autograd(scene, projection, grads, "reference")
    for name in ("features", "weight", "depth"):
        assert_same_pictures(getattr(levels, name), getattr(expected, name))
    assert_same_gradients(gradients, oracle)
    # The kernels project alike.
    own = project(scene.camera, scene.points)
    assert torch.equal(own.visible, projection.visible)
    torch.testing.assert_close(own.uv, projection.uv, rtol=2e-5, atol=2e-4)


def test_ghosts_of_these_cases_have_gradients() -> None:
    """The comparisons above compare something: ghosts among drawn points feel a slope."""
    scene = scene_of(one_pixel, "opencv", 3, 0.4)
    _, gradients = draw_with_gradients(scene, "cpu")
    for name in ("xyz", "world_to_camera", "intrinsics"):
        assert gradients[name].abs().max() > 0


def test_what_is_not_finite_is_counted() -> None:
    scene = scene_of(not_finite, "opencv", 1, 0.0)
    assert count_invalid(scene.points) == 12  # nine coordinates, three radii
    assert count_invalid(Points(torch.zeros(0, 3), torch.zeros(0))) == 0
