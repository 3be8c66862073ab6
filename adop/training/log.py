"""What a run reports during training: metrics.jsonl, TensorBoard files where it is installed, a line of progress."""

from __future__ import annotations

import importlib.util
import json
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from adop.files import append_line, write_text
from adop.images.writers import to_uint8
from adop.progress import QUIET_SECONDS, duration
from adop.refine.align import CameraMove

if TYPE_CHECKING:
    from torch.utils.tensorboard import SummaryWriter

MEAN_OF = 50  # steps that the logged means are taken over


class Log:
    """The metrics of a run: metrics.jsonl, and TensorBoard files where TensorBoard is installed.

    Args: writes: whether this process writes them.
    """

    def __init__(
        self, folder: Path, step: int, say: Callable[[str], None] = print, writes: bool = True
    ) -> None:
        self._writes = writes
        self.path = folder / "metrics.jsonl"
        self.say = say
        self.lost = False  # whether something could not be written, as on a full disk
        self.board: SummaryWriter | None = None
        if not writes:
            return
        self.keep_until(step)
        with self._going_on():
            self.board = _open_board(folder / "tensorboard", step)
        if self.board is None and not self.lost:
            say("metrics go to metrics.jsonl only; pip install 'adop[tensorboard]' adds TensorBoard files")

    def keep_until(self, step: int) -> None:
        """Remove the metrics of later steps, which are taken again."""
        if self._writes and self.path.exists():
            lines = self.path.read_text(encoding="utf-8", errors="replace").splitlines()
            write_text(self.path, "".join(line + "\n" for line in lines if _step_of(line) <= step))

    def write(self, step: int, values: dict[str, float], kind: str = "train") -> None:
        """Append one line, and write the same values for TensorBoard; a full disk does not end the training."""
        if not self._writes:
            return
        with self._going_on():
            append_line(self.path, json.dumps({"step": step, "kind": kind} | values))
            if self.board is not None:
                for name, value in values.items():
                    self.board.add_scalar(f"{kind}/{name}", value, step)

    def moves(self, step: int, moves: list[CameraMove]) -> None:
        """Append how far cameras were moved, if any were aligned."""
        if moves:
            pixels = sorted(move.pixels if move.kept else 0.0 for move in moves)
            values = {"median_px": pixels[len(pixels) // 2], "largest_px": pixels[-1]}
            self.write(step, values | {"moved": float(sum(move.kept for move in moves))}, "cameras")

    def picture(self, step: int, name: str, image: Tensor) -> None:
        """Write an image [3, H, W] for TensorBoard."""
        if self.board is not None:
            with self._going_on():
                self.board.add_image(name, to_uint8(image), step, dataformats="HWC")

    def close(self) -> None:
        """Flush the TensorBoard files and end the thread that writes them: the folder may be moved from now on."""
        if self.board is not None:
            with self._going_on():
                self.board.close()

    @contextmanager
    def _going_on(self) -> Iterator[None]:
        """Report the first thing that cannot be written, and go on."""
        try:
            yield
        except OSError as error:
            if not self.lost:
                self.say(
                    f"{self.path}: metrics cannot be written ({error.strerror or error}); training goes on"
                )
            self.lost = True


def _open_board(folder: Path, step: int) -> SummaryWriter | None:
    """Return a writer of TensorBoard files that drops what is later than `step`; None without TensorBoard."""
    if importlib.util.find_spec("tensorboard") is None:
        return None
    from torch.utils.tensorboard import SummaryWriter

    return SummaryWriter(str(folder), purge_step=step + 1)


def _step_of(line: str) -> int:
    try:
        return int(json.loads(line)["step"])
    except (ValueError, KeyError, TypeError, OverflowError, RecursionError):
        return 2**62


class Recent:
    """The numbers of the latest steps, kept on their device until they are read."""

    def __init__(self) -> None:
        self._names: list[str] = []
        self._waiting: list[Tensor] = []
        self._rows: deque[list[float]] = deque(maxlen=MEAN_OF)

    def add(self, values: dict[str, Tensor]) -> None:
        """Add the numbers of a step, each a scalar tensor."""
        self._names = list(values)
        self._waiting.append(torch.stack(list(values.values())))

    def read(self) -> tuple[dict[str, float], dict[str, float]]:
        """Return the latest step's numbers, and their means over the latest steps."""
        self._rows.extend(torch.stack(self._waiting).tolist())
        self._waiting.clear()
        means = [sum(column) / len(column) for column in zip(*self._rows, strict=True)]
        last, mean = (dict(zip(self._names, row, strict=True)) for row in (self._rows[-1], means))
        return last, mean


class ProgressLine:
    """A progress line, rewritten in place on a terminal; elsewhere, a new line from time to time."""

    def __init__(self, label: str = "") -> None:
        self.label = label
        self.terminal = sys.stderr.isatty()
        self.begun = self.shown = time.monotonic()
        self.first_share: float | None = None
        self.first_step = 0

    def show(self, step: int, share: float, loss: float, psnr: float) -> None:
        """Show the step, the share of the run that is done, loss, PSNR, speed and time left."""
        now = time.monotonic()
        if self.first_share is None:
            self.first_share, self.first_step, self.begun = share, step, now
            return
        if now - self.shown < (0.2 if self.terminal else QUIET_SECONDS):
            return
        self.shown = now
        speed = (step - self.first_step) / (now - self.begun)
        left = (1 - share) * (now - self.begun) / max(share - self.first_share, 1e-9)
        text = (
            f"{self.label}step {step}, {100 * share:.0f} %, loss {loss:.4f}, {psnr:.2f} dB, "
            f"{speed:.1f} steps/s, {duration(left)} left"
        )
        print(
            f"\r{text:<78}" if self.terminal else text,
            end="" if self.terminal else "\n",
            file=sys.stderr,
            flush=True,
        )

    def close(self) -> None:
        """End the line."""
        if self.terminal:
            print(file=sys.stderr)
