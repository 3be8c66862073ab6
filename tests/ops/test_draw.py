"""draw on a CPU, in one pass, against plain torch: every output and every gradient."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from hypothesis import given, settings

from adop.geometry.camera import Camera
from adop.ops import HARMONIC_COEFFICIENTS, Levels, Points, RasterConfig, draw, make_blocks
from support.compare import assert_same_gradients, assert_same_pictures
from support.strategies import LENSES, Scene, draw_with_gradients, make_scene, scenes

IDENTITY = torch.eye(4)[None]


def check(scene: Scene, tolerance: float = 2e-4) -> None:
    """Compare the kernels with plain torch, with and without a block table."""
    expected, oracle = draw_with_gradients(scene, "reference")
    blocks = make_blocks(scene.points.xyz, scene.points.radius)
    culled = Scene(
        scene.camera,
        Points(scene.points.xyz, scene.points.radius, scene.points.normals, blocks),
        scene.features,
        scene.background,
        scene.ghosts,
        scene.config,
    )
    for variant in (scene, culled):
        levels, gradients = draw_with_gradients(variant, "cpu")
        for name in ("features", "weight", "depth"):
            assert_same_pictures(getattr(levels, name), getattr(expected, name))
        assert_same_gradients(gradients, oracle, tolerance)


@pytest.mark.parametrize("model", sorted(LENSES))
@pytest.mark.parametrize("normals", [False, True])
def test_three_cameras_four_levels_odd_size(model: str, normals: bool) -> None:
    check(make_scene(model, views=3, points=3000, width=101, height=67, normals=normals))


@pytest.mark.parametrize("channels", [3, 4, 5, 8])
def test_colours_that_depend_on_the_direction(channels: int) -> None:
    scene = make_scene(views=3, points=3000, width=101, height=67, channels=channels, harmonics=True)
    check(scene)
    check(replace(scene, config=replace(scene.config, position_gradient="bilinear")))


def test_many_layers_of_which_most_are_hidden() -> None:
    """Thousands of hits a band, so that those in front are looked for in advance (kernels/bands.h)."""
    scene = make_scene(points=30_000, width=24, height=16, levels=2, harmonics=True)
    scene = replace(scene, config=replace(scene.config, radius_threshold=0.0))
    check(scene)
    levels = draw(scene.camera, scene.points, scene.features, scene.config, scene.background)
    assert float(levels.weight[0].sum()) < 1000, "few of the points are in front"


def test_a_harmonic_adds_its_coefficient_times_the_direction() -> None:
    camera, points = one_view([[0.3, 0.0, 0.4]])  # the direction is (0.6, 0, 0.8)
    row = torch.zeros(1, 4 + HARMONIC_COEFFICIENTS)
    row[0, :4] = torch.tensor([1.0, 2.0, 3.0, 4.0])
    row[0, 4:] = torch.tensor([1.0, 0.0, 0.0, 0.0, 5.0, 0.0, 1.0, 2.0, 3.0])
    levels = draw_both(camera, points, row, RasterConfig(levels=1, harmonics=True))
    seen = levels.features[0][0][:, levels.weight[0][0, 0] > 0][:, 0]
    torch.testing.assert_close(seen, torch.tensor([1.6, 2.0, 3 + 0.6 + 2.4, 4.0]))


def test_harmonics_need_three_channels() -> None:
    camera, points = one_view([[0.0, 0.0, 1.0]])
    with pytest.raises(ValueError, match="at least 3 channels and 9 coefficients, got 11"):
        draw(camera, points, torch.zeros(1, 11), RasterConfig(harmonics=True))


@pytest.mark.parametrize("model", sorted(LENSES))
@pytest.mark.parametrize("channels", [4, 5])
def test_bilinear_footprints(model: str, channels: int) -> None:
    scene = make_scene(model, views=3, points=3000, width=101, height=67, channels=channels)
    bilinear = replace(scene, config=replace(scene.config, position_gradient="bilinear"))
    check(bilinear)
    _, gradients = draw_with_gradients(bilinear, "cpu", ghosts=False)
    _, oracle = draw_with_gradients(bilinear, "reference", ghosts=False)
    assert_same_gradients(gradients, oracle)
    assert float((gradients["xyz"] != 0).any(1).float().mean()) > 0.3, "drawn points are moved too"


def test_more_channels_and_levels_than_usual() -> None:
    check(make_scene(points=2000, width=77, height=90, channels=11, levels=7))


def test_double_agrees_to_double() -> None:
    scene = make_scene(views=2, points=1000, dtype=torch.float64)
    check(scene, tolerance=1e-9)


@settings(max_examples=40, deadline=None)
@given(scenes())
def test_any_scene(scene: Scene) -> None:
    # With few points the rounding of single sums counts, so the bound on gradients is looser.
    check(scene, tolerance=2e-3)


def one_view(
    xyz: list[list[float]], size: tuple[int, int] = (16, 12), levels: int = 3
) -> tuple[Camera, Points]:
    """Return an undistorted camera of focal length 10 at the origin, and points of a large radius."""
    intrinsics = torch.tensor([[10.0, 10.0, size[0] / 2, size[1] / 2]])
    camera = Camera("opencv", *size, intrinsics, torch.zeros(1, 8), IDENTITY)
    points = torch.tensor(xyz, dtype=torch.float32).reshape(-1, 3)
    return camera, Points(points, torch.full((len(points),), 100.0))


def draw_both(camera: Camera, points: Points, features: torch.Tensor, config: RasterConfig) -> Levels:
    """Draw by the kernels and compare the levels with plain torch."""
    got = draw(camera, points, features, config, backend="cpu")
    expected = draw(camera, points, features, config, backend="reference")
    for name in ("features", "weight", "depth"):
        assert_same_pictures(getattr(got, name), getattr(expected, name))
    return got


def test_no_points_show_the_background() -> None:
    camera, points = one_view([])
    levels = draw(
        camera, points, torch.zeros(0, 4), RasterConfig(levels=3), torch.tensor([1.0, 2.0, 3.0, 4.0])
    )
    for image, weight, depth in zip(levels.features, levels.weight, levels.depth, strict=True):
        assert (image[0, :, 0, 0] == torch.tensor([1.0, 2.0, 3.0, 4.0])).all() and (
            image == image[:, :, :1, :1]
        ).all()
        assert (weight == 0).all() and depth.isinf().all()


def test_one_point_lands_where_it_should() -> None:
    camera, points = one_view([[0.25, -0.15, 1.0]])  # u = 10.5, v = 4.5
    levels = draw_both(camera, points, torch.tensor([[1.0, 2.0, 3.0, 4.0]]), RasterConfig(levels=3))
    for level, (image, weight) in enumerate(zip(levels.features, levels.weight, strict=True)):
        assert weight[0, 0].nonzero().tolist() == [[4 >> level, 10 >> level]]
        assert image[0, :, 4 >> level, 10 >> level].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_points_on_pixel_edges_belong_to_the_pixel_right_and_below() -> None:
    # u = 0, 16 (outside), 5 exactly; v = 0, 12 (outside), 6 exactly
    xyz = [[-0.8, 0.0, 1.0], [0.8, 0.0, 1.0], [-0.3, 0.0, 1.0], [0.0, -0.6, 1.0], [0.0, 0.6, 1.0]]
    camera, points = one_view(xyz)
    levels = draw_both(camera, points, torch.ones(5, 4), RasterConfig(levels=3))
    assert levels.weight[0][0, 0].nonzero().tolist() == [[0, 8], [6, 0], [6, 5]]


def test_all_points_in_one_pixel_average_those_in_front() -> None:
    z = 1 + torch.arange(100) / 1000.0  # eleven lie within 1 % of the nearest
    camera, points = one_view([[0.05 * float(d), 0.05 * float(d), float(d)] for d in z])
    features = torch.arange(100.0)[:, None].repeat(1, 3)
    levels = draw_both(camera, points, features, RasterConfig(levels=3))
    count = int((z <= 1.01).sum())
    assert levels.weight[0].sum() == count
    assert levels.features[2].amax() == pytest.approx((count - 1) / 2)


def test_points_behind_the_camera_or_nearer_than_near_are_not_drawn() -> None:
    camera, points = one_view([[0.0, 0.0, -1.0], [0.0, 0.0, 0.0], [0.0, 0.0, 0.005]])
    levels = draw_both(camera, points, torch.ones(3, 4), RasterConfig(levels=3, near=0.01))
    assert all((weight == 0).all() for weight in levels.weight)


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("column", [0, 1, 2])
def test_points_that_are_not_finite_are_skipped(bad: float, column: int) -> None:
    camera, points = one_view([[0.01, 0.01, 1.0], [0.01, 0.01, 1.0]])
    points.xyz[0, column] = bad
    blocks = make_blocks(points.xyz, points.radius)
    levels = draw_both(camera, points, torch.ones(2, 4), RasterConfig(levels=3))
    assert levels.weight[0].sum() == 1
    culled = draw(
        camera, Points(points.xyz, points.radius, None, blocks), torch.ones(2, 4), RasterConfig(levels=3)
    )
    assert culled.weight[0].sum() == 1


@pytest.mark.parametrize("model", sorted(LENSES))
def test_same_bits_from_any_number_of_threads(model: str) -> None:
    scene = make_scene(model, views=2, points=20000, width=200, height=150)
    before = torch.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            levels, gradients = draw_with_gradients(scene, "cpu")
            results.append([*levels.features, *levels.weight, *levels.depth, *gradients.values()])
    finally:
        torch.set_num_threads(before)
    for other in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], other, strict=True))


@pytest.mark.parametrize("model", sorted(LENSES))
def test_culling_changes_nothing(model: str) -> None:
    """Small sorted blocks, seen through crops of all parts of the image and far outside it."""
    scene = make_scene(model, views=1, points=30000, width=240, height=180, seed=3)
    xyz, radius = scene.points.xyz, scene.points.radius
    order = (xyz * 5).floor().mul(torch.tensor([1.0, 100.0, 10000.0])).sum(1).argsort(stable=True)
    xyz, radius, features = xyz[order], radius[order].clone(), scene.features[order]
    for first in range(0, len(xyz), 64):
        radius[first : first + 64] = radius[first : first + 64].sort(descending=True).values
    blocks = make_blocks(xyz, radius, size=64)
    assert blocks.falling.all()
    for zoom, x, y in (
        (1.0, 0, 0),
        (4.0, 300, 200),
        (4.0, 0, 500),
        (0.1, 0, 0),
        (3.0, -100, -100),
        (2.0, 900, 0),
    ):
        camera = scene.camera.cropped(zoom, float(x), float(y), 90, 70)
        plain = draw(camera, Points(xyz, radius), features, scene.config)
        culled = draw(camera, Points(xyz, radius, None, blocks), features, scene.config)
        for name in ("features", "weight", "depth"):
            pairs = zip(getattr(plain, name), getattr(culled, name), strict=True)
            assert all(torch.equal(a, b) for a, b in pairs)


def test_permuting_points_changes_nothing() -> None:
    scene = make_scene(points=2000)
    order = torch.randperm(2000, generator=torch.Generator().manual_seed(0))
    a = draw(scene.camera, scene.points, scene.features, scene.config)
    shuffled = Points(scene.points.xyz[order], scene.points.radius[order])
    b = draw(scene.camera, shuffled, scene.features[order], scene.config)
    assert all(torch.equal(x, y) for x, y in zip(a.weight + a.depth, b.weight + b.depth, strict=True))
    assert_same_pictures(a.features, b.features)


def test_an_aligned_crop_is_a_window_of_the_whole() -> None:
    scene = make_scene(points=4000, width=64, height=64)
    whole = draw(scene.camera, scene.points, scene.features, scene.config)
    window = scene.camera.cropped(1.0, 16.0, 8.0, 32, 40)
    part = draw(window, scene.points, scene.features, scene.config)
    for level in range(4):
        y, x = 8 >> level, 16 >> level
        rows, columns = 40 >> level, 32 >> level
        same = whole.features[level][:, :, y : y + rows, x : x + columns] - part.features[level]
        assert same.abs().max() < 1e-5


def test_without_a_radius_threshold_coarse_depth_is_the_minimum_of_the_finer_pixels() -> None:
    scene = make_scene(points=4000, width=63, height=41)
    config = RasterConfig(radius_threshold=0.0)
    depth = draw(scene.camera, scene.points, scene.features, config).depth
    for fine, coarse in pairwise(depth):
        odd = (fine.shape[3] % 2, fine.shape[2] % 2)
        padded = torch.nn.functional.pad(fine, (0, odd[0], 0, odd[1]), value=torch.inf)
        assert torch.equal(-torch.nn.functional.max_pool2d(-padded, 2), coarse)
