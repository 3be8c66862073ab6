"""Places where no file can be written: the command line says so in one sentence."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from adop.__main__ import _run
from adop.cli.tools import info_command


def test_json_is_written_into_a_new_folder(tiny_folder: Path, tmp_path: Path) -> None:
    path = tmp_path / "new" / "scene.json"
    assert _run(info_command, "adop info", [str(tiny_folder), "--json", str(path)]) == 0
    assert json.loads(path.read_text())


@pytest.mark.parametrize("name", ["x" * 300, "file/inside.json"])
def test_an_impossible_place_is_one_sentence(
    name: str, tiny_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").write_text("")
    assert _run(info_command, "adop info", [str(tiny_folder), "--json", str(tmp_path / name)]) == 2
    said = capsys.readouterr().err
    assert said.startswith("adop: ") and "choose another place" in said and said.count("\n") == 1
