"""Configurations: presets, files, former names, and clear refusals."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest

from adop.config import TrainConfig, load_config, preset, save_config
from adop.config.files import REMOVED, RENAMED
from adop.errors import UserError


def load(values: dict[str, Any], folder: Path) -> tuple[TrainConfig, list[str]]:
    """Return the configuration that a file with these values holds, and what was said about it."""
    path, said = folder / "config.json", []
    path.write_text(json.dumps(values))
    return load_config(path, said.append), said


@pytest.mark.parametrize("name", ["quick", "gpu", "large"])
def test_round_trip(name: str, tmp_path: Path):
    config = dataclasses.replace(preset(name), minutes=3.5, scene="somewhere")
    save_config(config, tmp_path / "config.json")
    said: list[str] = []
    assert load_config(tmp_path / "config.json", said.append) == config
    assert said == []


def test_some_values_are_laid_over_their_preset(tmp_path: Path):
    config, _ = load({"preset": "gpu", "lr": {"features": 0.5}, "minutes": 2}, tmp_path)
    assert config.lr.features == 0.5
    assert config.steps == preset("gpu").steps
    assert config.minutes == 2


def test_the_former_name_of_a_preset_works_with_a_sentence(tmp_path: Path):
    config, said = load({"preset": "default", "steps": 5}, tmp_path)
    assert config == dataclasses.replace(preset("gpu"), steps=5)
    assert len(said) == 1 and "'default' is called 'gpu' now" in said[0]
    said.clear()
    assert preset("default", said.append) == preset("gpu") and len(said) == 1


def test_former_names_of_options_work_with_a_sentence(tmp_path: Path):
    config, said = load(
        {
            "hold_out": 5,
            "groups": {"points": "on", "poses": 7},
            "optim": {"pose": 0.5, "final": 0.25},
            "render": {"unseen_views": 2},
            "grow": {"side": 100},
            "refine": {
                "every": 9,
                "align": {"enough": 0.5, "rounds": 2},
                "points": {"piece": 0.005, "cubes": False},
            },
        },
        tmp_path,
    )
    assert config.test_every == 5
    assert (config.learn.points, config.learn.poses) == ("on", 7)
    assert (config.lr.poses, config.lr.final) == (0.5, 0.25)
    assert config.render.extrapolation_views == 2
    assert config.grow.longest_side == 100
    assert (config.refine.align_every, config.refine.align.iterations) == (9, 2)
    assert config.refine.align.converged_px == 0.5
    assert config.refine.points.sizes == (0.03, 0.005, 0.0025)
    assert config.refine.points.grouped is False
    assert len(said) == 1 and "hold_out is test_every" in said[0] and "CHANGELOG.md" in said[0]


def test_options_that_are_constants_now_are_named_where_they_differ(tmp_path: Path):
    former = {"refine": {"align": {"sigma": 0.7}}, "grow": {"depths": [1.0, 0.9, 1.1, 0.75, 1.3]}}
    assert load(former, tmp_path) == (preset("quick"), [])
    former["grow"]["coherence"] = 0.5
    config, said = load(former, tmp_path)
    assert config == preset("quick")
    assert len(said) == 1 and "grow.coherence" in said[0] and "sigma" not in said[0]


def test_a_list_of_any_length_is_read_as_it_is(tmp_path: Path):
    config, said = load({"densify": {"scales": [0.5, 2]}}, tmp_path)
    assert config.densify.scales == (0.5, 2.0) and not said


def test_former_names_lead_to_present_options():
    for former, name in RENAMED.items():
        stage: Any = TrainConfig()
        for part in former.split(".")[:-1]:
            stage = getattr(stage, part)
        names = {field.name for field in dataclasses.fields(stage)}
        assert name.split(".")[0] in names, former
        assert former.split(".")[-1] not in names, former
    for former in REMOVED:
        stage = TrainConfig()
        *stages, last = former.split(".")
        for part in stages:
            stage = getattr(stage, part)
        assert last not in {field.name for field in dataclasses.fields(stage)}, former


def test_a_stage_has_at_most_twelve_options():
    def check(config: Any) -> None:
        for field in dataclasses.fields(config):
            stage = getattr(config, field.name)
            if dataclasses.is_dataclass(stage):
                assert len(dataclasses.fields(stage)) <= 12, field.name
                check(stage)

    check(TrainConfig())


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "JSON object"),
        ('{"stepz": 1}', "unknown key 'stepz'"),
        ('{"lr": {"features": "fast"}}', "must be a number"),
        ('{"lr": 3}', "must be an object"),
        ('{"optim": 3}', "lr must be an object"),
        ('{"steps": 1.5}', "whole number"),
        ('{"steps": true}', "must be a whole number"),
        ('{"steps": null}', "must be a whole number"),
        ('{"loss": {"l1": true}}', "must be a number"),
        ('{"zoom": [1]}', "must have 2 numbers"),
        ('{"densify": {"scales": [1, "two"]}}', "must be a list of numbers"),
        ('{"zoom": 1}', "must be a list of 2 numbers"),
        ('{"preset": "huge"}', "quick, gpu or large"),
        ('{"network": {"kind": 3}}', "must be a text"),
        ('{"network": {"kind": "big"}}', "must be one of light, decoder, unet, none, not 'big'"),
        ('{"learn": {"poses": -1}}', "must be on, off, or the step"),
        ('{"minutes": "two"}', "minutes must be a number"),
        ('{"bf16": 1}', "bf16 must be true or false"),
        ('{"environment": {"height": 64.0}}', "height must be a whole number"),
        ('{"loss": {"vgg_weights": 3}}', "vgg_weights must be a text"),
    ],
)
def test_refusals_name_file_and_key(content: str, says: str, tmp_path: Path):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match=says) as refused:
        load_config(path)
    assert str(path) in str(refused.value)


def test_a_whole_configuration_of_version_0_1_0_loads():
    """The file was written by that version, with all of its options."""
    said: list[str] = []
    config = load_config(Path(__file__).parent / "config_0.1.0.json", said.append)
    assert (config.test_every, config.crop, config.refine.align_every) == (8, 96, 20)
    assert config.refine.points.grouped and config.refine.points.sizes == (0.03, 0.0075, 0.0025)
    assert len(said) == 1 and "former names" in said[0]
    assert config.network.photos == 0  # a run of that time has a network without them


def test_a_run_keeps_what_it_did_before_options_were_added(tmp_path: Path):
    path, whole = tmp_path / "config.json", dataclasses.asdict(TrainConfig())
    for missing, photos, start in (
        (("photos", "start"), 0, "none"),
        (("start",), 4, "none"),
        (("photos",), 4, "auto"),  # no run: a file with some options
        ((), 4, "auto"),
    ):
        network = {name: value for name, value in whole["network"].items() if name not in missing}
        path.write_text(json.dumps(whole | {"network": network}))
        config = load_config(path)
        assert (config.network.photos, config.network.start) == (photos, start)
