"""Exported points: their positions in the source's coordinates, their colours as the run's camera shows them."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from plyfile import PlyData

from adop.errors import UserError
from adop.export.cameras import refined_lenses
from adop.export.export import export_run
from adop.export.export_config import ExportConfig
from adop.render.crop_box import CropBox, save_crop_box
from adop.run.run import Run
from adop.scene.ply import read_ply
from adop.scene.visibility import visible


def columns(path: Path, names: str) -> np.ndarray:
    vertex = PlyData.read(path)["vertex"]
    return np.stack([vertex[name] for name in names.split()], axis=1)


def shown(run: Run, log_light: np.ndarray) -> np.ndarray:
    """The values [..., 3] of the first lens of log light [..., 3] at the scene's exposure, by the formulas of sRGB."""
    light = np.minimum(np.exp(log_light), 1)
    encoded = np.where(light <= 0.0031308, 12.92 * light, 1.055 * light ** (1 / 2.4) - 0.055)
    curve = run.pipeline.tonemapper.response()[0].detach().numpy()
    knots = np.linspace(0, 1, curve.shape[1])
    return np.stack([np.interp(encoded[..., c], knots, curve[c]) for c in range(3)], axis=-1)


def test_points_have_their_refined_place_in_the_source(refined_run: Run, tmp_path: Path):
    export_run(refined_run, "ply", tmp_path / "a.ply", report=lambda _: None)
    vertex = PlyData.read(tmp_path / "a.ply")["vertex"]
    assert vertex["x"].dtype == np.float64 and vertex["nx"].dtype == np.float32
    points, offset = refined_run.pipeline.points, refined_run.scene.world_offset
    assert points.normals is not None
    xyz = columns(tmp_path / "a.ply", "x y z")
    np.testing.assert_allclose(xyz - offset, points.xyz.numpy(), rtol=0, atol=2e-9)
    assert np.abs(xyz - offset - refined_run.scene.points.xyz).max() > 0.01
    np.testing.assert_array_equal(columns(tmp_path / "a.ply", "nx ny nz"), points.normals.numpy())
    np.testing.assert_array_equal(read_ply(tmp_path / "a.ply").xyz, xyz)


def test_points_keep_the_coordinates_of_the_scene_if_asked(refined_run: Run, tmp_path: Path):
    config = ExportConfig(coordinates="scene", features=True)
    export_run(refined_run, "ply", tmp_path / "a.ply", config, report=lambda _: None)
    points = refined_run.pipeline.points
    xyz = columns(tmp_path / "a.ply", "x y z")
    assert xyz.dtype == np.float32 and np.array_equal(xyz, points.xyz.numpy())
    names = [f"feature_{i}" for i in range(4)] + [f"harmonic_{i}" for i in range(9)]
    learned = columns(tmp_path / "a.ply", " ".join(names))
    np.testing.assert_array_equal(learned, points.features.detach().numpy())


def test_points_of_an_untrained_run_have_the_colours_of_the_cloud(plain_run: Run, tmp_path: Path):
    export_run(plain_run, "ply", tmp_path / "a.ply", report=lambda _: None)
    raw, cloud = read_ply(tmp_path / "a.ply"), plain_run.scene.points
    assert raw.colors is not None and cloud.colors is not None
    lit = cloud.colors > 12  # darker ones are as bright as the darkest light that is learned
    assert lit.mean() > 0.9
    np.testing.assert_array_equal(raw.colors[lit], cloud.colors[lit])


def test_a_colour_is_the_mean_of_what_the_trained_photos_see(refined_run: Run, tmp_path: Path):
    """The mean is that of the logarithms of the light, which the run's response then develops."""
    export_run(refined_run, "ply", tmp_path / "a.ply", report=lambda _: None)
    points, cameras = refined_run.pipeline.points, refined_run.pipeline.cameras
    features, xyz = points.features.detach().double().numpy(), points.xyz.numpy()
    total, count = np.zeros((len(xyz), 3)), np.zeros(len(xyz))
    for photo in refined_run.split["train"]:
        pose = cameras.poses[photo].numpy()
        seen, _ = visible(xyz, refined_lenses(refined_run)[0], pose)
        ray = xyz[seen] + pose[:3, :3].T @ pose[:3, 3]
        ray /= np.linalg.norm(ray, axis=1, keepdims=True)
        coefficients = features[seen, -9:].reshape(-1, 3, 3)  # by channel and axis
        total[seen] += features[seen, :3] + (coefficients * ray[:, None]).sum(2)
        count[seen] += 1
    known = count > 0
    assert known.mean() > 0.5
    expected = 255 * shown(refined_run, total[known] / count[known, None])
    found = columns(tmp_path / "a.ply", "red green blue")[known]
    assert np.abs(found - expected).max() < 0.51
    plain = 255 * shown(refined_run, features[known, :3])
    assert np.abs(found - plain).mean() > 2  # so that the harmonics are seen


def test_a_colour_is_developed_by_the_chosen_lens(plain_run: Run, tmp_path: Path):
    scene, tonemapper = plain_run.scene, plain_run.pipeline.tonemapper
    assert len(scene.lenses) == 1
    with torch.no_grad():
        tonemapper.response_logits += torch.linspace(1, -1, 24)  # brighter
    for lens in (None, 0):
        export_run(plain_run, "ply", tmp_path / "a.ply", ExportConfig(lens=lens), report=lambda _: None)
        found = columns(tmp_path / "a.ply", "red green blue")
        features = plain_run.pipeline.points.features.detach().double().numpy()
        assert np.abs(found - 255 * shown(plain_run, features[:, :3])).max() < 0.51
    with pytest.raises(ValueError, match="there is no lens 1; the scene's are numbered 0 to 0"):
        export_run(plain_run, "ply", tmp_path / "b.ply", ExportConfig(lens=1), report=lambda _: None)
    assert not (tmp_path / "b.ply").exists()


def test_only_the_points_in_the_crop_box_are_exported(refined_run: Run, tmp_path: Path):
    """A box in the middle: as many points as lie in it by hand; an empty one is refused in a sentence."""
    run, everything = replace(refined_run, folder=tmp_path), refined_run.pipeline.points.xyz.numpy()
    centre, half = np.median(everything, axis=0), np.ptp(everything, axis=0) / 4
    save_crop_box(tmp_path, CropBox(centre, np.eye(3), half))
    config = ExportConfig(coordinates="scene", features=True)
    export_run(run, "ply", tmp_path / "a.ply", config, report=lambda _: None)
    inside = (np.abs(everything - centre) <= half).all(1)
    assert 0.1 < inside.mean() < 0.99
    assert np.array_equal(columns(tmp_path / "a.ply", "x y z"), everything[inside])
    learned = refined_run.pipeline.points.features.detach().numpy()[inside]
    assert np.array_equal(columns(tmp_path / "a.ply", "feature_0 harmonic_8"), learned[:, [0, -1]])
    save_crop_box(tmp_path, CropBox(centre + 1e6, np.eye(3), half))
    with pytest.raises(UserError, match="crop box"):
        export_run(run, "3dgs", tmp_path / "b.ply", report=lambda _: None)
    assert not (tmp_path / "b.ply").exists()
