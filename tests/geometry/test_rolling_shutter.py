"""Rolling shutter: by hand, the kernels against the oracle, and unprojection against projection."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch

from adop.geometry.camera import Camera
from adop.geometry.rolling_shutter import apply_motion, undo_motion
from adop.ops import Levels, Points, make_blocks, project
from support.edge_cases import CASES, draw_as_the_oracle, scene_of
from support.oracle import project_as_the_oracle
from support.strategies import LENSES, Scene, draw_with_gradients, keep_off_edges, make_camera, make_scene

BACKENDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
MOTION = [0.08, -0.05, 0.06, 0.02, -0.03, 0.025]  # scene units and radians; the scene is 3 units away


def moving(camera: Camera, motion: list[float] = MOTION) -> Camera:
    """Return the cameras with a motion, whose sign is reversed in every other view."""
    sign = (1 - 2 * (torch.arange(len(camera)) % 2)).to(camera.crop)
    return replace(camera, motion=sign[:, None] * torch.tensor(motion, dtype=camera.crop.dtype))


def moving_scene(model: str, dtype: torch.dtype = torch.float32, normals: bool = True) -> Scene:
    scene = make_scene(
        model, views=3, points=3000, width=101, height=67, normals=normals, dtype=torch.float64
    )
    camera = moving(scene.camera)
    xyz = keep_off_edges(camera, scene.points.xyz)[:2000]
    facing = scene.points.normals
    points = Points(
        xyz.to(dtype),
        scene.points.radius[: len(xyz)].to(dtype),
        None if facing is None else facing[: len(xyz)].to(dtype),
    )
    features, ghosts = scene.features[: len(xyz)].to(dtype), scene.ghosts[:, : len(xyz)]
    return Scene(camera.to(dtype=dtype), points, features, scene.background.to(dtype), ghosts, scene.config)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_by_hand(backend: str) -> None:
    """A point at row 75 of 100 is seen a quarter of the motion after the middle row."""
    whole = Camera.from_intrinsics(200, 100, focal=100.0)
    points = Points(torch.tensor([[0.5, 0.25, 1.0], [0.5, 0.0, 1.0]]), torch.ones(2))
    shifted = replace(whole, motion=torch.tensor([[0.4, 0.0, 0.0, 0.0, 0.0, 0.0]]))
    turned = replace(whole, motion=torch.tensor([[0.0, 0.0, 0.0, 0.0, 0.0, 0.2]]))
    nearer = replace(whole, motion=torch.tensor([[0.0, 0.0, 1.0, 0.0, 0.0, 0.0]]))
    expected = [
        (shifted, [[160.0, 75.0], [150.0, 50.0]]),
        (turned, [[148.75, 77.5], [150.0, 50.0]]),
        (nearer, [[140.0, 70.0], [150.0, 50.0]]),
        (
            shifted.cropped(0.5, 10.0, 5.0, 90, 45),
            [[70.0, 32.5], [65.0, 20.0]],
        ),  # times are of the full photo
    ]
    for camera, uv in expected:
        seen = project(camera, points, backend=backend)  # type: ignore[arg-type]
        torch.testing.assert_close(seen.uv, torch.tensor([uv]))
        assert seen.visible.all()


@pytest.mark.parametrize("backend", ["reference", "cpu"])
def test_time_is_clamped_above_and_below_the_photo(backend: str) -> None:
    camera = replace(
        Camera.from_intrinsics(200, 100, focal=100.0),
        motion=torch.tensor([[0.0, 0.4, 0.0, 0.0, 0.0, 0.0]]),
    )
    # A camera at rest would see the first two points at rows 110 and -10, where the time is clamped to 1/2 and -1/2.
    xyz = torch.tensor([[0.0, 0.6, 1.0], [0.0, -0.6, 1.0], [0.0, 0.2, 1.0]])
    seen = project(replace(camera, motion=-camera.motion), Points(xyz, torch.ones(3)), backend=backend)  # type: ignore[arg-type, operator]
    torch.testing.assert_close(seen.uv[0, :, 1], torch.tensor([90.0, 10.0, 62.0]))


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("model", sorted(LENSES))
def test_projection_and_gradients_agree_with_the_oracle(model: str, backend: str) -> None:
    scene = moving_scene(model)
    q = project_as_the_oracle(scene, backend)
    still = project(replace(scene.camera, motion=None), scene.points, backend="reference")
    both = still.visible & q.visible
    assert (still.uv - q.uv)[both].norm(dim=1).median() > 0.3


@pytest.mark.parametrize("bilinear", [False, True])
@pytest.mark.parametrize("model", sorted(LENSES))
def test_draw_agrees_with_the_oracle(model: str, bilinear: bool) -> None:
    scene = moving_scene(model)
    config = replace(scene.config, position_gradient="bilinear" if bilinear else "ghost")
    scene = replace(scene, config=config)
    _, oracle = draw_as_the_oracle(scene)
    assert oracle["world_to_camera"].abs().max() > 0


@pytest.mark.parametrize("model", sorted(LENSES))
@pytest.mark.parametrize("case", CASES)
def test_edge_cases(case: Callable[[Camera], torch.Tensor], model: str) -> None:
    """Empty views, single points, crowded pixels, points behind the camera and points that are not finite."""
    scene = scene_of(case, model, 3, 0.4)
    scene = replace(scene, camera=moving(scene.camera))
    draw_as_the_oracle(scene)


@pytest.mark.parametrize("scale", [1.0, 20.0])
@pytest.mark.parametrize("model", sorted(LENSES))
def test_culling_blocks_changes_nothing(model: str, scale: float) -> None:
    scene = make_scene(model, views=4, points=20000, width=90, height=60)
    camera = moving(scene.camera, [scale * value for value in MOTION])
    order = scene.points.xyz[:, 0].mul(4).floor() * 1e4 + scene.points.xyz[:, 1].mul(4).floor() * 1e2
    # Neighbours come together.
    xyz = scene.points.xyz[(order + scene.points.xyz[:, 2].mul(4).floor()).argsort()]
    culled = Points(xyz, scene.points.radius, None, make_blocks(xyz, scene.points.radius, 16))
    a, b = project(camera, Points(xyz, scene.points.radius)), project(camera, culled)
    assert torch.equal(a.visible, b.visible) and torch.equal(a.uv, b.uv)
    assert a.visible.any()


@pytest.mark.parametrize("model", sorted(LENSES))
def test_a_motion_of_zero_changes_no_bit(model: str) -> None:
    scene = make_scene(model, views=2, points=2000, width=101, height=67, normals=True)
    blocks = make_blocks(scene.points.xyz, scene.points.radius, 16)
    scene = replace(scene, points=replace(scene.points, blocks=blocks))
    zero = replace(scene, camera=moving(scene.camera, [0.0] * 6))
    for backend in ("reference", "cpu"):
        a, b = (project(s.camera, s.points, backend=backend) for s in (scene, zero))  # type: ignore[arg-type]
        assert all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("uv", "z", "radius_px", "visible"))
        first, second = (draw_with_gradients(s, backend) for s in (scene, zero))
        same_levels(first[0], second[0])
        assert all(torch.equal(first[1][name], second[1][name]) for name in first[1])


def same_levels(a: Levels, b: Levels) -> None:
    for name in ("features", "weight", "depth"):
        assert all(torch.equal(x, y) for x, y in zip(getattr(a, name), getattr(b, name), strict=True))


@pytest.mark.parametrize("model", sorted(LENSES))
def test_the_gradient_of_the_oracle_to_the_motion_is_exact(model: str) -> None:
    scene = make_scene(model, views=2, points=7, dtype=torch.float64)
    camera = moving(scene.camera)
    assert camera.motion is not None

    def run(motion: torch.Tensor) -> tuple[torch.Tensor, ...]:
        p = project(replace(camera, motion=motion), scene.points, backend="reference")
        return p.uv, p.z

    assert torch.autograd.gradcheck(run, (camera.motion.requires_grad_(),), atol=1e-5)


@pytest.mark.parametrize("model", sorted(LENSES))
def test_unproject_is_inverse_to_project(model: str) -> None:
    """Within 0.001 px, in a photo of 1000 x 800 that the motion shears by about 30 px."""
    camera = moving(make_camera(model, 2, 1000, 800, torch.float64)).cropped(0.8, 30.0, 20.0, 700, 600)
    generator = torch.Generator().manual_seed(0)
    uv = torch.rand(2, 500, 2, generator=generator, dtype=torch.float64) * torch.tensor([700.0, 600.0])
    z = 2 + 2 * torch.rand(2, 500, generator=generator, dtype=torch.float64)
    xyz = camera.unproject(uv, z)
    for view in range(2):
        points = Points(xyz[view], torch.ones(500, dtype=torch.float64))
        seen = project(camera[view], points, backend="reference")
        found = seen.visible[0] & (uv[view] > 5).all(1)
        assert found.double().mean() > 0.8
        assert float((seen.uv[0] - uv[view])[found].norm(dim=1).max()) < 1e-3
        torch.testing.assert_close(seen.z[0, found], z[view, found], rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("model", sorted(LENSES))
def test_points_far_along_a_ray_are_seen_at_its_pixel(model: str) -> None:
    """For the rays of the pixels and for the grid of rays that the kernels interpolate."""
    camera = moving(make_camera(model, 1, 200, 160, torch.float64))
    grid = camera.ray_grid(21)
    sizes = [(rays.shape[2], rays.shape[3]) for rays in (camera.rays(2), grid)]
    pixels = [torch.arange(count) * 4.0 + 2 for count in sizes[0]]
    corners = [torch.linspace(0, side, count) for side, count in zip((160, 200), sizes[1], strict=True)]
    turned = torch.einsum("ji,jrs->irs", camera.world_to_camera[0, :3, :3], grid[0])
    for rays, (y, x) in ((camera.rays(2)[0], pixels), (turned, corners)):
        far = camera.centre() + 1e6 * rays.flatten(1).T
        seen = project(camera, Points(far, torch.ones(len(far), dtype=torch.float64)), backend="reference")
        rows, columns = torch.meshgrid(y, x, indexing="ij")
        place = torch.stack((columns, rows), -1).reshape(-1, 2)
        found = seen.visible[0]
        assert found.double().mean() > 0.7
        assert float((seen.uv[0] - place)[found].norm(dim=1).max()) < 0.02


def test_undo_motion_is_the_inverse_of_apply_motion() -> None:
    generator = torch.Generator().manual_seed(0)
    points, motion = (torch.randn(9, n, generator=generator, dtype=torch.float64) for n in (3, 6))
    time = torch.rand(9, generator=generator, dtype=torch.float64) - 0.5
    torch.testing.assert_close(undo_motion(apply_motion(points, motion, time), motion, time), points)


def test_crops_and_selections_keep_the_motion_and_the_height_of_the_photo() -> None:
    camera = moving(make_camera("opencv", 2, 100, 80))
    for other in (camera.scaled(0.5), camera.reduced(4), camera.cropped(2.0, 3.0, 5.0, 10, 10), camera.to()):
        assert other.photo_height.tolist() == [80.0, 80.0]
        assert other.motion is camera.motion
    assert camera.motion is not None
    one = camera[1].motion
    assert one is not None and torch.equal(one, camera.motion[1:])
    with pytest.raises(ValueError, match=r"motion: expected \[2, 6\]"):
        replace(camera, motion=torch.zeros(2, 3))
