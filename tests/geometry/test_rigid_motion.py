"""Exponentials, logarithms, quaternions and poses."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm

from adop.errors import UserError
from adop.geometry.rigid_motion import (
    invert_rigid,
    look_at_pose,
    matrix_from_quaternion,
    quaternion_from_matrix,
    rigid,
    rotation_from_quaternion,
    se3_exp,
    se3_log,
    skew,
    so3_exp,
    so3_log,
)

UNIT = st.floats(-1, 1, allow_nan=False)


@settings(max_examples=100, deadline=None)
@given(
    st.tuples(UNIT, UNIT, UNIT), st.sampled_from([0.0, 1e-12, 1e-6, 1e-3, 0.22, 0.23, 1.0, 2.0, 3.0, 3.1415])
)
def test_so3_exp_is_the_matrix_exponential_and_so3_log_its_inverse(
    axis: tuple[float, ...], angle: float
) -> None:
    vector = torch.tensor(axis, dtype=torch.float64)
    rotation = angle * torch.nn.functional.normalize(vector, dim=0)
    matrix = so3_exp(rotation)
    torch.testing.assert_close(matrix, torch.from_numpy(expm(skew(rotation).numpy())), atol=1e-13, rtol=0)
    torch.testing.assert_close(so3_log(matrix), rotation, atol=1e-7 if angle > 3 else 1e-12, rtol=0)


def test_so3_log_of_a_half_turn_is_a_rotation_vector_of_length_pi() -> None:
    for axis in ((1, 0, 0), (0, 1, 0), (0, 0, 1), (0.6, 0.8, 0), (0.48, 0.6, 0.64)):
        matrix = so3_exp(math.pi * torch.tensor(axis, dtype=torch.float64))
        vector = so3_log(matrix)
        assert vector.norm() == pytest.approx(math.pi, abs=1e-12)
        torch.testing.assert_close(so3_exp(vector), matrix, atol=1e-12, rtol=0)


@settings(max_examples=50, deadline=None)
@given(st.lists(UNIT, min_size=6, max_size=6))
def test_se3_exp_is_the_matrix_exponential_and_se3_log_its_inverse(values: list[float]) -> None:
    twist = torch.tensor(values, dtype=torch.float64)
    generator = torch.zeros(4, 4, dtype=torch.float64)
    generator[:3, :3], generator[:3, 3] = skew(twist[3:]), twist[:3]
    motion = se3_exp(twist)
    torch.testing.assert_close(motion, torch.from_numpy(expm(generator.numpy())), atol=1e-13, rtol=0)
    torch.testing.assert_close(se3_log(motion), twist, atol=1e-11, rtol=0)


@pytest.mark.parametrize("scale", [0.0, 1e-9, 1e-4, 0.3, 2.5])
def test_gradients_are_exact_even_at_zero(scale: float) -> None:
    generator = torch.Generator().manual_seed(0)
    twist = scale * torch.randn(3, 6, generator=generator, dtype=torch.float64)
    twist[:, 3:] *= 0.5
    assert torch.autograd.gradcheck(se3_exp, twist.requires_grad_())
    assert torch.autograd.gradcheck(lambda t: se3_log(se3_exp(t)), twist)


def test_float32_is_accurate_near_zero() -> None:
    twist = torch.tensor([[1.0, 2.0, 3.0, 1e-4, -2e-4, 3e-4]])
    torch.testing.assert_close(se3_exp(twist).double(), se3_exp(twist.double()), atol=5e-7, rtol=0)
    torch.testing.assert_close(se3_log(se3_exp(twist)), twist, atol=1e-6, rtol=0)


def test_quaternions_and_matrices_are_converted_into_each_other() -> None:
    generator = torch.Generator().manual_seed(0)
    quaternion = torch.nn.functional.normalize(
        torch.randn(500, 4, generator=generator, dtype=torch.float64), dim=1
    )
    quaternion = torch.where(quaternion[:, :1] < 0, -quaternion, quaternion)
    torch.testing.assert_close(quaternion_from_matrix(matrix_from_quaternion(quaternion)), quaternion)
    torch.testing.assert_close(matrix_from_quaternion(3 * quaternion), matrix_from_quaternion(quaternion))


def test_numpy_quaternions_agree_with_tensors_and_may_be_off_by_one_percent() -> None:
    quaternion = np.array([0.9, 0.1, -0.3, 0.2])
    quaternion /= np.linalg.norm(quaternion)
    expected = matrix_from_quaternion(torch.from_numpy(quaternion)).numpy()
    for length in (1.0, 0.995, 1.005):
        np.testing.assert_allclose(
            rotation_from_quaternion(length * quaternion, "here"), expected, atol=1e-15
        )
    for bad in (1.02 * quaternion, 0 * quaternion, np.nan * quaternion):
        with pytest.raises(UserError, match="here: the rotation quaternion has length"):
            rotation_from_quaternion(bad, "here")


def test_a_pose_times_its_inverse_is_the_identity() -> None:
    pose = rigid(rotation_from_quaternion([0.5, 0.5, -0.5, 0.5], "here"), np.array([1.0, -2.0, 3.0]))
    np.testing.assert_allclose(invert_rigid(pose) @ pose, np.eye(4), atol=1e-15)


def test_look_at_pose_by_hand() -> None:
    """From (0, -4, 0) towards the origin with z up: x right, -z down, y forward."""
    pose = look_at_pose((0, -4, 0), (0, 0, 0), (0, 0, 1))
    np.testing.assert_allclose(pose, [[1, 0, 0, 0], [0, 0, -1, 0], [0, 1, 0, 4], [0, 0, 0, 1]], atol=1e-15)
    for eye, up in (((0, 0, 0), (0, 0, 1)), ((0, -4, 0), (0, 2, 0))):
        with pytest.raises(ValueError, match="look_at"):
            look_at_pose(eye, (0, 0, 0), up)
