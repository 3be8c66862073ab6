"""Limits that ruff does not check: sizes of files, functions and folders, and the order of imports."""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("adop", "docs", "kernels", "scenes", "tests", "viewer")
MAPPED = ("kernels", "scenes", "viewer")  # setuptools puts these folders into adop
SOURCE_SUFFIXES = {".py", ".cpp", ".cu", ".h", ".js"}
MAX_FILE_LINES = 400
MAX_FUNCTION_LINES = 60
MAX_FOLDER_MODULES = 9
MAX_EXCEPTIONS = 6  # in the whole repository


def sources(suffixes: set[str]) -> list[Path]:
    """Return the repository's source files, without generated pages; a folder that is linked into adop/ counts once."""
    files = [*ROOT.glob("*.py"), *(file for name in FOLDERS for file in (ROOT / name).rglob("*"))]
    left_out = {ROOT / "docs" / "api", *(ROOT / "adop" / name for name in MAPPED)}
    return sorted(file for file in files if file.suffix in suffixes and not left_out & set(file.parents))


def name_of(file: Path) -> str:
    return file.relative_to(ROOT).as_posix()


def test_files_are_short() -> None:
    lengths = {name_of(file): len(file.read_text().splitlines()) for file in sources(SOURCE_SUFFIXES)}
    assert len(lengths) > 100
    assert {name: length for name, length in lengths.items() if length > MAX_FILE_LINES} == {}


def test_python_functions_are_short() -> None:
    long = {}
    for file in sources({".py"}):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                length = (node.end_lineno or node.lineno) - node.lineno + 1
                if length > MAX_FUNCTION_LINES:
                    long[f"{name_of(file)}:{node.lineno} {node.name}"] = length
    assert long == {}


def test_folders_are_small() -> None:
    modules = [
        file
        for file in sources({".py"})
        if name_of(file).startswith(("adop/", "scenes/", "viewer/")) and file.name != "__init__.py"
    ]
    folders = Counter(name_of(file.parent) for file in modules)
    assert {"adop/ops", "viewer/session", "scenes"} <= folders.keys()
    assert {folder: count for folder, count in folders.items() if count > MAX_FOLDER_MODULES} == {}


def test_exceptions_from_the_limits_are_few_and_give_a_reason() -> None:
    exceptions = []
    for file in sources({".py"}):
        for number, line in enumerate(file.read_text().splitlines(), 1):
            found = re.search(r"#\s*(?:ruff: )?noqa:.*\b(PLR0913|C901)\b[\s,]*(.*)", line)
            if found and file != Path(__file__).resolve():
                exceptions.append((f"{name_of(file)}:{number}", found.group(2)))
    without_reason = [place for place, reason in exceptions if len(re.findall(r"[a-z]{2,}", reason)) < 2]
    assert without_reason == []
    assert len(exceptions) <= MAX_EXCEPTIONS, exceptions


def test_tests_lie_in_folders_named_after_those_of_adop() -> None:
    folders = {folder.name for folder in (ROOT / "adop").iterdir() if (folder / "__init__.py").is_file()}
    folders |= {"docs", "kernels", "scenes", "viewer"}
    tests = [file for file in sources({".py"}) if file.name.startswith("test_")]
    elsewhere = [name_of(file) for file in tests if file.parent.name not in folders]
    of_modules = [f"tests/test_{name}.py" for name in ("files", "interrupts", "progress", "ranges")]
    assert elsewhere == ["tests/test_code_limits.py", *of_modules]


def test_imports_follow_the_order_of_the_folders(tmp_path: Path) -> None:
    """The contracts of pyproject.toml hold for the sources, linked here as an installation has them."""
    package = tmp_path / "adop"
    package.mkdir()
    for source in [*(ROOT / "adop").iterdir(), *(ROOT / name for name in MAPPED)]:
        if not (package / source.name).exists():
            (package / source.name).symlink_to(source)
    program = "from importlinter.cli import lint_imports_command; lint_imports_command()"
    options = ["--no-cache", "--no-logo", str(ROOT / "pyproject.toml")]
    done = subprocess.run(
        [sys.executable, "-c", program, *options], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
