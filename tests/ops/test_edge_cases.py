"""Every output and gradient against plain torch in edge cases, in every order that the kernels have."""

from collections.abc import Callable

import pytest
import torch

from adop.geometry.camera import Camera
from adop.ops import Points, count_invalid, project
from support.compare import assert_same_gradients, assert_same_pictures
from support.edge_cases import (
    CASES,
    HEIGHT,
    WIDTH,
    draw_as_the_oracle,
    none_in_view,
    not_finite,
    nothing,
    one_pixel,
    scene_of,
)
from support.orders import by_band, by_point, through_autograd
from support.strategies import LENSES, draw_with_gradients


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
    # The kernels project to the same pixels.
    own = project(scene.camera, scene.points)
    assert torch.equal(own.visible, projection.visible)
    torch.testing.assert_close(own.uv, projection.uv, rtol=2e-5, atol=2e-4)


def test_ghosts_of_these_cases_have_gradients() -> None:
    """The comparisons above are not between zeros."""
    scene = scene_of(one_pixel, "opencv", 3, 0.4)
    _, gradients = draw_with_gradients(scene, "cpu")
    for name in ("xyz", "world_to_camera", "intrinsics"):
        assert gradients[name].abs().max() > 0


def test_points_that_are_not_finite_are_counted() -> None:
    scene = scene_of(not_finite, "opencv", 1, 0.0)
    assert count_invalid(scene.points) == 12  # nine coordinates and three radii
    assert count_invalid(Points(torch.zeros(0, 3), torch.zeros(0))) == 0
