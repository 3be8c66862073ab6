"""The rasterizer's kernels as a GPU runs them: in warps, whose threads add for one another."""

from __future__ import annotations

import ctypes
import subprocess
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from adop.backend.arguments import RasterizeArguments, Values, pack
from adop.backend.compile import find_compiler
from adop.backend.launch import Launch
from adop.backend.sources import kernel_folder
from adop.geometry.camera import level_size
from adop.ops import Projection, project, rasterization
from support.compare import assert_same_gradients, assert_same_pictures
from support.orders import by_point, through_autograd
from support.strategies import make_scene


@pytest.fixture(scope="module", params=["float", "double"])
def warps(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ctypes.CDLL:
    """The kernels compiled with the words of CUDA, for numbers of one precision."""
    compiler, output = find_compiler(), tmp_path_factory.mktemp("warps") / "warps.so"
    assert compiler is not None
    flags = ["-std=c++17", "-O1", "-fPIC", "-shared", "-pthread", "-w", f"-DADOP_REAL={request.param}"]
    source = Path(__file__).with_name("warp.cpp")
    subprocess.run([compiler, *flags, f"-I{kernel_folder()}", source, "-o", output], check=True)
    library = ctypes.CDLL(str(output))
    library.dtype = torch.float32 if request.param == "float" else torch.float64
    return library


def crowded(projection: Projection, generator: torch.Generator) -> Projection:
    """Return a projection with all points in a corner of the picture, ordered by row, three quarters in one surface."""
    views, count = projection.z.shape
    uv = torch.rand(views, count, 2, generator=generator) * 7
    row = uv[..., 1].floor().argsort(dim=1)
    uv = uv.gather(1, row[..., None].expand_as(uv)).to(projection.uv)
    z = (1 + 0.005 * torch.rand(views, count, generator=generator)).to(projection.z)
    z[:, ::4] += 1
    drawn = torch.ones_like(projection.visible)
    return replace(projection, uv=uv, z=z, radius_px=torch.full_like(z, 100.0), visible=drawn)


@pytest.mark.parametrize("views", [1, 2])
def test_warps_draw_what_plain_torch_draws_with_fewer_additions(
    warps: ctypes.CDLL, views: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    def launch(structure: object, series: Sequence[Launch], values: Values, like: torch.Tensor) -> None:
        arguments = pack(RasterizeArguments, values)
        for one in series:
            run = getattr(warps, f"warps_{one.kernel}")
            run(ctypes.byref(arguments), ctypes.c_int64(one.count))

    scene = make_scene(
        "opencv", views=views, points=300, width=21, height=14, dtype=warps.dtype, harmonics=True
    )
    generator = torch.Generator().manual_seed(0)
    projection = crowded(project(scene.camera, scene.points, backend="reference"), generator)
    sizes = [level_size(14, 21, level) for level in range(scene.config.levels)]
    grads = [torch.randn(views, 4, *size, generator=generator).to(warps.dtype) for size in sizes]
    expected, oracle = through_autograd(scene, projection, grads, "reference")
    before = warps.additions_so_far()
    monkeypatch.setattr(rasterization, "launch", launch)
    got, gradients = by_point(scene, projection, grads)
    for name in ("features", "weight", "depth"):
        assert_same_pictures(getattr(got, name), getattr(expected, name))
    assert_same_gradients(gradients, oracle, 2e-5 if warps.dtype == torch.float32 else 1e-12)
    alone = 5 * sum(float(weight.sum()) for weight in expected.weight)  # one for each number of each point
    assert warps.additions_so_far() - before < 0.6 * alone
