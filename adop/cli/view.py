"""`adop view` and `adop pack`: show a run or a scene in the browser, and pack a run for viewing."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from adop.cli.parse import parse_options
from adop.files import OutputFolder, check_writable
from adop.ranges import Port


@dataclass(frozen=True)
class ViewOptions:
    """Show a run or a scene in the browser: move, change the exposure, compare with photos, make camera paths."""

    folder: tyro.conf.Positional[Path]
    """Run folder, or the folder of a scene that was not trained yet."""
    host: str = "127.0.0.1"
    """Address to listen on (0.0.0.0: all). Beyond this machine a token is needed and nothing is encrypted."""
    port: Port = 8090
    """Port to listen on. 0: a free one."""
    token: str | None = None
    """Token that a browser must present. None: make one if the viewer is open to other machines."""
    prefix: str = ""
    """Prefix that a proxy leaves in the paths of requests, e.g. /proxy/absolute/8090. None is needed if it removes it."""
    output: OutputFolder | None = None
    """Folder for saved paths and renders. None: the run's own folder, or views/ and the scene's name."""
    scene: Path | None = None
    """Scene folder. None: where it was during training."""
    device: str = "auto"
    """Device of torch to run on: cpu, cuda, cuda:1, ... auto uses a CUDA GPU if there is one."""


def view_command(name: str, words: list[str]) -> int:
    """Run `adop view` and return the exit status."""
    options = parse_options(ViewOptions, name, words)
    from adop.viewer.app import (
        address_text,
        favour_rendering,
        open_run_or_scene,
        view_run,
        wait_for_interrupt,
    )

    run = open_run_or_scene(options.folder, options.scene, options.device, print)
    favour_rendering()
    with view_run(run, options.host, options.port, options.token, options.output, options.prefix) as viewer:
        wait_for_interrupt(address_text(viewer))
    return 0


@dataclass(frozen=True)
class PackOptions:
    """Pack a run into one file, RUN/packed.safetensors, from which views read only the points that they draw.

    The run's points are then never read as a whole, so that runs with more points than fit into memory can be shown. The
    scene's own points still are. Training goes on from the checkpoints, as before; without them, the folder is a run that
    can be shown but not trained further.
    """

    run: tyro.conf.Positional[Path]
    """Run folder."""
    scene: Path | None = None
    """Scene folder. None: where it was during training."""


def pack_command(name: str, words: list[str]) -> int:
    """Run `adop pack` and return the exit status."""
    options = parse_options(PackOptions, name, words)
    from adop.run.checkpoint import PACKED, save_packed
    from adop.run.run import load

    path = options.run / PACKED
    check_writable(path)
    run = load(options.run, options.scene, "cpu", packed=False)
    save_packed(path, run.pipeline, run.progress)
    print(f"{path}: {len(run.pipeline.points):,} points, {path.stat().st_size / 2**20:,.0f} MiB")
    return 0
