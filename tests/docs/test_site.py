"""The documentation site: every page builds, every link leads somewhere, and the pages say what there is."""

import os
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]

pytestmark = [
    pytest.mark.skipif(not (ROOT / "mkdocs.yml").is_file(), reason="mkdocs.yml is not beside the tests"),
    pytest.mark.long,
]


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder of the site, built where every warning, as of a dead link, is an error."""
    pytest.importorskip("mkdocs", reason="mkdocs is not installed (pip install '.[docs]')")
    os.environ["NO_MKDOCS_2_WARNING"] = "1"
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    build(load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True))
    return folder


def test_every_command_has_its_options(site: Path):
    from adop.cli.commands import COMMANDS

    page = (site / "commands" / "index.html").read_text()
    for name in COMMANDS:
        assert f"usage: adop {name} " in page, name
    assert "--steps" in page and "--turntable" in page


def test_the_pages_load_nothing_from_elsewhere(site: Path):
    for page in site.rglob("*.html"):
        elsewhere = r'<(?:script|link)[^>]*(?:src|href)="https?://[^"]+\.(?:js|css)"'
        assert not re.search(elsewhere, page.read_text()), page


def test_the_scene_folder_is_described(site: Path):
    assert "world_offset" in (site / "scene-folder" / "index.html").read_text()
