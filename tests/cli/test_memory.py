"""The memory allocator of a process that makes many large images, and what a lack of memory looks like."""

import subprocess
import sys

import numpy as np
import pytest
import torch

import adop.__main__ as adop_main

PROGRAM = """
import ctypes, resource, sys
from adop.__main__ import keep_memory
if sys.argv[1] == "keep":
    keep_memory()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]
size = 64 << 20
for turn in range(11):
    if turn == 1:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    place = libc.malloc(size)
    ctypes.memset(place, 1, size)
    libc.free(place)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(how: str) -> int:
    """Return how many memory pages the system supplied for ten images of 64 MiB after the first."""
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, how], check=True, capture_output=True, text=True, timeout=120
    )
    return int(done.stdout)


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc's allocator")
def test_an_image_reuses_the_memory_of_the_previous_one() -> None:
    assert faults("keep") < 100 < faults("leave")


@pytest.mark.parametrize("allocate", [lambda: np.empty(1 << 55), lambda: torch.empty(1 << 50)])
def test_a_command_that_needs_too_much_memory_ends_in_one_sentence(allocate, capsys):
    assert adop_main._run(lambda name, words: allocate(), "adop", []) == 2
    told = capsys.readouterr().err
    assert told.startswith("adop: memory ran out (") and told.count("\n") == 1


def test_other_errors_of_torch_are_not_taken_for_a_lack_of_memory():
    with pytest.raises(RuntimeError, match="must match"):
        adop_main._run(lambda name, words: torch.ones(2) + torch.ones(3), "adop", [])
