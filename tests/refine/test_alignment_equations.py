"""The motion of pixels with their camera, against finite differences, and alignment with an image known exactly."""

import math
from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch

from adop.geometry.camera import Camera
from adop.geometry.rigid_motion import se3_exp
from adop.refine.alignment_equations import (
    AlignmentEquations,
    CameraColumns,
    ImagePair,
    fit_gain,
    masked_blur,
    normal_equations,
    pixel_shift,
    project_points,
    projection_jacobian,
)

LENSES = {
    "opencv": [-0.1, 0.03, 0.001, -0.002, 0.004, 0.0, 0.0, 0.0],
    "fisheye": [0.02, -0.01, 0.003, -0.001],
}


def camera(
    model: str = "opencv", pose: torch.Tensor | None = None, size: tuple[int, int] = (160, 120)
) -> Camera:
    """Return a camera that looks along +z, or has the given pose."""
    return Camera(
        model,
        size[0],
        size[1],
        torch.tensor([[150.0, 152.0, 81.0, 59.0]], dtype=torch.float64),
        torch.tensor([LENSES[model]], dtype=torch.float64),
        (torch.eye(4, dtype=torch.float64) if pose is None else pose)[None],
    )


@pytest.mark.parametrize("model", ["opencv", "fisheye"])
def test_the_projection_jacobian_is_the_derivative(model: str):
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(20, 3, generator=generator, dtype=torch.float64) * 2 - 1 + torch.tensor([0.0, 0.0, 4.0])
    pose = se3_exp(torch.tensor([0.1, -0.2, 0.3, 0.05, -0.1, 0.02], dtype=torch.float64))
    view = camera(model, pose).cropped(0.5, 3.0, 5.0, 80, 60)
    columns = [0, 1, 2, 3, 4, 5]
    by_camera, by_point = projection_jacobian(view, xyz, CameraColumns(columns))
    step = 1e-6
    for k in range(6):
        twist = torch.zeros(6, dtype=torch.float64)
        twist[k] = step
        moved = [camera(model, se3_exp(s * twist) @ pose).cropped(0.5, 3.0, 5.0, 80, 60) for s in (1, -1)]
        slope = (project_points(moved[0], xyz) - project_points(moved[1], xyz)) / (2 * step)
        torch.testing.assert_close(by_camera[:, :, k], slope, rtol=1e-5, atol=1e-5)
    for i, column in enumerate(columns):
        ends = []
        for sign in (1, -1):
            parts = torch.cat((view.intrinsics[0], view.distortion[0]))
            parts[column] += sign * step
            changed = Camera(model, 80, 60, parts[None, :4], parts[None, 4:], view.world_to_camera, view.crop)
            ends.append(project_points(changed, xyz))
        slope = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(by_camera[:, :, 6 + i], slope, rtol=1e-5, atol=1e-4)
    for k in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[k] = step
        slope = (project_points(view, xyz + shift) - project_points(view, xyz - shift)) / (2 * step)
        torch.testing.assert_close(by_point[:, :, k], slope, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("model", ["opencv", "fisheye"])
def test_the_projection_jacobian_with_a_rolling_shutter(model: str):
    """Columns of pose, motion and point against differences: the row's time, which they hold constant, changes little."""
    generator = torch.Generator().manual_seed(0)
    xyz = torch.rand(20, 3, generator=generator, dtype=torch.float64) * 2 - 1 + torch.tensor([0.0, 0.0, 4.0])
    pose = se3_exp(torch.tensor([0.1, -0.2, 0.3, 0.05, -0.1, 0.02], dtype=torch.float64))
    motion = torch.tensor([[0.04, -0.03, 0.05, 0.02, 0.01, -0.02]], dtype=torch.float64)

    def view(at: torch.Tensor, moves: torch.Tensor) -> Camera:
        return replace(camera(model, at), motion=moves).cropped(0.5, 3.0, 5.0, 80, 60)

    now, step = view(pose, motion), 1e-6
    by_camera, by_point = projection_jacobian(now, xyz, CameraColumns([0], rolling_shutter=True))
    assert by_camera.shape == (20, 2, 13)
    still = replace(now, motion=None)
    without, _ = projection_jacobian(still, xyz, CameraColumns([0]))
    with_motion, _ = projection_jacobian(still, xyz, CameraColumns([0], rolling_shutter=True))
    assert torch.equal(with_motion[:, :, [*range(6), 12]], without)
    for k in range(6):
        twist = torch.zeros(6, dtype=torch.float64)
        twist[k] = step
        ends = [project_points(view(se3_exp(s * twist) @ pose, motion), xyz) for s in (1, -1)]
        slope = (ends[0] - ends[1]) / (2 * step)
        assert float((by_camera[:, :, k] - slope).norm()) < 0.05 * float(slope.norm())
        ends = [project_points(view(pose, motion + s * twist), xyz) for s in (1, -1)]
        torch.testing.assert_close(
            by_camera[:, :, 6 + k], (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-5
        )
    for k in range(3):
        shift = torch.zeros(3, dtype=torch.float64)
        shift[k] = step
        slope = (project_points(now, xyz + shift) - project_points(now, xyz - shift)) / (2 * step)
        assert float((by_point[:, :, k] - slope).norm()) < 0.05 * float(slope.norm())


def textured_wall(view: Camera, distance: float = 4.0) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the image of a smoothly painted wall at z = distance, and its depth: by rays, exactly."""
    rays, centre = view.rays(0)[0], view.centre()[0]
    along = (distance - centre[2]) / rays[2]
    xyz = centre[:, None, None] + along * rays
    x, y = xyz[0], xyz[1]
    waves = [
        0.5 + 0.2 * torch.sin(5 * x + phase) * torch.cos(4 * y) + 0.2 * torch.sin(7 * y - 2 * x + phase)
        for phase in (0.0, 1.0, 2.0)
    ]
    local = torch.einsum("ij,jhw->ihw", view.world_to_camera[0, :3, :3], xyz - centre[:, None, None])
    return torch.stack(waves)[None], local[2][None, None]


def equations(
    image: torch.Tensor,
    depth: torch.Tensor,
    photo: torch.Tensor,
    view: Camera,
    lens: Sequence[int] = (),
    directions: torch.Tensor | None = None,
) -> AlignmentEquations:
    """Return the normal equations of an image and its photo, of which every pixel counts."""
    pair = ImagePair(image, depth, photo, torch.ones_like(depth))
    return normal_equations(pair, view, CameraColumns(list(lens)), sigma=0.7, directions=directions)


def test_one_step_removes_most_of_a_small_error():
    error = torch.tensor([0.01, -0.008, 0.01, 0.002, 0.003, -0.004], dtype=torch.float64)
    true, wrong = camera(), camera(pose=se3_exp(error))
    photo, _ = textured_wall(true)
    image, depth = textured_wall(wrong)
    before = equations(image, depth, photo, wrong)
    change = -torch.linalg.solve(before.matrix, before.gradient)
    better = camera(pose=se3_exp(change) @ se3_exp(error))
    image, depth = textured_wall(better)
    after = equations(image, depth, photo, better)
    assert after.cost < 0.05 * before.cost


@pytest.mark.parametrize("model", LENSES)
def test_given_directions_change_nothing(model: str):
    error = torch.tensor([0.01, -0.008, 0.01, 0.002, 0.003, -0.004], dtype=torch.float64)
    true, wrong = camera(model), camera(model, se3_exp(error))
    (photo, _), (image, depth) = textured_wall(true), textured_wall(wrong)
    directions = wrong.lens_directions(wrong.pixel_centres()).reshape(*depth.shape[2:], 3)
    computed, given = (equations(image, depth, photo, wrong, [0, 1], d) for d in (None, directions))
    torch.testing.assert_close(given.matrix, computed.matrix)
    torch.testing.assert_close(given.gradient, computed.gradient)
    shifts = [pixel_shift(wrong, true, depth, d) for d in (None, directions, 1.1 * directions)]
    assert shifts[1] == pytest.approx(shifts[0]) and abs(shifts[2] / shifts[0] - 1) > 1e-3


def test_the_right_camera_gets_no_step():
    photo, depth = textured_wall(camera())
    aligned = equations(photo, depth, photo, camera(), [0, 1, 4])
    assert aligned.cost < 1e-12
    assert float(aligned.gradient.abs().max()) < 1e-9


def test_brightness_and_vignetting_are_not_taken_for_motion():
    view = camera()
    photo, depth = textured_wall(view)
    v, u = torch.meshgrid(torch.linspace(-1, 1, 120), torch.linspace(-1, 1, 160), indexing="ij")
    darker = photo * 0.6 * (1 - 0.2 * (u**2 + v**2)).double()
    found = equations(darker, depth, photo, view)
    matrix = found.matrix + 1e-9 * torch.diag(found.matrix.diagonal())
    step = -torch.linalg.solve(matrix, found.gradient)
    moved = camera(pose=se3_exp(step))
    centre = torch.tensor([[0.0, 0.0, 4.0], [0.7, 0.4, 4.0]], dtype=torch.float64)
    assert float((project_points(moved, centre) - project_points(view, centre)).norm(dim=1).max()) < 0.1


def test_masked_pixels_do_not_leak_into_others():
    image = torch.rand(1, 3, 20, 30)
    mask = torch.ones(1, 1, 20, 30)
    mask[..., 15:] = 0
    changed = image.clone()
    changed[..., 15:] = 1e6
    torch.testing.assert_close(masked_blur(image, mask, 1.5), masked_blur(changed, mask, 1.5))


def test_the_gain_is_found_although_part_of_the_photo_differs():
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(1, 3, 60, 80, generator=generator) * 0.5 + 0.2
    photo = 1.3 * image
    photo[:, :, :20] = torch.rand(1, 3, 20, 80, generator=generator)
    gain = fit_gain(image, photo, torch.ones(1, 1, 60, 80))
    assert float((gain[:, :, 45:, 20:60] - 1.3).abs().max()) < 0.05
    assert math.isfinite(float(gain.sum()))
