"""`adop bench stereo`: the measures, on coarse photos and on points that are known to be right or wrong."""

import json

import numpy as np
import pytest

from adop.bench.stereo import BenchStereoConfig, against_truth, bench_stereo
from adop.scene.point_cloud import order
from adop.scene.read import load_scene
from adop.scene.scene import demo_scene_folder
from adop.stereo.stereo_config import StereoConfig

SAMPLES = 30_000
pytest.importorskip("open3d", exc_type=ImportError)


def test_the_scenes_own_points_are_complete_and_exact():
    scene = load_scene(demo_scene_folder())
    result = against_truth(scene, scene.points, SAMPLES)
    assert "wrong_lowest" not in result  # these points have no confidence
    assert result["complete"] > 0.9 and result["wrong"] < 0.001 and result["distance"] < 0.001
    assert 40 < result["size"] < 50 and result["normals_deg"] < 12


def test_moved_and_missing_points_are_counted():
    scene = load_scene(demo_scene_folder())
    points = scene.points
    half = points.xyz[:, 0] < np.median(points.xyz[:, 0])
    xyz = points.xyz[half].copy()
    xyz[::4, 2] -= 5  # below the ground
    confidence = np.where(np.arange(len(xyz)) % 4 == 0, 0.1, 0.9)
    moved = order(xyz, points.normals[half], points.colors[half], points.radius[half], 0, confidence)
    result = against_truth(scene, moved, SAMPLES)
    assert 0.2 < result["complete"] < 0.7
    assert 0.1 < result["wrong"] < 0.3
    assert result["wrong_lowest"] == pytest.approx(4 * result["wrong"], rel=0.02)
    assert result["wrong_highest"] < 0.001


@pytest.mark.long
def test_the_bench_prints_and_writes_its_figures(tmp_path, capsys):
    stereo = StereoConfig(longest_side=80, coarse_sweeps=2, middle_sweeps=1, keep_points=False)
    file = tmp_path / "stereo.json"
    result = bench_stereo(
        BenchStereoConfig(stereo=stereo, samples=SAMPLES, speed_side=60, repeats=1, json=file)
    )
    assert json.loads(file.read_text()) == result
    assert result["complete"] > 0.3 and result["wrong"] < 0.1 and result["times_torch"] > 0
    assert {"wrong_lowest", "wrong_highest"} <= result.keys()  # so small, confident outlines are wrong too
    said = capsys.readouterr().out
    assert f"{int(result['points']):,} points in" in said and "times as fast as plain torch" in said
    assert "with the lowest confidence" in said
