"""What a lens shows, by the kernels: limit and bounds against the points that plain torch finds visible."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from adop.geometry.camera import Camera
from adop.geometry.lens_model import Model, monotonic_radius
from adop.ops import Points, project
from adop.ops.projection import LensInputs, bound_lens

BACKENDS = ["cpu", pytest.param("cuda", marks=pytest.mark.cuda)]
SIZE = (80, 60)


def bounds_of(camera: Camera, device: str = "cpu") -> tuple[torch.Tensor, torch.Tensor]:
    """Return the limits [B] and the bounds [B, 4] of the cameras' views."""
    lens = (part.to(device) for part in (camera.intrinsics, camera.distortion, camera.crop))
    found = bound_lens(LensInputs(*lens, camera.model, *SIZE))
    return found.limit.cpu(), found.bounds.cpu()


def camera_of(model: Model, lenses: list[list[float]], crops: list[list[float]]) -> Camera:
    views = len(lenses)
    return Camera(
        model,
        *SIZE,
        torch.tensor([[50.0, 52.0, 40.3, 29.8]], dtype=torch.float64).repeat(views, 1),
        torch.tensor(lenses, dtype=torch.float64),
        torch.eye(4, dtype=torch.float64).repeat(views, 1, 1),
        torch.tensor(crops, dtype=torch.float64),
    )


def numbers(scale: float) -> st.SearchStrategy[float]:
    return st.floats(-scale, scale, allow_nan=False)


CROP = st.tuples(st.floats(0.5, 2.0), st.floats(-30, 30), st.floats(-30, 30)).map(list)
OPENCV = st.tuples(*map(numbers, (0.4, 0.2, 0.01, 0.01, 0.1, 0.2, 0.1, 0.05))).map(list)
FISHEYE = st.tuples(*map(numbers, (0.2, 0.1, 0.05, 0.02))).map(list)


@pytest.mark.parametrize("model", ["opencv", "fisheye"])
@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_no_visible_point_lies_beyond_the_bounds(model: Model, data: st.DataObject) -> None:
    lens = OPENCV if model == "opencv" else FISHEYE
    views = data.draw(st.integers(1, 3))
    camera = camera_of(model, *([data.draw(part) for _ in range(views)] for part in (lens, CROP)))
    limits, bounds = bounds_of(camera)
    expected = monotonic_radius(model, camera.distortion).clamp_max(1e30)
    torch.testing.assert_close(limits, expected, rtol=2e-4, atol=2e-4)

    x = torch.linspace(-4, 4, 60, dtype=torch.float64)
    rays = torch.stack([*torch.meshgrid(x, x, indexing="ij"), torch.ones(60, 60).double()], -1).reshape(-1, 3)
    seen = project(camera, Points(rays, torch.ones(len(rays)).double()), backend="reference").visible
    for view in range(views):
        ray = rays[seen[view]]
        if model == "opencv":
            low, high = bounds[view, ::2], bounds[view, 1::2]
            assert ((ray[:, :2] >= low) & (ray[:, :2] <= high)).all()
        else:
            angle = torch.atan2(ray[:, :2].norm(dim=1), ray[:, 2])
            assert (angle <= bounds[view, 0]).all()


def test_a_limit_far_from_the_axis_is_found_exactly() -> None:
    """There the searched radii are farthest apart."""
    camera = camera_of("opencv", [[0.0, 0.125, 0.0, 0.0, 0.0, 0.125, 0.0, 1e-8]], [[1.0, 0.0, 0.0]])
    expected = monotonic_radius("opencv", camera.distortion)
    torch.testing.assert_close(bounds_of(camera)[0], expected, rtol=1e-5, atol=0)


@pytest.mark.parametrize("backend", BACKENDS)
def test_bounds_are_those_of_the_picture(backend: str) -> None:
    camera = camera_of("opencv", [[0.0] * 8, [-0.3, *[0.0] * 7]], [[1.0, 0.0, 0.0], [1.0, 0.0, 0.0]])
    limits, bounds = bounds_of(camera, backend)
    corners = torch.tensor([-40.3 / 50, 39.7 / 50, -29.8 / 52, 30.2 / 52], dtype=torch.float64)
    torch.testing.assert_close(bounds[0], corners, rtol=2e-3, atol=0)
    assert limits[0] > 1e29 and float(limits[1]) == pytest.approx((1 / 0.9) ** 0.5, rel=1e-4)
    # Barrel distortion: what an edge of the image shows lies farther out, but within the lens's limit.
    assert ((bounds[1] / corners > 1.01) & (bounds[1] / corners < 1.6)).all()
    fisheye = camera_of("fisheye", [[0.0] * 4], [[1.0, 0.0, 0.0]])
    limit, bound = bounds_of(fisheye, backend)
    assert float(limit[0]) == pytest.approx(torch.pi)
    corner = float(torch.hypot(corners[0], torch.tensor(30.2 / 52)))
    assert corner <= float(bound[0, 0]) <= corner + 0.01
    ocam = camera_of("ocam", [[1.0, 0.0, 0.0, 0.4, *[0.0] * 16]], [[1.0, 0.0, 0.0]])
    limit, bound = bounds_of(ocam, backend)
    assert float(limit[0]) == 0.4 and float(bound[0, 0]) == pytest.approx(0.4 + torch.pi / 2)
