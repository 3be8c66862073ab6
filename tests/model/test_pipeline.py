"""The pipeline run by kernels agrees with the one run by the oracles: images, photos, and every gradient."""

import dataclasses
from pathlib import Path

import pytest
import torch
from PIL import Image

from adop.backend.launch import count_launches
from adop.config import AlignConfig, DensifyConfig, GrowConfig, RefineConfig, RenderConfig, TrainConfig
from adop.model.cameras import ViewInfo
from adop.model.environment import pixel_angle
from adop.ops import Backend
from adop.run.run import load, open_scene
from adop.scene.read import load_scene
from adop.scene.write import save_scene
from adop.training.steps.loss import training_loss
from adop.training.steps.sampler import Pixels
from adop.training.train import train


@pytest.mark.parametrize("fill_levels", [4, 2])
def test_kernels_and_oracles_give_the_same_images_and_gradients(small_folder: Path, fill_levels: int) -> None:
    results = []
    for backend in ("reference", "auto"):
        render = RenderConfig(levels=4, fill_levels=fill_levels, backend=backend)  # type: ignore[arg-type]
        config = dataclasses.replace(TrainConfig(), render=render, bf16=False)
        torch.manual_seed(0)
        pipeline, _, cache = open_scene(small_folder, config, lambda _: None)
        generator = torch.Generator().manual_seed(0)
        coarse = torch.randn(1, 4, 8, 16, generator=generator) * 0.2 - 1
        smooth = torch.nn.functional.interpolate(
            coarse, size=pipeline.environment.map.shape[2:], mode="bilinear"
        )
        pipeline.environment.map.data.copy_(smooth)
        for parameter in pipeline.network.body.final.parameters():
            parameter.data = torch.randn(parameter.shape, generator=generator) * 0.05
        photos, crop = torch.tensor([3, 5]), torch.tensor([[1.2, 60.0, 40.0], [0.9, 200.0, 30.0]])
        camera = pipeline.camera(photos, crop, (96, 80))
        views = ViewInfo(tuple(pipeline.cameras.lens_of[i] for i in photos.tolist()), pixel_angle(camera))
        rendered = pipeline.render(camera, views)
        image = pipeline.photo(rendered.image, camera, photos, leak=True)
        target = torch.cat([cache.image(int(i), image.device)[..., 40:120, 60:156] for i in photos])
        mask = torch.ones(2, 1, 80, 96)
        loss = training_loss(image, Pixels(target, mask), config.loss, None, config.render.backend)
        learned = [pipeline.points.features, pipeline.environment.map, *pipeline.network.parameters()]
        learned += list(pipeline.tonemapper.parameters())
        gradients = torch.autograd.grad(loss.total, learned)
        results.append(([rendered.image, image, loss.total, loss.psnr], gradients))
    (slow, slow_gradients), (fast, fast_gradients) = results
    for expected, got in zip(slow, fast, strict=True):
        # Rounding moves a few points over a pixel's edge, and rays are interpolated between the points of a grid.
        assert float((got - expected).detach().norm() / expected.detach().norm()) < 5e-3
    for expected, got in zip(slow_gradients, fast_gradients, strict=True):
        assert float((got - expected).norm()) <= 0.03 * float(expected.norm()) + 1e-7


def test_an_antialiased_view_is_the_mean_of_views_around_it(trained_folder: Path) -> None:
    """Compare with cameras whose principal point is moved; they are spread evenly, so the picture itself stays."""
    run = load(trained_folder, say=lambda _: None)
    camera = run.photo_camera(1)
    with torch.no_grad():
        plain = run.pipeline.render(camera)
        images = [plain.image]
        for x, y in ((0.0, 0.25), (0.2165064, -0.125), (-0.2165064, -0.125)):
            intrinsics = camera.intrinsics.clone()
            intrinsics[:, 2:4] -= torch.tensor([x, y])
            images.append(run.pipeline.render(dataclasses.replace(camera, intrinsics=intrinsics)).image)
        found = run.pipeline.render(camera, antialias=True)
    expected = torch.stack(images).mean(0)
    assert float((found.image - expected).norm() / expected.norm()) < 5e-3  # rounding moves points over edges
    assert float((plain.image - expected).norm() / expected.norm()) > 0.02
    assert torch.equal(found.levels.depth[0], plain.levels.depth[0])


def test_nearest_cameras(small_folder: Path, tmp_path: Path) -> None:
    """Photos with equal lenses of their own come in one batch; held-out photos are left out."""
    scene = load_scene(small_folder, report=lambda _: None)
    lenses = [dataclasses.replace(scene.lenses[0]) for _ in scene.photos]
    photos = [dataclasses.replace(photo, lens=index) for index, photo in enumerate(scene.photos)]
    save_scene(dataclasses.replace(scene, lenses=lenses, photos=photos), tmp_path / "many")
    for folder in (small_folder, tmp_path / "many"):
        pipeline, _, _ = open_scene(folder, TrainConfig(), lambda _: None)
        centres = pipeline.camera(torch.arange(len(photos))).centre()
        away = (centres - centres[0]).norm(dim=1)
        away[~pipeline.tonemapper.trained] = torch.inf
        trained = torch.nonzero(pipeline.tonemapper.trained)[:, 0]
        (near,) = pipeline.cameras.nearest(centres[0], trained, 4)
        assert torch.allclose(near.centre(), centres[away.argsort()[:4]])
        (every,) = pipeline.cameras.nearest(centres[0], trained, 1000)
        assert len(every) == int(pipeline.tonemapper.trained.sum())


def test_photos_of_different_proportions_share_a_batch(small_folder: Path, tmp_path: Path) -> None:
    """Their lenses' ray grids differ in size, and crops of them are still rendered together."""
    scene = load_scene(small_folder, report=lambda _: None)
    lens, photo = scene.lenses[0], scene.photos[1]
    narrow = dataclasses.replace(lens, width=lens.width // 2)
    photos = (scene.photos[0], dataclasses.replace(photo, lens=1), *scene.photos[2:])
    with Image.open(photo.file) as image:
        image.crop((0, 0, narrow.width, narrow.height)).save(tmp_path / "narrow.png")
    photos = tuple(dataclasses.replace(p, file=tmp_path / "narrow.png") if p.lens == 1 else p for p in photos)
    folder = tmp_path / "scene"
    save_scene(dataclasses.replace(scene, lenses=(lens, narrow), photos=photos), folder)
    pipeline, _, _ = open_scene(folder, TrainConfig(), lambda _: None)
    generator = torch.Generator().manual_seed(0)
    pipeline.environment.map.data.copy_(torch.randn(pipeline.environment.map.shape, generator=generator))
    pair, crop = torch.tensor([0, 1]), torch.tensor([[1.0, 20.0, 30.0]]).repeat(2, 1)
    camera = pipeline.camera(pair, crop, (64, 64))
    with torch.no_grad():
        both = pipeline.render(camera, ViewInfo((0, 1), pixel_angle(camera))).levels.features[0]
        each = [
            pipeline.render(camera[i], ViewInfo((i,), pixel_angle(camera))).levels.features[0]
            for i in range(2)
        ]
    assert float((both - torch.cat(each)).abs().max()) < 0.05


@pytest.mark.long
@pytest.mark.parametrize(("backend", "launches"), [("reference", False), ("auto", True)])
def test_the_chosen_backend_runs_everything(
    tiny_folder: Path, tmp_path: Path, backend: Backend, launches: bool
) -> None:
    """With `--render.backend reference` a whole run launches no kernel: start, refinement, steps, evaluation, renders."""
    config = TrainConfig(
        steps=2,
        crop=48,
        test_every=6,
        bf16=False,
        render=RenderConfig(levels=4, backend=backend),
        grow=GrowConfig(longest_side=120, max_photos=2),
        densify=DensifyConfig(max_points=25_000),
        refine=RefineConfig(align_every=1, align_photos=1, align=AlignConfig(longest_side=120, iterations=1)),
    )
    with count_launches() as counted:
        train(tiny_folder, tmp_path / "run", config, say=lambda _: None)
        run = load(tmp_path / "run", tiny_folder, say=lambda _: None)
        run.render(run.pipeline.camera(torch.tensor([1])).scaled(0.25))
    assert (counted.total() > 0) == launches
