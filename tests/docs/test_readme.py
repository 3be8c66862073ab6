"""What the README shows is there and runs."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"

pytestmark = pytest.mark.skipif(not README.is_file(), reason="README.md is not beside the tests")


def test_the_python_example_runs(trained_folder: Path, tmp_path: Path):
    (tmp_path / "runs").mkdir()
    (tmp_path / "runs" / "demo").symlink_to(trained_folder)
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(), flags=re.DOTALL)
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "360, 480" in done.stdout


def test_every_command_exists():
    from adop.cli.commands import COMMANDS

    used = re.findall(r"(?:bin/|`)adop ((?:import |bench )?[a-z]+)", README.read_text())
    assert used
    assert {name for name in used if name not in COMMANDS} == set()


def test_pictures_are_there():
    pictures = re.findall(r"!\[[^\]]*\]\(([^)]+)\)", README.read_text())
    assert pictures and all((ROOT / picture).is_file() for picture in pictures)
