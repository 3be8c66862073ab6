"""`adop view`: the viewer of a trained run, or of a scene that has not been trained."""

from __future__ import annotations

import dataclasses
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from adop.config import NetworkConfig, TrainConfig, preset
from adop.errors import UserError
from adop.initialisation.environment import initialise_environment
from adop.interrupts import interrupts
from adop.run.run import Run, load, new_run
from adop.viewer.drawing.render_thread import RenderThread
from adop.viewer.server.server import Viewer, checked_prefix
from adop.viewer.session.files import Exporter, Files
from adop.viewer.session.session import SharedResources
from adop.viewer.training_record import TrainingRecord

SWITCH_SECONDS = 0.0005  # after which a Python thread makes way for another one, a tenth of Python's default


def favour_rendering() -> None:
    """Let the thread that renders, which runs Python between tensor operations, wait less for the other threads."""
    sys.setswitchinterval(SWITCH_SECONDS)


def view_run(
    run: Run,
    host: str = "127.0.0.1",
    port: int = 0,
    token: str | None = None,
    folder: Path | None = None,
    prefix: str = "",
) -> Viewer:
    """Start a viewer of a run. `viewer.url` is its address; `viewer.close()` or leaving its `with` block stops it.

    Args:
        host, port: where to listen: by default on a free port, for this machine only.
        token: what a browser must send to be let in; None: one is generated where other machines can connect.
        folder: where camera paths and renders are saved; None: the run's folder.
        prefix: that a proxy leaves in front of the paths that it forwards. One that removes it needs no prefix here.

    Raises: UserError where the port is in use, or the prefix is not the start of a path.
    """
    checked_prefix(prefix)
    render_thread = RenderThread(run)
    files = Files(folder or run.folder)
    record = TrainingRecord(run.folder, run.progress.step)
    shared = SharedResources(render_thread, files, Exporter(render_thread, files), record)
    return Viewer(shared, host, port, token, prefix)


def open_run_or_scene(folder: Path, scene: Path | None, device: str, say: Callable[[str], None]) -> Run:
    """Load a trained run, or make an untrained one of a scene: its points, and the environment that its photos show.

    Raises: UserError where the folder contains neither a run nor a scene.
    """
    if (folder / "config.json").is_file():
        return load(folder, scene, device, say)
    if not (folder / "dataset.ini").is_file():
        found = "contains neither a run (config.json) nor a scene (dataset.ini)"
        raise UserError(
            f"{folder}: {found if folder.exists() else 'there is no such folder'}; `adop train` makes runs, "
            "`adop capture` and `adop import` make scenes"
        )
    run = points_of_scene(folder, preset("quick"), device, say)
    run.folder /= run.scene.name
    with torch.no_grad():
        initialise_environment(run.pipeline, run.cache, run.split["train"])
    return run


def points_of_scene(folder: Path, config: TrainConfig, device: str, say: Callable[[str], None]) -> Run:
    """Return an untrained run that shows the points of a scene in their own colours; its folder is `views`."""
    config = dataclasses.replace(
        config,
        scene=str(folder.resolve()),
        device=device,
        bf16=False,
        network=NetworkConfig(kind="none"),
    )
    run = new_run(folder, Path("views"), config, say)
    run.pipeline.eval()
    return run


def address_text(viewer: Viewer) -> str:
    """Return the text that tells a user where the viewer is, and who can reach it there."""
    lines = [f"viewer: {viewer.url}"]
    if viewer.host in ("127.0.0.1", "localhost", "::1"):
        lines.append(
            "        for this machine only; from another one, run "
            f"ssh -L {viewer.port}:127.0.0.1:{viewer.port} HOST"
        )
    else:
        lines.append(
            f"        listening on {viewer.host}: anyone who can reach this machine and knows the token can view, "
            "steer and write renders into the run; nothing is encrypted, so use it only in networks that you trust"
        )
    return "\n".join(lines)


def wait_for_interrupt(text: str) -> None:
    """Print a text, then wait for Ctrl-C and return without a traceback."""
    # Ctrl-C as an exception would be lost where Python happens to run a destructor, and the wait would never end.
    with interrupts() as interrupted:
        print(text, flush=True)
        while not interrupted():
            time.sleep(0.1)
        print()
