"""Exported Gaussians, read as splat viewers read them."""

from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData
from scipy.spatial import cKDTree
from scipy.spatial.transform import Rotation

from adop.export.export import export_run
from adop.export.export_config import ExportConfig
from adop.export.gaussians import normal_rotations
from adop.render.camera_settings import CameraSettings, develop
from adop.run.run import Run
from adop.scene.ply import read_ply

REST = tuple(f"f_rest_{i}" for i in range(45))
ORDER = (
    *("x", "y", "z", "nx", "ny", "nz", "f_dc_0", "f_dc_1", "f_dc_2"),
    *REST,
    *("opacity", "scale_0", "scale_1", "scale_2", "rot_0", "rot_1", "rot_2", "rot_3"),
)


def evaluated(vertex, direction: np.ndarray) -> np.ndarray:
    """The colours [N, 3] seen along a direction, by the formula of 3D Gaussian splatting to first order."""
    x, y, z = direction
    colours = []
    for channel in range(3):
        first = [vertex[f"f_rest_{15 * channel + k}"] for k in range(3)]
        change = 0.4886025119029199 * (-y * first[0] + z * first[1] - x * first[2])
        colours.append(0.5 + 0.28209479177387814 * vertex[f"f_dc_{channel}"] + change)
    return np.stack(colours, axis=1)


def test_gaussians_are_flat_discs_in_the_layout_of_splat_viewers(refined_run: Run, tmp_path: Path):
    said: list[str] = []
    export_run(refined_run, "3dgs", tmp_path / "a.ply", ExportConfig(gaussian_size=0.5), said.append)
    file = PlyData.read(tmp_path / "a.ply")
    vertex, points = file["vertex"], refined_run.pipeline.points
    assert tuple(p.name for p in vertex.properties) == ORDER
    assert {vertex[name].dtype for name in ORDER} == {np.dtype(np.float32)}
    xyz = np.stack([vertex[name] for name in "xyz"], axis=1)
    np.testing.assert_array_equal(xyz, points.xyz.numpy())
    scales = np.exp(np.stack([vertex[f"scale_{i}"] for i in range(3)], axis=1))
    fourth = cKDTree(xyz).query(xyz, k=5)[0][:, 4]
    np.testing.assert_array_equal(scales[:, 0], scales[:, 1])
    ratio = scales[:, 0] / (0.5 * fourth)
    assert ratio.max() < 1.00001 and (ratio < 0.99999).mean() < 0.01  # smaller are those alone beside others
    assert (scales[:, 2] < 0.2 * scales[:, 0]).all()
    quaternion = np.stack([vertex[f"rot_{i}"] for i in (1, 2, 3, 0)], axis=1)
    axes = Rotation.from_quat(quaternion).as_matrix()
    assert points.normals is not None
    cosine = np.abs(np.einsum("ni,ni->n", axes[:, :, 2], points.normals.numpy()))
    np.testing.assert_allclose(cosine, 1, atol=1e-5)
    opacity = 1 / (1 + np.exp(-vertex["opacity"]))
    assert ((opacity > 0.9) & (opacity < 1)).all()
    assert "world_offset 500000.25 4200000.5 80.125" in file.comments[0]
    assert any("without the network" in sentence for sentence in said)
    assert any("500000.25 4200000.5 80.125 more" in sentence for sentence in said)


def test_gaussians_change_with_the_direction_as_the_points_do(refined_run: Run, tmp_path: Path):
    """To first order: compared with the development of each point's light, near the direction in which photos see it."""
    export_run(refined_run, "3dgs", tmp_path / "a.ply", report=lambda _: None)
    vertex = PlyData.read(tmp_path / "a.ply")["vertex"]
    features = refined_run.pipeline.points.features.detach()
    errors = {}
    for direction in np.concatenate([np.eye(3), -np.eye(3)]):
        along = torch.from_numpy(direction).float()
        log_light = features[:, :3] + features[:, -9:].reshape(-1, 3, 3) @ along
        with torch.no_grad():
            light = log_light.exp().T[None, :, :, None]
            exact = develop(refined_run.pipeline.tonemapper, light, CameraSettings())[0, :, :, 0].T.numpy()
        errors[tuple(direction)] = np.abs(evaluated(vertex, direction) - exact)
    worst, constant = np.stack(list(errors.values())), evaluated(vertex, np.zeros(3))
    assert np.median(worst) < 0.004 and np.quantile(worst, 0.95) < 0.04
    without = np.abs(constant[None] - np.stack([evaluated(vertex, np.array(d)) for d in errors]))
    assert np.median(without) > 3 * np.median(worst)  # so that the change is seen


def test_our_own_reader_finds_the_colours(plain_run: Run, tmp_path: Path):
    export_run(plain_run, "3dgs", tmp_path / "a.ply", report=lambda _: None)
    raw, cloud = read_ply(tmp_path / "a.ply"), plain_run.scene.points
    assert raw.colors is not None and cloud.colors is not None
    lit = cloud.colors > 12
    assert np.abs(raw.colors[lit].astype(int) - cloud.colors[lit]).max() <= 1
    vertex = PlyData.read(tmp_path / "a.ply")["vertex"]
    assert not any(vertex[name].any() for name in REST)


def test_points_without_normals_are_round(plain_run: Run, tmp_path: Path):
    plain_run.pipeline.points.normals = None
    export_run(plain_run, "3dgs", tmp_path / "a.ply", report=lambda _: None)
    vertex = PlyData.read(tmp_path / "a.ply")["vertex"]
    np.testing.assert_array_equal(vertex["scale_2"], vertex["scale_0"])
    assert (vertex["rot_0"] == 1).all()


@pytest.mark.parametrize("normal", [(0, 0, 1), (0, 0, -1), (1, 0, 0), (0, -1, 0), (0.6, 0, -0.8)])
def test_rotations_turn_the_z_axis_into_the_normal(normal: tuple[float, float, float]):
    w, x, y, z = normal_rotations(np.array([normal], float))[0]
    turned = Rotation.from_quat([x, y, z, w]).apply([0, 0, 1])
    assert abs(abs(turned @ normal) - 1) < 1e-12
