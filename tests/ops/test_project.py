"""project: kernels against plain torch, gradients against finite differences, the registered operator."""

import pytest
import torch

from adop.backend.operator import flatten
from adop.geometry.camera import Camera
from adop.ops import Points, make_blocks, project
from adop.ops.projection import (
    LensInputs,
    ProjectInputs,
    ViewSettings,
    bound_lens,
    camera_tensors,
    project_operator,
)
from support.compare import relative_error
from support.oracle import project_as_the_oracle
from support.strategies import LENSES, make_scene

BACKENDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("model", sorted(LENSES))
def test_values_and_gradients_agree_with_plain_torch(model: str, backend: str) -> None:
    scene = make_scene(model, views=3, points=2000, width=101, height=67, normals=True)
    project_as_the_oracle(scene, backend)


@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("model", sorted(LENSES))
def test_gradients_are_exact(model: str, backend: str) -> None:
    scene = make_scene(model, views=2, points=7, dtype=torch.float64)
    camera = scene.camera

    def run(
        xyz: torch.Tensor, pose: torch.Tensor, k: torch.Tensor, d: torch.Tensor
    ) -> tuple[torch.Tensor, ...]:
        moved = Camera(model, camera.width, camera.height, k, d, pose, camera.crop)  # type: ignore[arg-type]
        p = project(moved, Points(xyz, scene.points.radius), backend=backend)  # type: ignore[arg-type]
        return p.uv, p.z

    leaves = (scene.points.xyz, camera.world_to_camera, camera.intrinsics, camera.distortion)
    leaves = tuple(leaf.clone().requires_grad_() for leaf in leaves)
    assert run(*leaves)[1].count_nonzero() > 4
    assert torch.autograd.gradcheck(run, leaves, atol=1e-5)


@pytest.mark.parametrize("model", ["fisheye", "ocam"])
def test_the_optical_axis_has_a_gradient(model: str) -> None:
    lens = torch.tensor([LENSES[model]], dtype=torch.float64)
    if model == "ocam":
        lens[0, 4:] *= 10
    for backend in ("reference", "cpu"):
        xyz = torch.tensor([[0.0, 0.0, 1.0], [1e-7, 0.0, 1.0]], dtype=torch.float64, requires_grad=True)
        intrinsics = torch.tensor([[10.0, 10.0, 8.0, 8.0]], dtype=torch.float64)
        camera = Camera(model, 16, 16, intrinsics, lens, torch.eye(4, dtype=torch.float64)[None])  # type: ignore[arg-type]
        p = project(camera, Points(xyz, torch.ones(2, dtype=torch.float64)), backend=backend)  # type: ignore[arg-type]
        assert p.visible.all()
        (gradient,) = torch.autograd.grad(p.uv.sum(), xyz)
        assert torch.isfinite(gradient).all()


def test_points_that_face_away_or_lie_beyond_the_lens_are_invisible() -> None:
    intrinsics = torch.tensor([[10.0, 10.0, 500.0, 500.0]])
    lens = torch.tensor([[-0.3, *[0.0] * 7]])  # turns back at |xy/z| = 1.054
    camera = Camera("opencv", 1000, 1000, intrinsics, lens, torch.eye(4)[None])
    xyz = torch.tensor([[0.0, 0.0, 1.0], [1.04, 0.0, 1.0], [1.06, 0.0, 1.0], [0.0, 0.0, 1.0]])
    normals = torch.tensor([[0.0, 0.0, -1.0], [0.0, 0.0, -1.0], [0.0, 0.0, -1.0], [0.0, 0.0, 1.0]])
    for backend in ("reference", "cpu"):
        p = project(camera, Points(xyz, torch.ones(4), normals), backend=backend)  # type: ignore[arg-type]
        assert p.visible.tolist() == [[True, True, False, False]]
        assert (p.uv[~p.visible] == 0).all() and (p.z[~p.visible] == 0).all()


def test_blocks_hide_only_what_is_invisible() -> None:
    scene = make_scene(views=2, points=5000, width=90, height=60)
    points = scene.points
    culled = Points(points.xyz, points.radius, None, make_blocks(points.xyz, points.radius, 32))
    a, b = project(scene.camera, points), project(scene.camera, culled)
    assert torch.equal(a.visible, b.visible) and torch.equal(a.uv, b.uv)


def test_float_pose_of_double_points_and_back() -> None:
    scene = make_scene(points=500)
    pose = scene.camera.world_to_camera.double().requires_grad_()
    camera = Camera(
        "opencv", 37, 29, scene.camera.intrinsics, scene.camera.distortion, pose, scene.camera.crop
    )
    p = project(camera, scene.points)
    p.uv.sum().backward()
    assert p.uv.dtype == torch.float32 and pose.grad is not None and pose.grad.dtype == torch.float64
    q = project(scene.camera, scene.points)
    assert relative_error(p.uv, q.uv) < 1e-6


def test_operator_is_registered_right() -> None:
    scene = make_scene(views=2, points=50)
    camera = camera_tensors(scene.camera, scene.points.xyz)
    leaves = [leaf.requires_grad_() for leaf in camera[:3]]
    xyz, view = scene.points.xyz.clone().requires_grad_(), ViewSettings("opencv", 37, 29, 0.01)
    tensors = camera._replace(world_to_camera=leaves[0], intrinsics=leaves[1], distortion=leaves[2])
    inputs = ProjectInputs(xyz, scene.points.radius, None, None, 256, tensors, view)
    torch.library.opcheck(project_operator.registered, flatten(inputs))
    lens = [tensor.detach() for tensor in camera[1:4]]
    torch.library.opcheck(bound_lens.registered, flatten(LensInputs(*lens, "opencv", 37, 29)))


def test_wrong_input_is_named() -> None:
    scene = make_scene(points=5)
    with pytest.raises(ValueError, match=r"radius: expected \[N=5\], got \[4\]"):
        Points(scene.points.xyz, scene.points.radius[:4])
    with pytest.raises(ValueError, match="the points are on cpu"):
        project(scene.camera, scene.points, backend="cuda")
