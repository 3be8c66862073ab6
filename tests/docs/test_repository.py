"""The repository's own files agree with each other and with the code."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from typing import Any

import pytest

import adop

ROOT = Path(__file__).parents[2]
PAGES = ("README.md", "CONTRIBUTING.md", "scenes/README.md", "docs/python.md")

pytestmark = pytest.mark.skipif(
    not (ROOT / "pyproject.toml").is_file(), reason="the repository is not beside the tests"
)


@pytest.fixture(scope="module")
def project() -> dict[str, Any]:
    """What pyproject.toml holds."""
    tomllib = pytest.importorskip("tomllib", reason="needs Python 3.11")
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def sources() -> list[Path]:
    """The project's Python files, each once."""
    folders = ("adop", "viewer", "scenes", "docs")
    files = [file for folder in folders for file in (ROOT / folder).rglob("*.py")]
    return [file for file in files if not any(parent.is_symlink() for parent in file.parents)]


def test_extras_that_are_named_exist(project: dict[str, Any]):
    extras = set(project["project"]["optional-dependencies"])
    named: set[str] = set()
    for file in [*sources(), *(ROOT / page for page in PAGES)]:
        named |= set(re.findall(r"(?:adop|\.)\[([a-z-]+)\]['\"`]", file.read_text()))
    assert {"cuda", "test", "tensorboard"} <= named
    assert named - extras == set()


def test_every_package_is_in_the_wheel(project: dict[str, Any]):
    folders = {"adop": "adop", "kernels": "adop.kernels", "scenes": "adop.scenes", "viewer": "adop.viewer"}
    found = set()
    for folder, package in folders.items():
        for file in (ROOT / folder).rglob("__init__.py"):
            if not any(parent.is_symlink() for parent in file.parents):
                found.add(".".join([package, *file.parent.relative_to(ROOT / folder).parts]))
    assert sorted(project["tool"]["setuptools"]["packages"]) == sorted(found)


def test_the_version_is_the_same_everywhere(project: dict[str, Any]):
    assert project["project"]["version"] == adop.__version__
    assert f"\nversion: {adop.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    assert f"\n## [{adop.__version__}]" in (ROOT / "CHANGELOG.md").read_text()


def test_hooks_and_tests_use_the_same_versions(project: dict[str, Any]):
    hooks = (ROOT / ".pre-commit-config.yaml").read_text()
    pinned = [name for name in project["project"]["optional-dependencies"]["test"] if "==" in name]
    assert len(pinned) >= 2
    for requirement in pinned:
        if not requirement.startswith("mypy"):
            assert f"[{requirement}]" in hooks, requirement


def test_options_are_spelt_with_hyphens():
    """In pages, help, messages and comments alike; values and Python names may have underscores."""
    for file in [*sources(), *(ROOT / page for page in PAGES)]:
        wrong = re.findall(r"(?<![\w-])--[a-z][a-z.-]*_[\w.-]*", file.read_text())
        assert wrong == [], f"{file.relative_to(ROOT)}: {wrong}"


def test_renamed_options_are_in_the_changelog():
    from adop.config.files import REMOVED, RENAMED

    text = (ROOT / "CHANGELOG.md").read_text()
    for former in (*RENAMED, *REMOVED):
        if former not in ("groups", "optim", "lr.pose"):
            assert f"`--{former.replace('_', '-')}`" in text, former


def test_names_of_adop_in_texts_exist():
    """Every `adop.module.name` that a docstring, a comment or a page quotes can be imported."""
    files = [
        *ROOT.glob("*.md"),
        *(f for name in ("adop", "docs", "scenes", "viewer") for f in (ROOT / name).rglob("*")),
    ]
    texts = {f: f.read_text() for f in files if f.suffix in (".py", ".md") and f.name != "CHANGELOG.md"}
    names = {(file, name) for file, text in texts.items() for name in re.findall(r"`(adop(?:\.\w+)+)`", text)}
    assert len(names) > 10
    assert [f"{file.name}: {name}" for file, name in sorted(names) if not _exists(name)] == []


def _exists(name: str) -> bool:
    parts = name.split(".")
    for count in range(len(parts), 0, -1):
        try:
            found: object = importlib.import_module(".".join(parts[:count]))
        except ImportError:
            continue
        for attribute in parts[count:]:
            found = getattr(found, attribute, None)
        return found is not None
    return False


def test_files_that_ci_names_exist():
    named = re.findall(r"\b(?:tests|adop|kernels)/[\w/]+\.\w+", (ROOT / ".ci" / "run").read_text())
    assert named and [file for file in named if not (ROOT / file).is_file()] == []
