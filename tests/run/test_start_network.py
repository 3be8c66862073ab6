"""The network that a run starts from: the one that comes with adop, another run's, or none."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from adop.config import NetworkConfig, RenderConfig, TrainConfig
from adop.errors import UserError
from adop.export.export import export_run
from adop.run.photos.photo_lookup import ready_photos
from adop.run.run import Run, load, new_run
from adop.run.start_network import SHIPPED, start_network
from support.networks import network_of

CONFIG = TrainConfig(device="cpu", test_every=3)


def run_of(scene: Path, **network: object) -> Run:
    config = dataclasses.replace(CONFIG, network=dataclasses.replace(CONFIG.network, **network))  # type: ignore[arg-type]
    torch.manual_seed(0)
    return new_run(scene, Path(), config, lambda _: None)


def mean_error(run: Run) -> float:
    """Return the mean error of the views of the held-out photos."""
    run.pipeline.photos = ready_photos(run.pipeline, run.cache, run.split["train"])
    errors = []
    for photo in run.split["held_out"]:
        camera, index = run.photo_camera(photo), torch.tensor([photo])
        with torch.no_grad():
            image = run.pipeline.photo(run.pipeline.render(camera).image, camera, index)
        target = run.cache.get(photo).permute(2, 0, 1).float() / 255
        errors.append((image[0] - target).abs().mean())
    return float(torch.stack(errors).mean())


def test_the_network_that_ships_shows_more_before_any_training(tiny_folder: Path) -> None:
    fresh, said = run_of(tiny_folder), list[str]()
    before = network_of(fresh)
    run = run_of(tiny_folder)
    start_network(run, said.append)
    assert len(said) == 1 and said[0].startswith("network: starts from the one that comes with adop")
    assert not torch.equal(network_of(run), before)
    assert mean_error(run) < 0.95 * mean_error(fresh)


@pytest.mark.parametrize("network", [{"start": "none"}, {"width": 16}, {"kind": "none"}])
def test_other_networks_start_from_nothing(tiny_folder: Path, network: dict[str, object]) -> None:
    run, said = run_of(tiny_folder, **network), list[str]()
    before = {name: value.clone() for name, value in run.pipeline.network.state_dict().items()}
    start_network(run, said.append)
    after = run.pipeline.network.state_dict()
    assert not said and all(torch.equal(value, after[name]) for name, value in before.items())


def test_the_network_of_another_run_is_taken(trained_folder: Path, tiny_folder: Path, tmp_path: Path) -> None:
    other, said = load(trained_folder), list[str]()
    file = tmp_path / "network.safetensors"
    export_run(other, "network", file, report=lambda _: None)
    for start in (trained_folder, file):
        config = TrainConfig(
            device="cpu", render=RenderConfig(levels=4), network=NetworkConfig(start=str(start))
        )
        run = new_run(tiny_folder, Path(), config, lambda _: None)
        assert not torch.equal(network_of(run), network_of(other))
        start_network(run, said.append)
        assert torch.equal(network_of(run), network_of(other))
    assert said == [f"network: starts from that of {start}" for start in (trained_folder, file)]


def test_a_network_that_does_not_fit_is_refused(
    trained_folder: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    damaged = tmp_path / "damaged.safetensors"
    damaged.write_bytes((SHIPPED / "light_24.safetensors").read_bytes()[:-8] + bytes(8))
    for start, problem in (
        (trained_folder, "has another kind or size than this run's"),
        (tiny_folder, "has no checkpoint whose network"),
        (tmp_path / "missing", "cannot be read"),
        (tiny_folder / "dataset.ini", "is not a readable checkpoint"),
        (damaged, "its hash is not that of its content; choose another network"),
    ):
        with pytest.raises(UserError, match=problem):
            start_network(run_of(tiny_folder, start=str(start)), lambda _: None)
