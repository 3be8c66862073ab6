"""Configuration: presets, files, and clear refusals."""

import dataclasses
import json
from pathlib import Path

import pytest

from adop.config.config import load_config, preset, save_config
from adop.errors import UserError


@pytest.mark.parametrize("name", ["quick", "default", "large"])
def test_round_trip(name: str, tmp_path: Path):
    config = dataclasses.replace(preset(name), minutes=3.5, scene="somewhere")
    save_config(config, tmp_path / "config.json")
    assert load_config(tmp_path / "config.json") == config


def test_a_part_is_laid_over_its_preset(tmp_path: Path):
    path = tmp_path / "part.json"
    path.write_text(json.dumps({"preset": "default", "lr": {"features": 0.5}, "minutes": 2}))
    config = load_config(path)
    assert config.lr.features == 0.5
    assert config.steps == preset("default").steps
    assert config.minutes == 2


@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("{", "not JSON"),
        ("[1]", "JSON object"),
        ('{"stepz": 1}', "unknown key 'stepz'"),
        ('{"lr": {"features": "fast"}}', "must be a number"),
        ('{"lr": 3}', "must be an object"),
        ('{"steps": 1.5}', "whole number"),
        ('{"steps": true}', "must be"),
        ('{"zoom": [1]}', "must have 2 numbers"),
        ('{"preset": "huge"}', "quick, default or large"),
        ('{"network": {"kind": 3}}', "must be a text"),
        ('{"minutes": "two"}', "minutes must be a number"),
        ('{"bf16": 1}', "bf16 must be true or false"),
        ('{"environment": {"height": 64.0}}', "height must be a whole number"),
        ('{"loss": {"vgg_weights": 3}}', "vgg_weights must be a text"),
    ],
)
def test_refusals_name_file_and_key(content: str, says: str, tmp_path: Path):
    path = tmp_path / "bad.json"
    path.write_text(content)
    with pytest.raises(UserError, match=says):
        load_config(path)
