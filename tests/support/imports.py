"""What the tests of all importers share."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from adop.errors import UserError
from adop.importers.import_config import ImportConfig
from adop.scene.point_cloud import PrepareConfig
from support.mutations import is_one_sentence

PLAIN = ImportConfig(prepare=PrepareConfig(normals=False))


def silent(_: str) -> None:
    """Report nothing."""


def assert_refused(importing: Callable[[], object], expected: str, folder: Path) -> None:
    """Check that an import ends in one sentence that matches and names a file, and that it writes no scene."""
    with pytest.raises(UserError, match=expected) as caught:
        importing()
    text = str(caught.value)
    assert is_one_sentence(text, folder) and len(text) < 600, text
    assert not (folder / "scene").exists()
