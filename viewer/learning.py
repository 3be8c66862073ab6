"""What the page shows of training: a run's record, or a training under way that can be paused."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

MOST_ROWS = 2000  # of the curves


class Record:
    """The curves of a run that is not being trained, from its metrics.jsonl."""

    def __init__(self, folder: Path, step: int) -> None:
        self._rows: list[list[float]] = []
        file = folder / "metrics.jsonl"
        for line in file.read_text().splitlines() if file.is_file() else []:
            row = _row(line)
            if row is not None:
                self._rows.append(row)
        self._rows = self._rows[:: max(1, math.ceil(len(self._rows) / MOST_ROWS))]
        self._step = step

    def status(self) -> dict[str, Any]:
        """Return that nothing is being trained."""
        return {"live": False, "step": self._step}

    def history(self, since: int) -> list[list[float]]:
        """Return rows (index, step, loss, PSNR) from index `since` on."""
        return [[i, *row] for i, row in enumerate(self._rows)][since:]

    def command(self, action: str) -> None:
        """Do nothing: there is nothing to pause."""


def _row(line: str) -> list[float] | None:
    try:
        values = json.loads(line)
        row = [float(values[name]) for name in ("step", "loss", "psnr")]
    except (ValueError, KeyError, TypeError):
        return None
    return row if all(math.isfinite(value) for value in row) else None
