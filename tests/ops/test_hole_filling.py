"""Hole filling: kernels against plain torch, the adjoint against finite differences."""

import pytest
import torch

from adop.backend.operator import flatten
from adop.model.hole_filling import fill_holes
from adop.ops import Levels, RasterConfig, draw
from adop.ops.hole_filling import HoleFillingInputs, HoleFillingSettings, fill_holes_operator
from support.strategies import make_scene

BACKENDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


def pyramid(views: int, width: int, height: int, levels: int, dtype: torch.dtype = torch.float32) -> Levels:
    """Return a pyramid of points in front of one another, with holes and gaps."""
    scene = make_scene(views=views, points=1500, width=width, height=height, levels=levels, dtype=dtype)
    return draw(scene.camera, scene.points, scene.features, RasterConfig(levels=levels), scene.background)


def backgrounds(levels: Levels) -> list[torch.Tensor]:
    generator = torch.Generator().manual_seed(3)
    sizes = [image[:, :3].shape for image in levels.features]
    return [torch.rand(s, generator=generator).to(levels.features[0].dtype) for s in sizes]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("fill_levels", [0, 1, 2, 4, 9])
@pytest.mark.parametrize("own", [False, True])
@pytest.mark.parametrize("size", [(1, 64, 64, 5), (3, 45, 31, 4), (2, 7, 3, 3), (1, 1, 1, 2), (1, 40, 30, 1)])
def test_kernels_and_plain_torch_agree(
    backend: str, fill_levels: int, own: bool, size: tuple[int, int, int, int]
) -> None:
    levels = pyramid(*size)
    generator = torch.Generator().manual_seed(4)
    weights = [torch.randn(image[:, :3].shape, generator=generator) for image in levels.features]
    results = []
    for which in ("reference", backend):
        device = "cpu" if which == "reference" else which
        images = [image.to(device).requires_grad_() for image in levels.features]
        background = [b.to(device).requires_grad_() for b in backgrounds(levels)]
        there = [[t.to(device) for t in part] for part in (levels.weight, levels.depth)]
        base = fill_holes(Levels(images, *there), None if own else background, fill_levels, 0.05, which)  # type: ignore[arg-type]
        loss = sum((c * w.to(device)).sum() for c, w in zip(base.colours, weights, strict=True))
        leaves = images if own else images + background
        gradients = torch.autograd.grad(loss, leaves, allow_unused=True, materialize_grads=True)  # type: ignore[arg-type]
        results.append([t.detach().cpu() for t in (*base.colours, *base.valid, *base.occlusion, *gradients)])
    for expected, got in zip(*results, strict=True):
        torch.testing.assert_close(got, expected, rtol=2e-5, atol=2e-5)
    if size[0] == 3:
        assert 0.05 < float(results[0][size[3]].mean()) < 0.95, "some pixels are holes and some are not"


def test_gradients_are_exact() -> None:
    levels = pyramid(2, 13, 9, 3, torch.float64)
    background = [b.requires_grad_() for b in backgrounds(levels)]

    def run(*leaves: torch.Tensor) -> tuple[torch.Tensor, ...]:
        moved = Levels(list(leaves[:3]), levels.weight, levels.depth)
        return tuple(fill_holes(moved, list(leaves[3:]), 2, 0.05, "cpu").colours)

    assert torch.autograd.gradcheck(
        run, (*(image.requires_grad_() for image in levels.features), *background)
    )


def test_operator_is_registered_right() -> None:
    levels = pyramid(2, 13, 9, 3, torch.float64)
    images = [image.requires_grad_() for image in levels.features]
    for background in (backgrounds(levels), []):
        settings = HoleFillingSettings(2, 3, 0.05)
        inputs = HoleFillingInputs(images, background, levels.weight, levels.depth, settings)
        torch.library.opcheck(fill_holes_operator.registered, flatten(inputs))
