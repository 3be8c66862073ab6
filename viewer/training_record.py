"""The recorded training of a run that is not being trained."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

MAX_ROWS = 2000  # of the training curves


class TrainingRecord:
    """The training curves of a run that is not being trained, from its metrics.jsonl."""

    def __init__(self, folder: Path, step: int) -> None:
        self._step = step
        file = folder / "metrics.jsonl"
        lines = file.read_text(encoding="utf-8", errors="replace").splitlines() if file.is_file() else []
        rows = [row for row in map(_parse_row, lines) if row is not None]
        self._rows = rows[:: max(1, math.ceil(len(rows) / MAX_ROWS))]

    def status(self) -> dict[str, Any]:
        """Return the step; nothing is being trained."""
        return {"live": False, "step": self._step}

    def history(self, since: int) -> list[list[float]]:
        """Return the rows (index, step, loss, PSNR) of the training curves from index `since` on."""
        return [[i, *row] for i, row in enumerate(self._rows)][since:]

    def command(self, action: str) -> None:
        """Ignore the action, as nothing is being trained."""


def _parse_row(line: str) -> list[float] | None:
    """Return step, loss and PSNR of a line of metrics.jsonl, or None where the line has no finite ones."""
    try:
        values = json.loads(line)
        row = [float(values[name]) for name in ("step", "loss", "psnr")]
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return None
    return row if all(math.isfinite(value) for value in row) else None
