"""What the pages in docs/ show is there and runs."""

from __future__ import annotations

import doctest
import importlib
import inspect
import os
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"

pytestmark = pytest.mark.skipif(not DOCS.is_dir(), reason="docs/ is not beside the tests")


@pytest.fixture
def workplace(trained_folder: Path, tmp_path: Path) -> Path:
    """A folder with a run in runs/demo."""
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(trained_folder)
    return tmp_path


def python(*arguments: str, folder: Path) -> str:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        env=dict(os.environ),
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.long
def test_the_python_page_runs(workplace: Path):
    blocks = re.findall(r"```python\n(.*?)```", (DOCS / "python.md").read_text(), flags=re.DOTALL)
    assert len(blocks) >= 8
    said = python("-c", "\n".join(blocks), folder=workplace)
    assert "torch.Size([1, 3, 180, 320])" in said and "torch.Size([3, 3, 120, 160])" in said
    first, last = re.search(r"([\d.]+) -> ([\d.]+)", said).groups()  # type: ignore[union-attr]
    assert float(last) < 0.8 * float(first)
    assert re.search(r"^3 [0-9.]+$", said, flags=re.MULTILINE) and (workplace / "view.png").is_file()


def shell_lines() -> list[list[str]]:
    """The commands of adop that README and docs show, each once, without the path to the program."""
    lines = {}
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for block in re.findall(r"```sh\n(.*?)```", page.read_text(), flags=re.DOTALL):
            for line in block.splitlines():
                for part in line.split("&&"):
                    words = shlex.split(part, comments=True)
                    if words and words[0].endswith("/adop"):
                        lines[tuple(words[1:])] = words[1:]
    return list(lines.values())


@pytest.mark.long
def test_the_commands_that_pages_show_run(
    workplace: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    """Renders and scores run, of fewer and smaller frames; of the others, every option exists."""
    from adop.cli.commands import COMMANDS

    monkeypatch.chdir(workplace)
    Path("runs", "mine").symlink_to(Path("runs", "demo").resolve())
    lines = shell_lines()
    assert {"train", "view", "render", "eval", "import", "info"} <= {line[0] for line in lines}
    for line in lines:
        words = 2 if line[0] in ("import", "bench") else 1
        name, rest = " ".join(line[:words]), line[words:]
        if name == "render":
            follows_path = {"--path", "--turntable", "--spiral", "--interpolate"} & set(line)
            smaller = ["--seconds", "0.1", "--width", "96"] if follows_path else []
            if "--projection" in line:
                smaller = ["--width", "96"]
            assert COMMANDS[name](f"adop {name}", [*rest, *smaller]) == 0
            output = workplace / line[line.index("--output") + 1]
            assert list(output.parent.glob(output.name + "*")), line
        elif name == "eval":
            assert COMMANDS[name](f"adop {name}", rest) == 0 and "held-out" in capsys.readouterr().out
        else:
            with pytest.raises(SystemExit, match="0"):
                COMMANDS[name](f"adop {name}", ["--help"])
            explained = capsys.readouterr().out
            for option in (word for word in line if word.startswith("--")):
                assert option in explained, f"{line}: {option}"


def test_a_photo_is_localised(workplace: Path):
    said = python(str(DOCS / "examples" / "localise.py"), "runs/demo", "1", folder=workplace)
    (turned, off), (left, still) = re.findall(r"([\d.]+) degrees and ([\d.]+) %", said)
    assert float(turned) > 0.9 and float(off) > 2
    # A third of the points and three steps; a whole run of all leaves a twentieth.
    assert float(left) < 0.4 * float(turned) and float(still) < 0.2 * float(off)


def test_the_api_pages_are_built_from_docstrings(tmp_path: Path):
    pytest.importorskip("pdoc", reason="pdoc is not installed (pip install '.[docs]')")
    python(str(DOCS / "make_api.py"), str(tmp_path / "api"), folder=tmp_path)
    page = (tmp_path / "api" / "adop.html").read_text()
    for name in ("render_cameras", "Camera", "rasterize", "CameraSettings"):
        assert f'id="{name}"' in page, name


def test_public_names_are_documented_and_examples_in_docstrings_are_true():
    import adop

    for name in adop.__all__:
        assert inspect.getdoc(getattr(adop, name)), name
    found = 0
    for module in ("adop.ops", "adop.geometry.camera", "adop.render.camera_settings"):
        result = doctest.testmod(importlib.import_module(module))
        assert result.failed == 0, module
        found += result.attempted
    assert found >= 8


def test_pictures_and_files_that_pages_name_are_there():
    for page in (ROOT / "README.md", *DOCS.glob("*.md")):
        for file in re.findall(r"(?:\]\(|`)(docs/[\w./-]+\.(?:jpg|png|py|md))", page.read_text()):
            assert (ROOT / file).is_file(), f"{page.name}: {file}"
