"""Commands that are not there, and outputs that cannot be written."""

from pathlib import Path

import pytest

from support.command_line import status_of


@pytest.mark.parametrize(
    ("words", "proposal"),
    [
        (["trian"], "did you mean `adop train`?"),
        (["redner", "RUN"], "did you mean `adop render`?"),
        (["import", "colmpa", "SPARSE"], "did you mean `adop import colmap`?"),
        (["bench", "quailty"], "did you mean `adop bench quality`?"),
        (["xyzzy"], "there are train, eval, "),
    ],
)
def test_an_unknown_command_is_refused_with_the_nearest(words: list[str], proposal: str, capsys, monkeypatch):
    assert status_of(words, monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith("adop: there is no command ") and proposal in said and said.count("\n") == 1


@pytest.mark.parametrize("words", [["import"], ["import", "--help"], ["bench"]])
def test_a_group_of_commands_shows_its_commands(words: list[str], capsys, monkeypatch):
    assert status_of(words, monkeypatch) == 0
    shown = capsys.readouterr().out
    assert f"adop {words[0]} " in shown and "adop train" not in shown


@pytest.mark.parametrize(
    "words",
    [
        ["train", "--output", "file"],
        ["view", "RUN", "--output", "file"],
        ["compare", "RUN", "OTHER", "--output", "file"],
        ["compare", "RUN", "OTHER", "--output", "new", "--json", "folder"],
        ["render", "RUN", "--path", "--output", "file/walk.mp4"],
        ["render", "RUN", "--path", "--output", "file"],
        ["render", "RUN", "--photo", "0", "--output", "folder"],
        ["import", "colmap", "SPARSE", "--images", "DIR", "--output", "file/scene"],
        ["import", "nerfstudio", "transforms.json", "--output", "file"],
        ["capture", "PHOTOS", "--output", "file"],
        ["densify", "SCENE", "--output", "file/scene"],
        ["bench", "raster", "--json", "folder"],
        ["bench", "quality", "--output", "file"],
        ["doctor", "--compile-matrix", "--json", "file/x.json"],
    ],
)
def test_an_output_that_cannot_be_written_is_said_before_the_work(
    words: list[str], tmp_path: Path, capsys, monkeypatch
):
    (tmp_path / "file").write_text("precious")
    (tmp_path / "folder").mkdir()
    monkeypatch.chdir(tmp_path)
    assert status_of(words, monkeypatch) == 2
    said = capsys.readouterr().err
    assert said.startswith(f"adop: {tmp_path}/") and said.count("\n") == 1
    assert (tmp_path / "file").read_text() == "precious" and len(list(tmp_path.iterdir())) == 2
