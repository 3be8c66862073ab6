"""Measure the viewer as users experience it: in headless Chromium, on a trained run.

    python tests/measure_viewer.py orbit RUN              frames per second while orbiting, and time to a full-size frame
    python tests/measure_viewer.py soak RUN --minutes 5   four browsers at once: their frame rates and the server's memory
    python tests/measure_viewer.py training               how much `adop train --view` slows training down

Needs Playwright and Chromium (`tests/support/browser.py`).
"""

from __future__ import annotations

import argparse
import contextlib
import math
import os
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from adop.__main__ import limit_spinning
from support import browser
from support.page_pixels import shrink_stage
from support.viewer_client import Client

BLOCK_STEPS = 50  # training steps with one kind of viewer before the next kind


@contextmanager
def serving(run: str) -> Iterator[tuple[str, int]]:
    """Run `adop view` in its own process; yield its address and process id."""
    command = [str(Path(sys.executable).with_name("adop")), "view", run, "--port", "0"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        url = next((line.split()[1] for line in process.stdout if line.startswith("viewer:")), None)
        if url is None:
            sys.exit("the viewer did not start")
        yield url, process.pid
    finally:
        process.terminate()
        process.wait()


def open_page(chrome: Any, url: str, width: int, height: int) -> Any:
    """Open the page with a view of exactly `width` x `height` pixels."""
    page = chrome.new_page(viewport={"width": max(width + 300, 1280), "height": max(height + 130, 720)})
    page.goto(url)
    browser.until(page, "!!(window.adop && adop.frame)")
    shrink_stage(page, width, height)
    browser.wait_for_rest(page, 60)
    return page


def orbit(run: str, width: int, height: int, seconds: float) -> None:
    """Five times, orbit by dragging there and back, then rest; print frame rates and waiting times."""
    with serving(run) as (url, _), browser.browser() as chrome:
        page = open_page(chrome, url, width, height)
        browser.drag(page, 200, 0, 20)  # so that the viewer adapts its resolution
        browser.wait_for_rest(page, 60)
        rates, waits, scales = [], [], []
        for turn in range(5):
            box = page.locator("#overlay").bounding_box()
            x, y = box["x"] + box["width"] / 2, box["y"] + box["height"] / 2
            page.mouse.move(x, y)
            page.mouse.down()
            begun, frames = time.monotonic(), page.evaluate("adop.frames")
            while (passed := time.monotonic() - begun) < seconds:
                angle = 2 * math.pi * passed / seconds * (1 if turn % 2 else -1)
                page.mouse.move(x + 160 * math.sin(angle), y + 40 * math.sin(2 * angle))
                time.sleep(0.012)
            count, scale = page.evaluate("[adop.frames, adop.frame.scale]")
            rates.append((count - frames) / (time.monotonic() - begun))
            scales.append(scale)
            page.mouse.up()
            rest = time.monotonic()
            browser.until(page, f"adop.frame.scale === 1 && adop.frame.width === {width}", 60)
            waits.append(time.monotonic() - rest)
        stages = page.evaluate("adop.frame.stages")
    load = os.getloadavg()[0]
    print(
        f"canvas {width}x{height}, {os.cpu_count()} cores, load average {load:.1f}, five orbits of {seconds:.0f} s"
    )
    print(
        f"while orbiting: {', '.join(f'{r:.1f}' for r in rates)} frames/s, median {statistics.median(rates):.1f}"
    )
    print(f"at a scale of:  {', '.join(f'{s:.2f}' for s in scales)}")
    print(
        f"full-size frame after the drag ends: {', '.join(f'{w:.2f}' for w in waits)} s, worst {max(waits):.2f} s"
    )
    print(
        "time of a full-size frame: "
        + ", ".join(f"{name} {1000 * value:.0f} ms" for name, value in stages.items())
    )


def memory(process: int) -> float:
    """Return the resident memory of a process in MiB."""
    text = Path(f"/proc/{process}/status").read_text()
    return int(next(line for line in text.splitlines() if line.startswith("VmRSS")).split()[1]) / 1024


def soak(run: str, minutes: float, browsers: int) -> None:
    """Move the cameras of several browsers at once; print frame rates and the server's memory every half minute."""
    with serving(run) as (url, process), browser.browser() as chrome:
        pages = [open_page(chrome, url, 480, 270) for _ in range(browsers)]
        for number, page in enumerate(pages):
            page.click(f"#photos button:nth-child({1 + 7 * number})")
            browser.wait_for_rest(page, 60)
        begun, reported, sizes = time.monotonic(), time.monotonic(), [memory(process)]
        frames = [page.evaluate("adop.frames") for page in pages]
        print(f"{browsers} browsers, {minutes:g} minutes; server {sizes[0]:.0f} MiB at the start")
        step = 0
        while time.monotonic() - begun < 60 * minutes:
            for number, page in enumerate(pages):
                page.evaluate(
                    f"adop.send({{type: 'move', orbit: [{0.01 * (number + 1)}, {0.004 * math.sin(step / 9)}]}})"
                )
            step += 1
            time.sleep(0.03)
            if time.monotonic() - reported > 30:
                now = [page.evaluate("adop.frames") for page in pages]
                rates = [(a - b) / (time.monotonic() - reported) for a, b in zip(now, frames, strict=True)]
                frames, reported = now, time.monotonic()
                sizes.append(memory(process))
                print(
                    f"{reported - begun:4.0f} s: {', '.join(f'{r:.1f}' for r in rates)} frames/s; {sizes[-1]:.0f} MiB",
                    flush=True,
                )
        for page in pages:
            browser.wait_for_rest(page, 60)
        cameras = [page.evaluate("adop.frame.camera_to_world") for page in pages]
        own = len({str(camera) for camera in cameras})
        grown = statistics.mean(sizes[-3:]) - statistics.mean(sizes[1:4])
    print(f"no crash; {own} of {browsers} browsers have a view of their own")
    print(f"memory: {grown:+.0f} MiB from the first to the last 1.5 minutes")


def _answer_frames(client: Client) -> None:
    """Answer a session's frames until its socket closes."""
    with contextlib.suppress(Exception):
        while True:
            client.step(60)


def training(steps: int) -> None:
    """Time training steps of the demo scene without a viewer, with a viewer, and with a browser at rest, in turn."""
    import tempfile

    from adop.config import TrainConfig
    from adop.scene.scene import demo_scene_folder
    from adop.training.train import train
    from adop.viewer.training_view import LiveView

    live = LiveView(port=0)
    times: dict[str, list[float]] = {"no viewer": [], "viewer, no browser": [], "one browser at rest": []}
    kinds, clients, last = list(times), [], [0.0]

    def callback(run: Any, values: dict[str, float]) -> None:
        step = run.progress.step
        kind = kinds[(step // BLOCK_STEPS) % 3]
        if kind != kinds[0]:
            live(run, values)
        now = time.monotonic()
        if step % BLOCK_STEPS > 0:
            times[kind].append(now - last[0])
        last[0] = now
        if step % BLOCK_STEPS == BLOCK_STEPS - 1:
            if kinds[((step + 1) // BLOCK_STEPS) % 3] == kinds[2]:
                assert live.viewer is not None
                clients.append(Client(live.viewer.url))
                clients[-1].send(type="size", width=960, height=540)
                threading.Thread(target=_answer_frames, args=(clients[-1],), daemon=True).start()
            elif clients:
                clients.pop().socket.close()
                time.sleep(0.3)

    with tempfile.TemporaryDirectory() as folder:
        config = TrainConfig(steps=steps, scene=str(demo_scene_folder()), test_every=0)
        train(demo_scene_folder(), Path(folder) / "run", config, say=lambda _: None, callback=callback)
    live.close()
    alone = statistics.median(times[kinds[0]])
    for kind, values in times.items():
        typical, whole = statistics.median(values), statistics.mean(values)
        print(
            f"{kind:22} median step {1000 * typical:6.1f} ms ({typical / alone - 1:+.1%}), mean {1000 * whole:6.1f} ms"
        )


def main() -> None:
    """Parse the command line and measure."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=("orbit", "soak", "training"))
    parser.add_argument("run", nargs="?", default="runs/demo")
    parser.add_argument("--width", type=int, default=960)
    parser.add_argument("--height", type=int, default=540)
    parser.add_argument("--seconds", type=float, default=6.0, help="duration of one orbit")
    parser.add_argument("--minutes", type=float, default=5.0)
    parser.add_argument("--browsers", type=int, default=4)
    parser.add_argument("--steps", type=int, default=900)
    options = parser.parse_args()
    limit_spinning()
    if options.what == "training":
        training(options.steps)
        return
    if browser.missing():
        sys.exit(f"cannot measure: {browser.missing()}")
    if options.what == "orbit":
        orbit(options.run, options.width, options.height, options.seconds)
    else:
        soak(options.run, options.minutes, options.browsers)


if __name__ == "__main__":
    main()
