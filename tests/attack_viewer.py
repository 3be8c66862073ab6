"""Attack the viewer with hostile clients, and measure what an honest one gets meanwhile.

    python tests/attack_viewer.py RUN --seconds 600   each kind of `support/attacks.py` in a process of its own

RUN is a run or a scene. The exit status is 1 where the honest client waited more than 10 s for an image, the viewer's
memory grew by more than 300 MB, or the viewer wrote an error.
"""

from __future__ import annotations

import argparse
import contextlib
import math
import multiprocessing
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import urlsplit

from support.attacks import ATTACKS
from support.viewer_client import Client

MAX_GAP = 10.0  # seconds between two images of the honest client
MAX_GROWTH = 300.0  # MB
STEP_SECONDS = 0.03  # between the honest client's motions
QUIET_SECONDS = 15.0  # before and after the attack, in which memory and frame rate settle
WIDTH, HEIGHT = 480, 270  # px of the honest client's view


@dataclass(frozen=True)
class Served:
    """What the honest client got."""

    images: int
    seconds: float
    gap: float  # the longest time between two images, seconds

    @property
    def per_minute(self) -> float:
        """Images per minute."""
        return 60 * self.images / self.seconds


def memory(process: int, name: str = "VmRSS") -> float:
    """Return the resident memory of a process, MB. Args: name: VmHWM for the most that it ever had."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith(name)).split()[1]) / 1000


def look_around(client: Client, seconds: float) -> Served:
    """Move the camera for some seconds and count the images."""
    begun = last = moved = time.monotonic()
    images, gap, step = 0, 0.0, 0
    while (now := time.monotonic()) - begun < seconds:
        if now - moved > STEP_SECONDS:
            client.send(type="move", orbit=[0.01, 0.004 * math.sin(step / 9)])
            moved, step = now, step + 1
        before = client.frames
        with contextlib.suppress(TimeoutError):
            client.step(timeout=STEP_SECONDS)
        now = time.monotonic()
        if client.frames > before:
            images += 1
            last = now
        gap = max(gap, now - last)
    return Served(images, time.monotonic() - begun, gap)


def attack(url: str, process: int, seconds: float, kinds: list[str]) -> bool:
    """Attack a viewer, print what came of it, and return whether the honest client was served."""
    parts = urlsplit(url)
    with Client(url) as client:
        client.send(type="size", width=WIDTH, height=HEIGHT)
        client.frame_at_rest(60)
        quiet, start = look_around(client, QUIET_SECONDS), memory(process)
        attackers = [
            multiprocessing.Process(target=ATTACKS[kind], args=(parts.hostname, parts.port, seconds))
            for kind in kinds
        ]
        for attacker in attackers:
            attacker.start()
        served = look_around(client, seconds)
        for attacker in attackers:
            attacker.join(timeout=30)
            attacker.kill()
        client.send(type="cancel_render")  # a path that one of them left behind
        look_around(client, QUIET_SECONDS)
        end, most = memory(process), memory(process, "VmHWM")
    print(f"hostile clients            {', '.join(kinds)}; {seconds:.0f} s")
    print(f"images per minute          {served.per_minute:.0f} (before the attack: {quiet.per_minute:.0f})")
    print(f"longest wait for an image  {served.gap:.1f} s (before the attack: {quiet.gap:.1f} s)")
    print(
        f"memory of the viewer       {start:.0f} MB at the start, {end:.0f} MB at the end, at most {most:.0f} MB"
    )
    return served.gap <= MAX_GAP and end - start <= MAX_GROWTH


def main() -> None:
    """Parse the command line, start a viewer, attack it."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("run", nargs="?", default="runs/demo")
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument(
        "--only", nargs="+", choices=list(ATTACKS), default=list(ATTACKS), help="kinds of attack"
    )
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as errors:
        command = [
            str(Path(sys.executable).with_name("adop")),
            "view",
            options.run,
            "--port",
            "0",
            "--output",
            folder,
        ]
        viewer = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            assert viewer.stdout is not None
            url = next((line.split()[1] for line in viewer.stdout if line.startswith("viewer:")), None)
            served = url is not None and attack(url, viewer.pid, options.seconds, options.only)
        finally:
            viewer.terminate()
            viewer.wait()
        errors.seek(0)
        written = errors.read()
    print(f"errors of the viewer       {written.strip() or 'none'}")
    sys.exit(0 if served and not written.strip() else 1)


if __name__ == "__main__":
    main()
