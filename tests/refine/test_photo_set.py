"""The scene rendered for comparison with its photos, by the chosen backend."""

from pathlib import Path

import torch

from adop.backend.launch import count_launches
from adop.config import AlignConfig, MovePointsConfig, RenderConfig, TrainConfig
from adop.model.pipeline import Pipeline, build_pipeline
from adop.refine.align import align_cameras
from adop.refine.alignment_equations import RefinedParameters
from adop.refine.bundle_adjustment import adjust_bundle
from adop.refine.move_points import move_points
from adop.refine.photo_set import PhotoSet, render_network, render_points
from adop.scene.photo_cache import PhotoCache
from adop.scene.read import load_scene
from adop.scene.scene import Scene
from support.small_scene import with_points

PHOTO = 2


def build(scene: Scene, backend: str) -> Pipeline:
    """Return the untrained pipeline of a scene with a backend."""
    config = TrainConfig(render=RenderConfig(backend=backend))  # type: ignore[arg-type]
    count = len(scene.photos)
    return build_pipeline(scene, config, torch.zeros(count), torch.ones(count, dtype=torch.bool))


def sparse_scene(folder: Path) -> Scene:
    """Return the small scene with a 20th of its points."""
    return with_points(load_scene(folder, report=lambda _: None), slice(None, None, 20))


def test_backends_render_the_same_points(small_folder: Path):
    scene, index = sparse_scene(small_folder), torch.tensor([PHOTO])
    renderings = []
    for backend in ("cpu", "reference"):
        pipeline = build(scene, backend)
        with torch.no_grad():
            renderings.append(render_points(pipeline, pipeline.camera(index).reduced(4), index))
    torch.testing.assert_close(renderings[0].image, renderings[1].image, rtol=0, atol=1e-4)
    torch.testing.assert_close(renderings[0].depth, renderings[1].depth)


def test_refinement_with_the_reference_runs_no_kernel(small_folder: Path):
    scene = sparse_scene(small_folder)
    with count_launches() as launches:
        photos = PhotoSet(build(scene, "reference"), PhotoCache(scene), [PHOTO])
        align = AlignConfig(longest_side=100, scales=1, iterations=1)
        for render in (render_points, render_network):
            assert len(align_cameras(photos, align, RefinedParameters(), render)) == 1
        points, start = MovePointsConfig(iterations=1, individual=True), photos.pipeline.points.xyz.clone()
        move_points(photos, points)
        adjust_bundle(photos, start, points, align, scales=(4,))
    assert launches.total() == 0
    with count_launches() as launches:
        render_points(build(scene, "auto"), photos.pipeline.cameras.photo(PHOTO), torch.tensor([PHOTO]))
    assert launches.total() > 0
