"""Kill trainings at random moments, fill their disks, and check that each resumes to the undisturbed run's numbers.

    python tests/kill_training.py --kills 50 --full-disks 20

Each run trains a small part of the demo scene for a few seconds. A killed run gets SIGKILL at a random moment between its
start and its end, a third of them a second one later. A full disk is a limit on the size of files, or where this user may
mount one, a small file system in memory; in the end the limit goes away. Then the command is given again, with --resume
if the run says so, until the run is over. Prints a line for each run; exits with status 1 if one ends otherwise than the
undisturbed run, to the last bit of the newest checkpoint.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import json
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from safetensors.numpy import load_file

from adop.config import save_config
from adop.scene.read import load_scene
from adop.scene.scene import demo_scene_folder
from adop.scene.write import save_scene
from support.fast_training import CONFIG
from support.small_scene import with_points


@dataclass(frozen=True)
class Task:
    """A training that is repeated."""

    scene: Path
    config: Path
    expected: str  # fingerprint of the undisturbed run
    seconds: float  # that it took


def command(scene: Path, config: Path, run: Path, *more: str) -> list[str]:
    """Return the words that train."""
    words = [
        str(Path(sys.executable).with_name("adop")),
        "train",
        str(scene),
        "--config",
        str(config),
        "--output",
        str(run),
    ]
    return [*words, "--device", "cpu", *more]


def fingerprint(run: Path) -> str:
    """Return a digest of the newest checkpoint's tensors and of all scores."""
    newest = max((run / "checkpoints").glob("step_*.safetensors"))
    digest = hashlib.sha256(newest.name.encode())
    for name, values in sorted(load_file(newest).items()):
        digest.update(name.encode() + values.tobytes())
    scores = json.loads((run / "eval" / "eval.json").read_text())
    digest.update(json.dumps([scores["mean"], scores["photos"]], sort_keys=True).encode())
    return digest.hexdigest()


def make_task(folder: Path) -> Task:
    """Make the scene and the configuration, and train once undisturbed."""
    scene = load_scene(demo_scene_folder(), report=lambda _: None)
    few = with_points(scene, slice(None, None, 6))
    save_scene(dataclasses.replace(few, photos=scene.photos[::5]), folder / "scene")
    config = dataclasses.replace(CONFIG, steps=24, checkpoint_seconds=0.5, test_every=8)
    save_config(config, folder / "config.json")
    began = time.monotonic()
    words = command(folder / "scene", folder / "config.json", folder / "whole")
    subprocess.run(words, check=True, capture_output=True)
    seconds = time.monotonic() - began
    return Task(folder / "scene", folder / "config.json", fingerprint(folder / "whole"), seconds)


def finish(task: Task, run: Path) -> str:
    """Give the command again until the run is over; return what went wrong, or nothing."""
    for _ in range(3):
        for more in ((), ("--resume",)):
            done = subprocess.run(
                command(task.scene, task.config, run, *more), capture_output=True, text=True
            )
            if done.returncode == 0:
                return "" if fingerprint(run) == task.expected else "other numbers"
            if "Traceback" in done.stderr or done.returncode != 2:
                return (
                    done.stderr.strip().splitlines()[-1] if done.stderr.strip() else f"exit {done.returncode}"
                )
    return f"does not go on: {done.stderr.strip()}"


def killed(task: Task, run: Path, moments: random.Random) -> tuple[str, str]:
    """Kill a run at a random moment, some twice; return when, and what went wrong."""
    said = []
    for turn in range(2 if moments.random() < 1 / 3 else 1):
        moment = moments.uniform(0, task.seconds)
        more = ("--resume",) if turn else ()
        process = subprocess.Popen(
            command(task.scene, task.config, run, *more), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            process.wait(moment)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        said.append(f"{moment:.1f} s")
    return f"killed at {' and '.join(said)}", finish(task, run)


def full_disk(task: Task, run: Path, moments: random.Random) -> tuple[str, str]:
    """Train on a disk that is full at a random moment; return how, and what went wrong."""
    megabytes = 10 ** moments.uniform(-3, 1.7)
    if moments.random() < 0.5 and mounted(run, megabytes):
        how, process = f"a disk of {megabytes:.2f} MB", train_limited(task, run, lambda: None)
        shutil.copytree(run, run.with_suffix(".copy"))
        subprocess.run(["umount", str(run)], check=True)
        run.rmdir()
        run.with_suffix(".copy").rename(run)
    else:
        size = int(megabytes * 1e6)
        how = f"files of at most {megabytes:.2f} MB"
        process = train_limited(task, run, lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, size)))
    if "Traceback" in process.stderr:
        return how, f"a traceback: {process.stderr.strip().splitlines()[-1]}"
    return how, finish(task, run)


def mounted(run: Path, megabytes: float) -> bool:
    """Mount a file system of this size at the run's folder; return whether that is allowed."""
    run.mkdir()
    words = ["mount", "-t", "tmpfs", "-o", f"size={int(megabytes * 1e6)}", "tmpfs", str(run)]
    if shutil.which("mount") and subprocess.run(words, capture_output=True).returncode == 0:
        return True
    run.rmdir()
    return False


def train_limited(task: Task, run: Path, limit: Callable[[], None]) -> subprocess.CompletedProcess[str]:
    """Train under a limit that is set in the new process."""
    words = command(task.scene, task.config, run)
    return subprocess.run(words, capture_output=True, text=True, preexec_fn=limit)


def main() -> int:
    """Run all trials and return the exit status."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--full-disks", type=int, default=20)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    moments, failures = random.Random(options.seed), 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        task = make_task(folder)
        print(f"undisturbed: {task.seconds:.1f} s", flush=True)
        trials = [killed] * options.kills + [full_disk] * options.full_disks
        for number, trial in enumerate(trials):
            run = folder / f"run{number}"
            how, wrong = trial(task, run, moments)
            failures += bool(wrong)
            print(f"{number + 1:3d}  {how}: {wrong or 'the same numbers'}", flush=True)
            shutil.rmtree(run, ignore_errors=True)
    print(f"{len(trials) - failures} of {len(trials)} runs end like the undisturbed one")
    return 1 if failures else 0


if __name__ == "__main__":
    sys.exit(main())
