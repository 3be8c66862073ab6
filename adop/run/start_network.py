"""The network that a run starts from: of another run, or the one that comes with adop, instead of random numbers."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from adop.errors import UserError
from adop.run.checkpoint import checkpoints, load_network
from adop.run.run import Run

# Named after kind and width; docs/training.md says how they were trained.
SHIPPED = Path(__file__).parent / "start_networks"


def start_network(run: Run, say: Callable[[str], None]) -> None:
    """Let a run's network start from what its configuration says.

    How photos, points and their gaps are best mixed is nearly the same in all scenes, so that a network that has learned
    it anywhere shows a good picture within a few steps.

    Raises: UserError where there is no such network, or it has another kind or size.
    """
    start, network = run.config.network.start, run.pipeline.network
    if start == "none" or network.kind == "none":
        return
    if start == "auto":
        file = SHIPPED / f"{network.kind}_{run.config.network.width}.safetensors"
        if file.exists() and load_network(file, network):
            say("network: starts from the one that comes with adop (--network.start none: from nothing)")
        return
    if not load_network(_file(Path(start)), network):
        raise UserError(
            f"{start}: its network has another kind or size than this run's; give it the same options --network and "
            "--render, or --network.start none"
        )
    say(f"network: starts from that of {start}")


def _file(start: Path) -> Path:
    """Return the file of a network: itself, or the newest checkpoint of a run's folder."""
    if not start.is_dir():
        return start
    saved = checkpoints(start / "checkpoints")
    if not saved:
        raise UserError(f"{start}: has no checkpoint whose network --network.start could take")
    return saved[-1]
