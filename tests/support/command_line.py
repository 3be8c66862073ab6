"""The command line as a user types it, in this process."""

import sys

import pytest

from adop.__main__ import main


def status_of(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int | str | None:
    """Return the exit status of the command line."""
    monkeypatch.setattr(sys, "argv", ["adop", *words])
    with pytest.raises(SystemExit) as ended:
        main()
    return ended.value.code
