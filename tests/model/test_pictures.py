"""Pictures ask a GPU for nothing while they are rendered, so that it can replay them as CUDA graphs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from adop.backend.graphs import copied, kind_of
from adop.config import TrainConfig
from adop.geometry import lens_model
from adop.model.views import extrapolation
from adop.run.photos.photo_lookup import ready_photos
from adop.run.run import Run, new_run
from support.waiting import draw_as_on_a_gpu, waits


@pytest.fixture(scope="module")
def run(small_folder: Path) -> Run:
    run = new_run(small_folder, Path(), TrainConfig(bf16=False), lambda _: None)
    run.pipeline.photos = ready_photos(run.pipeline, run.cache, run.split["train"], lambda _: None)
    with torch.no_grad():
        for weights in run.pipeline.network.parameters():
            weights.add_(0.01 * torch.randn(weights.shape, generator=torch.Generator().manual_seed(1)))
    return run


def inputs_of(run: Run, photo: int, moved: float = 0.5):
    """Return the inputs of a picture that looks past the edges of a photo."""
    pipeline = run.pipeline
    camera = pipeline.camera(torch.tensor([photo]))
    camera = camera.cropped(1.0, -moved * camera.width, 0.0, camera.width, camera.height)
    return pipeline._picture_inputs(pipeline.view_inputs(camera), extrapolate=True, antialias=True)


def ask_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let shortcuts be left out that only a CPU takes, which need not be waited for."""
    monkeypatch.setattr(extrapolation, "_is_empty", lambda mask: False)
    monkeypatch.setattr(lens_model, "_is_pinhole", lambda distortion: False)


@torch.no_grad()
def test_a_picture_on_a_gpu_would_wait_for_nothing(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    draw_as_on_a_gpu(monkeypatch)
    inputs = inputs_of(run, 0)
    usual = run.pipeline._picture(inputs)
    with waits() as found:
        run.pipeline._picture(inputs)
    assert found, "on a CPU it asks whether anything is to be continued"
    ask_nothing(monkeypatch)
    with waits() as found:
        unasked = run.pipeline._picture(inputs)
    assert found == []
    torch.testing.assert_close(unasked.image, usual.image)
    without = run.pipeline.render(inputs.view.camera, antialias=True)
    assert not torch.equal(without.image, usual.image), "something is continued"


@torch.no_grad()
def test_where_nothing_is_to_be_continued_a_gpu_changes_nothing(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    camera = run.pipeline.camera(torch.tensor([0])).cropped(1.0, 1e5, 0.0, 96, 64)  # sees no point
    inputs = run.pipeline._picture_inputs(run.pipeline.view_inputs(camera), extrapolate=True, antialias=False)
    usual = run.pipeline._picture(inputs)
    ask_nothing(monkeypatch)
    assert torch.equal(run.pipeline._picture(inputs).image, usual.image)


@torch.no_grad()
def test_pictures_of_one_size_are_of_one_kind_and_rendered_from_copies(run: Run) -> None:
    first, second = inputs_of(run, 0), inputs_of(run, 1, moved=0.3)
    assert kind_of(first) == kind_of(second)
    assert torch.equal(run.pipeline._picture(copied(second)).image, run.pipeline._picture(second).image)
