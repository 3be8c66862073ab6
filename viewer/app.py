"""`adop view`: a viewer of a trained run, or of a scene that was not trained yet."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable
from pathlib import Path

import torch

from adop.config import NetworkConfig, preset
from adop.errors import UserError
from adop.initialisation.environment import initialise_environment
from adop.interrupts import interrupts
from adop.run.run import Run, load, new_run
from adop.viewer.drawing.studio import Studio
from adop.viewer.learning import Record
from adop.viewer.server.server import Viewer
from adop.viewer.session.files import Exporter, Files
from adop.viewer.session.session import House


def view_run(
    run: Run, host: str = "127.0.0.1", port: int = 0, token: str | None = None, folder: Path | None = None
) -> Viewer:
    """Start a viewer of a run; `viewer.url` is its address, `viewer.close()` or `with` ends it.

    Args:
        host, port: where to listen: this machine only, and a free port, unless told otherwise.
        token: what a browser must know.
        folder: where paths and renders go (default: the run's folder).

    Raises: UserError where the port is taken.
    """
    studio = Studio(run)
    files = Files(folder or run.folder)
    house = House(studio, files, Exporter(studio, files), Record(run.folder, run.progress.step))
    return Viewer(house, host, port, token)


def open_run_or_scene(folder: Path, scene: Path | None, device: str, say: Callable[[str], None]) -> Run:
    """Load a trained run, or lay a scene's points with the environment that its photos show, nothing trained.

    Raises: UserError where the folder holds neither.
    """
    if (folder / "config.json").is_file():
        return load(folder, scene, device, say)
    if not (folder / "dataset.ini").is_file():
        raise UserError(
            f"{folder}: holds neither a run (config.json) nor a scene (dataset.ini); "
            "`adop train` makes runs, `adop import` makes scenes"
        )
    config = dataclasses.replace(
        preset("quick"),
        scene=str(folder.resolve()),
        device=device,
        bf16=False,
        network=NetworkConfig(kind="none"),
    )
    run = new_run(folder, Path("views"), config, say)
    run.folder /= run.scene.name
    with torch.no_grad():
        initialise_environment(run.pipeline, run.cache, run.split["train"])
    run.pipeline.eval()
    return run


def welcome(viewer: Viewer) -> str:
    """Return what the command prints: where to look, and what the address means."""
    lines = [f"viewer: {viewer.url}"]
    if viewer.host in ("127.0.0.1", "localhost", "::1"):
        lines.append(
            f"        this machine only; from another: ssh -L {viewer.port}:127.0.0.1:{viewer.port} HOST"
        )
    else:
        lines.append(
            f"        listening on {viewer.host}: whoever reaches this machine and knows the token can look, steer and "
            "write renders into the run; nothing is encrypted, so use it in networks you trust"
        )
    return "\n".join(lines)


def wait(text: str) -> None:
    """Print a text and wait for Ctrl-C, which ends the viewer without a traceback."""
    # Asked for, since an exception that is raised while Python clears up would be lost, and the wait had no end.
    with interrupts() as interrupted:
        print(text, flush=True)
        while not interrupted():
            time.sleep(0.1)
        print()
