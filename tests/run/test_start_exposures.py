"""The exposures from which training starts: EXIF data, as far as the photos bear it out."""

import dataclasses
from pathlib import Path

import pytest
import torch

from adop.config import TrainConfig
from adop.initialisation.photometry import PointSamples, sample_points
from adop.run.photos.scene_photos import start_exposures
from adop.run.run import Run, new_run


@pytest.fixture(scope="module")
def sampled(small_folder: Path) -> tuple[Run, dict[int, PointSamples]]:
    """Return an untrained run of the small scene, and what each photo shows at the points."""
    run = new_run(small_folder, Path("unused"), TrainConfig(test_every=6), lambda _: None)
    return run, {photo: sample_points(run.pipeline, run.cache, photo) for photo in run.split["train"]}


def started(
    sampled: tuple[Run, dict[int, PointSamples]], changes: dict[int, float | None], exposure: str = "exif"
) -> tuple[torch.Tensor, str, bool]:
    """Return the exposures, what is said, and whether EXIF is used, with the EV of some photos changed."""
    run, samples = sampled
    photos = tuple(
        dataclasses.replace(photo, exposure=changes.get(index, photo.exposure))
        for index, photo in enumerate(run.scene.photos)
    )
    scene = dataclasses.replace(run.scene, photos=photos)
    config = dataclasses.replace(run.config, exposure=exposure)
    said: list[str] = []
    run.pipeline.tonemapper.exposure_trust.fill_(0.15)
    start_exposures(scene, config, run.pipeline, samples, said.append)
    tonemapper = run.pipeline.tonemapper
    return tonemapper.exposure_start.clone(), "\n".join(said), tonemapper.from_exif


def test_one_wrong_exposure_is_named_and_changes_nothing_else(sampled: tuple[Run, dict[int, PointSamples]]):
    run, _ = sampled
    right, said, from_exif = started(sampled, {})
    assert from_exif and said == ""
    wrong = run.split["train"][3]
    given = run.scene.photos[wrong].exposure
    assert given is not None
    found, said, from_exif = started(sampled, {wrong: given + 5})
    assert from_exif and float((found - right).abs().max()) < 0.7
    assert said.count("\n") == 0 and f"{run.scene.photos[wrong].name} (+" in said and "is not used" in said


def test_missing_exposures_are_estimated(sampled: tuple[Run, dict[int, PointSamples]]):
    run, _ = sampled
    right, _, _ = started(sampled, {})
    found, said, from_exif = started(sampled, {run.split["train"][2]: None})
    assert from_exif and float((found - right).abs().max()) < 0.7
    assert said.startswith(f"exposure: 1 of {len(run.scene.photos)} photos have no EXIF data")


def test_exposures_that_an_editor_undid_are_not_used(sampled: tuple[Run, dict[int, PointSamples]]):
    run, _ = sampled
    undone = {photo: 10.0 + 3 * (place % 3) for place, photo in enumerate(run.split["train"])}
    found, said, from_exif = started(sampled, undone)
    assert not from_exif and "do not follow their EXIF data" in said
    estimated, said, from_exif = started(sampled, {}, "photos")
    assert not from_exif and said == ""
    train = run.split["train"]
    assert float((found - estimated)[train].abs().max()) < 0.1


def test_exposures_may_be_left_alike(sampled: tuple[Run, dict[int, PointSamples]]):
    found, said, from_exif = started(sampled, {}, "none")
    assert not from_exif and said == "" and not found.any()
