"""`adop info`: the same facts as text and as JSON."""

import json
from pathlib import Path

import pytest

from adop.cli.tools import info_command


def test_the_facts_are_text_or_json(small_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    assert info_command("adop info", [str(small_folder), "--json", str(tmp_path / "info.json")]) == 0
    text = capsys.readouterr().out
    values = json.loads((tmp_path / "info.json").read_text())
    assert all(fact in text for fact in values["facts"].values())
    assert all(photo["name"] in text for photo in values["photos"])
    assert info_command("adop info", [str(small_folder), "--json", "-"]) == 0
    assert json.loads(capsys.readouterr().out) == values
