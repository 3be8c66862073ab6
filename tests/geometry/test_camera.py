"""Lens models against OpenCV and COLMAP; projection, unprojection and crops of cameras."""

import math

import cv2
import numpy as np
import pytest
import torch

from adop.geometry.camera import Camera, level_size
from adop.geometry.lens_model import monotonic_radius, project_lens
from support.strategies import LENSES, make_camera


def some_points(count: int = 200) -> torch.Tensor:
    """Return points [N, 3] in front of a camera, depths 1 to 2."""
    generator = torch.Generator().manual_seed(0)
    xy = torch.rand(count, 2, generator=generator, dtype=torch.float64) * 1.6 - 0.8
    return torch.cat((xy, torch.rand(count, 1, generator=generator, dtype=torch.float64) + 1.0), 1)


def project(model: str, points: torch.Tensor, intrinsics: list[float], lens: list[float]) -> np.ndarray:
    """Return the pixels [N, 2] of points through one lens."""
    size = (len(points), -1)
    k = torch.tensor(intrinsics, dtype=torch.float64).expand(*size)
    return project_lens(model, points, k, torch.tensor(lens, dtype=torch.float64).expand(*size))[0].numpy()


def test_the_opencv_model_is_opencvs() -> None:
    points, k = some_points(), [500.0, 510.0, 320.0, 240.0]
    matrix = np.array([[k[0], 0, k[2]], [0, k[1], k[3]], [0, 0, 1]])
    expected, _ = cv2.projectPoints(
        points.numpy(), np.zeros(3), np.zeros(3), matrix, np.array(LENSES["opencv"])
    )
    np.testing.assert_allclose(project("opencv", points, k, LENSES["opencv"]), expected[:, 0], atol=1e-9)


def test_the_fisheye_model_is_opencvs() -> None:
    points, k = some_points(), [500.0, 510.0, 320.0, 240.0]
    matrix = np.array([[k[0], 0, k[2]], [0, k[1], k[3]], [0, 0, 1]])
    expected, _ = cv2.fisheye.projectPoints(
        points[None].numpy(), np.zeros((3, 1)), np.zeros((3, 1)), matrix, np.array(LENSES["fisheye"])
    )
    np.testing.assert_allclose(project("fisheye", points, k, LENSES["fisheye"]), expected[0], atol=1e-9)


@pytest.mark.parametrize(
    ("name", "params", "model", "lens"),
    [
        ("SIMPLE_PINHOLE", [500, 320, 240], "opencv", [0.0] * 8),
        ("PINHOLE", [500, 510, 320, 240], "opencv", [0.0] * 8),
        ("SIMPLE_RADIAL", [500, 320, 240, -0.1], "opencv", [-0.1, *[0.0] * 7]),
        ("RADIAL", [500, 320, 240, -0.1, 0.02], "opencv", [-0.1, 0.02, *[0.0] * 6]),
        (
            "OPENCV",
            [500, 510, 320, 240, -0.1, 0.02, 0.001, -0.002],
            "opencv",
            [-0.1, 0.02, 0.001, -0.002, *[0.0] * 4],
        ),
        ("FULL_OPENCV", [500, 510, 320, 240, *LENSES["opencv"]], "opencv", LENSES["opencv"]),
        ("OPENCV_FISHEYE", [500, 510, 320, 240, *LENSES["fisheye"]], "fisheye", LENSES["fisheye"]),
    ],
)
def test_the_models_agree_with_pycolmap(
    name: str, params: list[float], model: str, lens: list[float]
) -> None:
    pycolmap = pytest.importorskip("pycolmap")
    camera = pycolmap.Camera(model=name, width=640, height=480, params=params)
    points = some_points()
    expected = np.array([camera.img_from_cam(point) for point in points.numpy()])
    k = [params[0], params[0], *params[1:3]] if name.startswith(("SIMPLE", "RADIAL")) else params[:4]
    np.testing.assert_allclose(project(model, points, [float(v) for v in k], lens), expected, atol=1e-9)


def test_the_ocam_model_by_hand() -> None:
    lens = [1.01, 0.002, -0.003, 0.4, 2.0, 3.0, 0.5, *[0.0] * 13]
    point = torch.tensor([[0.3, -0.4, 2.0]], dtype=torch.float64)
    theta = math.atan(-2.0 / 0.5)
    rho = 2.0 + 3.0 * theta + 0.5 * theta**2
    m1, m2 = -0.4 * rho / 0.5, 0.3 * rho / 0.5
    expected = [-0.003 * m1 + m2 + 320.0, 1.01 * m1 + 0.002 * m2 + 240.0]
    np.testing.assert_allclose(
        project("ocam", point, [1.0, 1.0, 320.0, 240.0], lens)[0], expected, atol=1e-12
    )


@pytest.mark.parametrize("model", sorted(LENSES))
def test_unproject_and_rays_are_inverse_to_projection(model: str) -> None:
    camera = make_camera(model, 2, 64, 48, torch.float64)
    generator = torch.Generator().manual_seed(0)
    uv = torch.rand(2, 500, 2, generator=generator, dtype=torch.float64) * torch.tensor([64.0, 48.0])
    z = torch.rand(2, 500, generator=generator, dtype=torch.float64) + 1
    world = camera.unproject(uv, z)
    local = world @ camera.world_to_camera[:, :3, :3].transpose(1, 2) + camera.world_to_camera[:, None, :3, 3]
    full, depth, _ = project_lens(model, local, camera.intrinsics[:, None], camera.distortion[:, None])
    torch.testing.assert_close(
        camera.crop[:, None, :1] * full - camera.crop[:, None, 1:], uv, atol=1e-6, rtol=0
    )
    torch.testing.assert_close(depth, z)
    rays = camera.rays(1)
    assert rays.shape == (2, 3, 24, 32)
    torch.testing.assert_close(rays.norm(dim=1), torch.ones(2, 24, 32, dtype=torch.float64))
    at = torch.tensor([[2 * 7 + 1.0, 2 * 5 + 1.0]], dtype=torch.float64).expand(2, 1, 2)
    away = camera.unproject(at, torch.ones(2, 1, dtype=torch.float64))[:, 0] - camera.centre()
    torch.testing.assert_close(torch.nn.functional.normalize(away, dim=1), rays[:, :, 5, 7])


def test_depth_is_camera_z_or_distance_depending_on_the_model() -> None:
    behind = torch.tensor([[1.0, 0.2, -0.1]], dtype=torch.float64)  # beyond 90 degrees
    for model, expected in (("opencv", -0.1), ("fisheye", math.sqrt(1.05)), ("ocam", math.sqrt(1.05))):
        lens = torch.tensor([LENSES[model]], dtype=torch.float64)
        _, z, _ = project_lens(model, behind, torch.ones(1, 4, dtype=torch.float64), lens)
        assert float(z) == pytest.approx(expected)


def test_crops_compose() -> None:
    camera = make_camera("opencv", 1, 64, 48, torch.float64)
    both = camera.cropped(2.0, 5.0, 6.0, 40, 30).cropped(0.5, 1.0, -2.0, 20, 15)
    uv = torch.tensor([[[10.0, 8.0]]], dtype=torch.float64)
    z = torch.ones(1, 1, dtype=torch.float64)
    both_uv = 0.5 * (2.0 * uv - torch.tensor([5.0, 6.0])) - torch.tensor([1.0, -2.0])
    torch.testing.assert_close(both.unproject(both_uv, z), camera.unproject(uv, z))
    half = camera.scaled(0.5)
    assert (half.width, half.height) == (32, 24)
    torch.testing.assert_close(half.unproject(uv / 2, z), camera.unproject(uv, z))


def test_monotonic_radius() -> None:
    def limit(model: str, lens: list[float]) -> float:
        return float(monotonic_radius(model, torch.tensor([lens], dtype=torch.float64)))

    assert limit("opencv", [0.0] * 8) == math.inf
    # 1 + 3 k1 r2 = 0.
    assert limit("opencv", [-0.3, *[0.0] * 7]) == pytest.approx(math.sqrt(1 / 0.9), rel=1e-4)
    # The denominator vanishes.
    assert limit("opencv", [0.0] * 5 + [-0.25, 0.0, 0.0]) == pytest.approx(2.0, rel=1e-4)
    assert limit("fisheye", [0.0] * 4) == pytest.approx(math.pi)
    assert limit("fisheye", [-0.1, 0.0, 0.0, 0.0]) == pytest.approx(math.sqrt(1 / 0.3), rel=1e-4)
    assert limit("ocam", LENSES["ocam"]) == pytest.approx(0.4)


def test_level_sizes_selection_of_views_and_the_default_crop() -> None:
    assert [level_size(67, 101, level) for level in range(4)] == [(67, 101), (34, 51), (17, 26), (9, 13)]
    camera = make_camera("fisheye", 3, 64, 48)
    assert len(camera) == 3 and len(camera[1]) == 1 and len(camera[0:2]) == 2 and len(camera[[2, 0]]) == 2
    torch.testing.assert_close(camera[[2, 0]].world_to_camera[1], camera.world_to_camera[0])
    plain = Camera("fisheye", 8, 8, torch.ones(2, 4), torch.zeros(2, 4), torch.eye(4).repeat(2, 1, 1))
    assert plain.crop.tolist() == [[1, 0, 0], [1, 0, 0]]


def test_errors_name_the_wrong_argument() -> None:
    with pytest.raises(ValueError, match=r"distortion: expected \[2, 8\]"):
        Camera("opencv", 8, 8, torch.ones(2, 4), torch.zeros(2, 4), torch.eye(4).repeat(2, 1, 1))
    with pytest.raises(ValueError, match="model: expected one of opencv, fisheye, ocam, got 'brown'"):
        Camera("brown", 8, 8, torch.ones(1, 4), torch.zeros(1, 8), torch.eye(4)[None])  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="size: expected at least 1x1, got 0x8"):
        Camera("opencv", 0, 8, torch.ones(1, 4), torch.zeros(1, 8), torch.eye(4)[None])
