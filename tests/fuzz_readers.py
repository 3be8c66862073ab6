"""Give every reader of adop damaged files, and look for tracebacks, hangs, crashes and large allocations.

    python tests/fuzz_readers.py --count 20000             20,000 inputs over all readers
    python tests/fuzz_readers.py --reader scene --seed 7   other inputs of the readers whose name begins with `scene`
    python tests/fuzz_readers.py --seconds 60              as many as fit into a minute

Each input is a small valid one (`tests/support/hostile_readers.py`), damaged by `tests/support/mutations.py`; seed and
number choose the damage. A reader must accept it, or refuse it with one sentence of `adop.errors.UserError` that names
the file. Inputs that make it do anything else are kept in --output, and the exit status is 1. The workers are processes
of their own, so that a hang and a crash are noticed; their address space is limited while they read, and the growth of
their peak of resident memory is measured. Linux only.
"""

from __future__ import annotations

import argparse
import contextlib
import dataclasses
import json
import os
import resource
import select
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from adop.errors import UserError
from adop.scene.visibility import import_open3d
from support.hostile_readers import READERS, write_input, write_mutated
from support.mutations import is_one_sentence

MAX_SECONDS = 10.0
MAX_BYTES = 200_000_000
CHUNK = 100  # inputs between two reports of progress


@dataclasses.dataclass
class Tally:
    """What became of a reader's inputs."""

    accepted: int = 0
    refused: int = 0
    failures: int = 0
    seconds: float = 0.0  # the longest time of an input
    bytes: int = 0  # the largest growth of memory by an input


def memory(name: str) -> int:
    """Return a size of this process in bytes, such as VmSize, VmRSS, or VmHWM for the peak of VmRSS."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith(name + ":"):
            return int(line.split()[1]) * 1024
    raise KeyError(name)


def fault(error: UserError, folder: Path) -> str:
    """Return what is wrong with the sentence of a refusal, or an empty text."""
    text = str(error)
    if not is_one_sentence(text, folder):
        return f"not one sentence that names the file: {text[:300]!r}"
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, MemoryError):
            return f"allocates more than {MAX_BYTES / 1e6:.0f} MB"
        cause = cause.__cause__ or cause.__context__
    return ""


def read_one(name: str, folder: Path) -> dict:
    """Read an input and return what happened, how long it took and how much memory."""
    Path("/proc/self/clear_refs").write_text("5")  # VmHWM begins anew
    before = memory("VmRSS")
    resource.setrlimit(resource.RLIMIT_AS, (memory("VmSize") + MAX_BYTES, resource.RLIM_INFINITY))
    begun, what, why = time.monotonic(), "accepted", ""
    try:
        READERS[name].read(folder)
    except UserError as error:
        what, why = "refused", fault(error, folder)
    except BaseException as error:
        why = f"{type(error).__name__}: {error}"[:300]
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    passed, grown = time.monotonic() - begun, max(0, memory("VmHWM") - before)
    if not why and grown > MAX_BYTES:
        why = f"takes {grown / 1e6:.0f} MB"
    return {"what": "failures" if why else what, "why": why, "seconds": passed, "bytes": grown}


def work() -> None:
    """Answer each line on standard input, a reader's name, a seed and a number, with a line of JSON."""
    answers = os.fdopen(os.dup(1), "w")
    quiet = os.open(os.devnull, os.O_WRONLY)
    os.dup2(quiet, 1)
    os.dup2(quiet, 2)  # libraries complain about damaged files in words of their own
    warnings.simplefilter("ignore")
    threading.stack_size(1 << 20)
    with contextlib.suppress(UserError):
        import_open3d("here")
    for name in READERS:  # what the readers import and keep is no cost of an input
        with tempfile.TemporaryDirectory() as folder:
            write_input(name, Path(folder))
            READERS[name].read(Path(folder))
    print(json.dumps("ready"), file=answers, flush=True)
    for line in sys.stdin:
        name, seed, number = json.loads(line)
        with tempfile.TemporaryDirectory() as folder:
            write_mutated(name, seed, number, Path(folder))
            print(json.dumps(read_one(name, Path(folder))), file=answers, flush=True)


class Worker:
    """A process that reads damaged inputs, and is started again after a hang or a crash."""

    def __init__(self) -> None:
        self.process: subprocess.Popen | None = None

    def read(self, name: str, seed: int, number: int) -> dict:
        """Return what became of an input."""
        process = self.process or self._start()
        assert process.stdin is not None
        process.stdin.write(json.dumps([name, seed, number]) + "\n")
        process.stdin.flush()
        answer = self._answer(process, MAX_SECONDS + 2)
        return answer or {"what": "failures", "why": self.stop(), "seconds": MAX_SECONDS, "bytes": 0}

    def stop(self) -> str:
        """End the process and return what it died of."""
        if self.process is None:
            return ""
        code = self.process.poll()
        self.process.kill()
        self.process.communicate()
        self.process = None
        return f"hangs for {MAX_SECONDS:.0f} seconds" if code is None else f"crashes with status {code}"

    def _start(self) -> subprocess.Popen:
        environment = os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "1"}
        command = [sys.executable, __file__, "--work"]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment
        )
        if self._answer(self.process, 120) != "ready":
            sys.exit("a worker does not start; run this script with --work to see why")
        return self.process

    @staticmethod
    def _answer(process: subprocess.Popen, seconds: float):
        assert process.stdout is not None
        if not select.select([process.stdout], [], [], seconds)[0]:
            return None
        line = process.stdout.readline()
        return json.loads(line) if line else None


def inputs(names: list[str], count: int, seconds: float) -> Iterator[tuple[str, int]]:
    """Yield readers and numbers in turn, until `count` inputs or `seconds` are used up."""
    begun = time.monotonic()
    for number in range(count):
        if time.monotonic() - begun > seconds:
            return
        yield names[number % len(names)], number // len(names)


def keep(name: str, options: argparse.Namespace, number: int, why: str) -> Path:
    """Store a failing input and return its folder."""
    folder = Path(options.output) / f"{name.replace(' ', '_')}-{options.seed}-{number}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    damaged = write_mutated(name, options.seed, number, folder)
    (folder / "why.txt").write_text(f"{name}, {damaged}: {why}\n")
    return folder


def fuzz(options: argparse.Namespace) -> dict[str, Tally]:
    """Run the inputs, print the failures, and return what became of each reader's."""
    names = [name for name in READERS if name.startswith(options.reader)]
    if not names:
        sys.exit(f"no reader is called {options.reader!r}; there are {', '.join(READERS)}")
    tallies = {name: Tally() for name in names}
    reasons: Counter[tuple[str, str]] = Counter()
    worker = Worker()
    for done, (name, number) in enumerate(inputs(names, options.count, options.seconds), 1):
        answer, tally = worker.read(name, options.seed, number), tallies[name]
        setattr(tally, answer["what"], getattr(tally, answer["what"]) + 1)
        tally.seconds = max(tally.seconds, answer["seconds"])
        tally.bytes = max(tally.bytes, answer["bytes"])
        if answer["why"]:
            reasons[name, answer["why"][:60]] += 1
            if reasons[name, answer["why"][:60]] <= 3:
                print(
                    f"{name}: {answer['why']}\n    {keep(name, options, number, answer['why'])}", flush=True
                )
        if done % CHUNK == 0 and sys.stderr.isatty():
            print(f"\r{done} inputs", end="", file=sys.stderr, flush=True)
    worker.stop()
    return tallies


def print_table(tallies: dict[str, Tally]) -> None:
    """Print a line for each reader, and the sums."""
    print(
        f"\n{'reader':26} {'inputs':>7} {'accepted':>9} {'refused':>8} {'failures':>9} {'slowest':>9} {'memory':>8}"
    )
    for name, tally in tallies.items():
        print(_row(name, tally))
    values = list(tallies.values())
    total = Tally(*(sum(getattr(t, field) for t in values) for field in ("accepted", "refused", "failures")))
    total.seconds, total.bytes = max(t.seconds for t in values), max(t.bytes for t in values)
    print(_row("all", total))


def _row(name: str, tally: Tally) -> str:
    counts = tally.accepted, tally.refused, tally.failures
    numbers = f"{sum(counts):7} {counts[0]:9} {counts[1]:8} {counts[2]:9}"
    return f"{name:26} {numbers} {tally.seconds:7.2f} s {tally.bytes / 1e6:5.0f} MB"


def main() -> None:
    """Parse the command line and run."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=2000, help="number of inputs over all chosen readers")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop after this time")
    parser.add_argument("--seed", type=int, default=0, help="another seed damages the inputs in other ways")
    parser.add_argument("--reader", default="", help="only readers whose name begins with this")
    parser.add_argument("--output", default="fuzz-failures", help="folder for inputs that failed")
    parser.add_argument("--work", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.work:
        work()
        return
    tallies = fuzz(options)
    print_table(tallies)
    sys.exit(1 if any(tally.failures for tally in tallies.values()) else 0)


if __name__ == "__main__":
    main()
