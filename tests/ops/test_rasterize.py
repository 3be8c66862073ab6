"""rasterize: plain torch against values by hand and finite changes, the kernels in both orders against plain torch."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

import adop.ops
from adop.backend.operator import flatten
from adop.geometry.camera import Camera, level_size
from adop.ops import Levels, Points, Projection, RasterConfig, project, rasterize, sample_ghosts
from adop.ops.drawing import DrawInputs, draw_operator
from adop.ops.projection import ProjectedTensors, ViewSettings, camera_tensors
from adop.ops.rasterization import PyramidSettings, RasterizeInputs, rasterize_operator
from support.compare import assert_same_gradients, assert_same_pictures
from support.orders import by_band, by_point, through_autograd
from support.strategies import LENSES, Scene, make_scene


def projection_of(uv: list[list[float]], z: list[float], radius_px: float = 100.0) -> Projection:
    count = len(z)
    flat = torch.tensor(uv).reshape(1, count, 2)
    visible = torch.ones(1, count, dtype=torch.bool)
    return Projection(flat, torch.tensor(z)[None], torch.full((1, count), radius_px), visible)


@pytest.mark.parametrize("run", [by_point, by_band])
@pytest.mark.parametrize("model", sorted(LENSES))
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("harmonics", [False, True])
def test_both_orders_agree_with_plain_torch(
    run: Callable[..., tuple], model: str, dtype: torch.dtype, harmonics: bool
) -> None:
    scene = make_scene(model, views=3, points=3000, width=101, height=67, dtype=dtype, harmonics=harmonics)
    projection = project(scene.camera, scene.points, backend="reference")
    generator = torch.Generator().manual_seed(0)
    sizes = [level_size(67, 101, level) for level in range(4)]
    grads = [torch.randn(3, 4, *size, generator=generator).to(dtype) for size in sizes]
    expected, oracle = through_autograd(scene, projection, grads, "reference")
    got, gradients = run(scene, projection, grads)
    for name in ("features", "weight", "depth"):
        assert_same_pictures(getattr(got, name), getattr(expected, name))
    assert_same_gradients(gradients, oracle, 2e-5 if dtype == torch.float32 else 1e-12)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_fuzzy_depth_by_hand(backend: str) -> None:
    # pixel (3, 2): z = 1 and 1.009 count, 1.02 does not; pixel (5, 2): one point
    projection = projection_of([[3.5, 2.5]] * 3 + [[5.1, 2.9]], [1.0, 1.009, 1.02, 7.0])
    features = torch.tensor([[1.0], [2.0], [30.0], [4.0]])
    background = torch.tensor([-1.0])
    levels = rasterize(projection, features, 8, 6, RasterConfig(levels=2), background, backend=backend)  # type: ignore[arg-type]
    picture = torch.full((6, 8), -1.0)
    picture[2, 3], picture[2, 5] = 1.5, 4.0
    assert torch.equal(levels.features[0][0, 0], picture)
    assert levels.weight[0][0, 0, 2, 3] == 2 and levels.weight[1][0, 0, 1, 1] == 2
    assert levels.depth[1][0, 0, 1, 2] == 7 and levels.depth[1].isinf().sum() == 10


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_level_of_detail_by_hand(backend: str) -> None:
    # radius 1.2 px and tau 0.6: drawn at levels 0 and 1, exactly on the edge there, not at 2
    projection = projection_of([[3.5, 2.5]], [1.0], radius_px=1.2)
    config = RasterConfig(levels=4, radius_threshold=0.6)
    levels = rasterize(projection, torch.ones(1, 1), 8, 8, config, backend=backend)  # type: ignore[arg-type]
    threshold = torch.tensor(0.6)
    drawn = [float(w.sum()) for w in levels.weight]
    assert drawn[0] == 1 and drawn[2:] == [0, 0]
    assert drawn[1] == float(torch.tensor(1.2) * 0.5 >= threshold)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_ghosts_write_neither_colour_nor_depth(backend: str) -> None:
    projection = projection_of([[3.5, 2.5], [3.5, 2.5]], [1.0, 2.0])
    features = torch.tensor([[1.0], [2.0]])
    ghosts = torch.tensor([[True, False]])
    levels = rasterize(projection, features, 8, 6, RasterConfig(levels=1), None, ghosts, backend)  # type: ignore[arg-type]
    assert levels.features[0][0, 0, 2, 3] == 2 and levels.depth[0][0, 0, 2, 3] == 2


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("harmonics", [False, True])
def test_feature_and_background_gradients_are_exact(backend: str, harmonics: bool) -> None:
    scene = make_scene(points=60, width=13, height=11, channels=3, dtype=torch.float64, harmonics=harmonics)
    projection = project(scene.camera, scene.points, backend="reference")

    def run(features: Tensor, background: Tensor) -> tuple[Tensor, ...]:
        size = (scene.camera.width, scene.camera.height)
        ghosts = scene.ghosts
        return tuple(
            rasterize(projection, features, *size, scene.config, background, ghosts, backend).features
        )  # type: ignore[arg-type]

    assert torch.autograd.gradcheck(run, (scene.features.requires_grad_(), scene.background.requires_grad_()))

    def run_pictures(*background: Tensor) -> tuple[Tensor, ...]:
        size = (scene.camera.width, scene.camera.height)
        return tuple(
            rasterize(
                projection, scene.features, *size, scene.config, list(background), backend=backend
            ).features
        )  # type: ignore[arg-type]

    pictures = [torch.rand_like(image).requires_grad_() for image in run(scene.features, scene.background)]
    assert torch.autograd.gradcheck(run_pictures, pictures)


def drawn_at(scene: Scene, base: Projection, ghost: int, level: int, pixel: tuple[int, int]) -> Levels:
    """Let the oracle draw the scene without ghosts, and one of them as a point in a pixel of a level."""
    centre = torch.tensor([(pixel[0] + 0.5) * 2**level, (pixel[1] + 0.5) * 2**level], dtype=base.uv.dtype)
    visible = base.visible & ~scene.ghosts
    uv = torch.cat((base.uv, centre.reshape(1, 1, 2)), 1)
    z, large = torch.cat((base.z, base.z[:, ghost, None]), 1), torch.full_like(base.z[:, :1], 1e6)
    radius_px = torch.cat((base.radius_px, large), 1)
    grown = Projection(uv, z, radius_px, torch.cat((visible, torch.ones_like(visible[:, :1])), 1))
    features = torch.cat((scene.features, scene.features[ghost, None]))
    size = (scene.camera.width, scene.camera.height)
    return rasterize(grown, features, *size, scene.config, scene.background, backend="reference")


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_ghost_gradient_is_what_drawing_at_the_neighbour_would_change(backend: str) -> None:
    scene = make_scene(points=400, width=24, height=20, channels=3, dtype=torch.float64, seed=5)
    scene = replace(scene, config=RasterConfig(levels=2, radius_threshold=0.1))
    base = project(scene.camera, scene.points, backend="reference")
    generator = torch.Generator().manual_seed(2)
    size = (scene.camera.width, scene.camera.height)
    levels = rasterize(base, scene.features, *size, scene.config, scene.background, scene.ghosts, "reference")
    grads = [torch.randn(i.shape, generator=generator, dtype=torch.float64) for i in levels.features]
    _, gradients = through_autograd(scene, base, grads, backend)
    checked = 0
    for ghost in (scene.ghosts & base.visible)[0].nonzero().squeeze(1).tolist()[:50]:
        expected, fair = torch.zeros(2, dtype=torch.float64), True
        for level in range(scene.config.levels):
            if base.radius_px[0, ghost] * 0.5**level < scene.config.radius_threshold:
                break
            rows, columns = levels.depth[level].shape[2:]
            x, y = (base.uv[0, ghost] * 0.5**level).floor().int().tolist()
            if x < 2 or y < 2 or x >= columns - 2 or y >= rows - 2:
                continue
            for axis, (dx, dy) in ((0, (1, 0)), (0, (-1, 0)), (1, (0, 1)), (1, (0, -1))):
                depth, z = levels.depth[level][0, 0, y + dy, x + dx], base.z[0, ghost]
                fair &= not z < depth <= z * 1.01  # there the new point would hide some that now count
                with_it = drawn_at(scene, base, ghost, level, (x + dx, y + dy)).features[level]
                change = ((with_it - levels.features[level]) * grads[level]).sum()
                expected[axis] += (dx + dy) * 0.5 * 0.5**level * change
        if fair:
            torch.testing.assert_close(gradients["uv"][0, ghost], expected, atol=1e-10, rtol=0)
            checked += int(expected.abs().sum() > 0)
    assert checked > 20


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_bilinear_gradient_by_hand(backend: str) -> None:
    """A point of value 3 at (5.75, 4.5): a quarter of the way from pixel 5 to 6, in the middle of row 4."""
    projection = projection_of([[5.75, 4.5], [9.5, 4.75], [9.6, 4.6]], [1.0, 1.0, 0.5])
    uv = projection.uv.clone().requires_grad_()
    moved = replace(projection, uv=uv)
    config = RasterConfig(levels=1, position_gradient="bilinear")
    features = torch.tensor([[3.0], [5.0], [7.0]])
    levels = rasterize(moved, features, 16, 12, config, torch.tensor([1.0]), None, backend)  # type: ignore[arg-type]
    grad = torch.zeros(1, 1, 12, 16)
    grad[0, 0, 4, 6], grad[0, 0, 5, 5], grad[0, 0, 5, 9] = 10.0, 100.0, 1000.0
    (gradient,) = torch.autograd.grad(levels.features, uv, [grad])
    # In its own pixel the first point changes nothing; beside it, the background of 1 becomes 3.
    assert gradient[0, 0].tolist() == pytest.approx([10 * 2.0, 0.75 * 100 * 2.0 - 0.25 * 10 * 2.0])
    # The second is hidden in its own pixel by the third; in the empty row below nothing hides it.
    assert gradient[0, 1].tolist() == pytest.approx([-0.25 * 1000 * 4.0, 1000 * 4.0])
    assert gradient[0, 2, 1].item() == pytest.approx(0.9 * 1000 * 6.0, rel=1e-5)


def test_positions_without_ghosts_have_no_gradient() -> None:
    scene = make_scene(points=100)
    xyz = scene.points.xyz.clone().requires_grad_()
    for backend in ("reference", "cpu"):
        points = Points(xyz, scene.points.radius)
        features = scene.features.clone().requires_grad_()
        levels = adop.ops.draw(scene.camera, points, features, scene.config, backend=backend)  # type: ignore[arg-type]
        (gradient,) = torch.autograd.grad(levels.features[0].sum(), xyz, allow_unused=True)
        assert gradient is None or not gradient.any()


def test_operators_are_registered_right() -> None:
    scene = make_scene(views=2, points=80, harmonics=True)
    projection, rows = project(scene.camera, scene.points), scene.features
    background = [scene.background.reshape(1, 4, 1, 1).clone().requires_grad_()] * 3
    uv = projection.uv.clone().requires_grad_()
    points = ProjectedTensors(uv, projection.z, projection.radius_px, projection.visible)
    tensors = camera_tensors(scene.camera, scene.points.xyz)
    leaves = {name: getattr(tensors, name).clone().requires_grad_() for name in tensors._fields[:3]}
    camera, view = tensors._replace(**leaves), ViewSettings("opencv", 37, 29, 0.01)
    xyz, radius = scene.points.xyz.clone().requires_grad_(), scene.points.radius
    for ghosts, bilinear in ((scene.ghosts, False), (None, True)):
        settings = PyramidSettings(3, 0.01, 0.6, bilinear, harmonics=bilinear)
        seen = (projection.xyz, projection.centres) if bilinear else (None, None)
        features = (rows if bilinear else rows[:, :4]).detach().clone().requires_grad_()
        inputs = RasterizeInputs(points, features, background, ghosts, 37, 29, settings, *seen)
        torch.library.opcheck(rasterize_operator.registered, flatten(inputs))
        cloud = (radius, None, None, 256, 2 * 80)
        drawing = DrawInputs(xyz, features, background, ghosts, *cloud, camera, view, settings, seen[1])
        torch.library.opcheck(draw_operator.registered, flatten(drawing))


def test_draw_compiles_without_breaking_the_graph() -> None:
    scene = make_scene(views=2, points=200)
    names = list(scene.leaves())
    leaves = [leaf.clone().requires_grad_() for leaf in scene.leaves().values()]

    def loss(leaves: list[Tensor]) -> Tensor:
        s = scene.with_leaves(dict(zip(names, leaves, strict=True)))
        camera = s.camera
        view = Camera(
            "opencv", 37, 29, camera.intrinsics, camera.distortion, camera.world_to_camera, camera.crop
        )
        points = Points(s.points.xyz, s.points.radius)
        levels = adop.ops.draw(view, points, s.features, s.config, s.background, scene.ghosts)
        return sum(((image**2).sum() for image in levels.features), torch.zeros(()))

    expected = torch.autograd.grad(loss(leaves), leaves)
    compiled = torch.compile(loss, fullgraph=True, backend="aot_eager")
    got = torch.autograd.grad(compiled(leaves), leaves)
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_the_configured_share_of_points_are_ghosts() -> None:
    ghosts = sample_ghosts(RasterConfig(ghost_fraction=0.25), 2, 20000, torch.Generator().manual_seed(0))
    assert ghosts.shape == (2, 20000) and abs(float(ghosts.double().mean()) - 0.25) < 0.01


def test_wrong_input_is_named() -> None:
    projection = projection_of([[3.5, 2.5]], [1.0])
    with pytest.raises(ValueError, match=r"features: expected \[N=1, C\], got \[2, 4\]"):
        rasterize(projection, torch.ones(2, 4), 8, 8, RasterConfig())
    with pytest.raises(ValueError, match="size: expected 1 to 65535 pixels a side, got 70000x8"):
        rasterize(projection, torch.ones(1, 4), 70000, 8, RasterConfig())
    with pytest.raises(ValueError, match=r"background: expected \[C=4\], got \[3\]"):
        rasterize(projection, torch.ones(1, 4), 8, 8, RasterConfig(), torch.ones(3))
    with pytest.raises(ValueError, match=r"background\[1\]: expected \[1, 4, 4, 4\]"):
        pictures = [torch.ones(1, 4, 8, 8)] * 2
        rasterize(projection, torch.ones(1, 4), 8, 8, RasterConfig(levels=2), pictures)
    with pytest.raises(
        ValueError, match=r"features: expected torch\.float32, as the points are, got torch\.float16"
    ):
        rasterize(projection, torch.ones(1, 4).half(), 8, 8, RasterConfig())
    with pytest.raises(ValueError, match="ghosts: expected on cpu, where the points are, got meta"):
        ghosts = torch.ones(1, 1, dtype=torch.bool, device="meta")
        rasterize(projection, torch.ones(1, 4), 8, 8, RasterConfig(), None, ghosts)
    with pytest.raises(ValueError, match=r"ghosts: expected \[B=1, N=1\] bool"):
        rasterize(projection, torch.ones(1, 4), 8, 8, RasterConfig(), None, torch.ones(1, 1))


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_points_that_only_claim_to_be_visible_are_not_drawn(backend):
    """A caller may have moved a projection: kernels must not write outside the image."""
    uv = torch.tensor([[[-0.5, 1.0], [4.0, 1.0], [1.0, -3.0], [1.0, 1e9], [float("nan"), 1.0], [1.5, 1.5]]])
    count = uv.shape[1]
    projection = Projection(
        uv, torch.ones(1, count), torch.full((1, count), 9.0), torch.ones(1, count, dtype=torch.bool)
    )
    levels = rasterize(projection, torch.ones(count, 2), 4, 3, RasterConfig(levels=2), backend=backend)
    assert [float(weight.sum()) for weight in levels.weight] == [1.0, 1.0]
    assert levels.features[0][0, :, 1, 1].tolist() == [1.0, 1.0]
