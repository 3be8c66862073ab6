"""The command line: `adop train`, `eval`, `render`, `view`, `import`, `info`, `doctor`, `bench`."""

from __future__ import annotations

import ctypes
import os
import sys

from adop.errors import UserError

USAGE = """\
adop: point-based neural rendering, from photos to pictures from anywhere, at any exposure

  adop train [SCENE] --preset quick --output RUN   train a scene (without SCENE: the demo that ships with adop)
  adop eval RUN                                    score held-out photos again, and write the page of pictures
  adop render RUN --photo NAME | --path | --cameras FILE --output OUT    render PNG, EXR, depth or MP4
  adop view RUN                                    look at it in the browser; a SCENE that was not trained, too
  adop import colmap SPARSE --images DIR --points PLY --output SCENE     make a scene of a COLMAP model
  adop import nerfstudio TRANSFORMS --output SCENE                       make a scene of a transforms.json
  adop info SCENE                                  what is in a scene, and what is odd about it
  adop doctor                                      what runs on this machine
  adop bench raster                                the rasterizer against its rivals, in ratios
  adop bench gradients [SCENE]                     position gradients against a supersampled render
  adop bench refine [SCENE] --disturb poses        what refinement recovers of known errors

`adop COMMAND --help` lists the options with their defaults.
"""


def main() -> None:
    """Run the command that the arguments name; a user's mistake ends in one sentence and exit status 2."""
    wait_awake_for_a_moment()
    keep_memory()
    from adop.cli.commands import COMMANDS

    arguments = sys.argv[1:]
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return
    if arguments[0] == "--version":
        from adop import __version__

        print(__version__)
        return
    for length in (2, 1):
        name = " ".join(arguments[:length])
        if len(arguments) >= length and name in COMMANDS:
            sys.exit(_run(COMMANDS[name], f"adop {name}", arguments[length:]))
    known = ", ".join(COMMANDS)
    sys.exit(f"adop: there is no command {arguments[0]!r}; there are {known}. `adop --help` explains them.")


def wait_awake_for_a_moment() -> None:
    """Let threads wait for one another some microseconds awake, unless the user says how; call it before torch loads.

    Longer loses manifold where another program wants a core, shorter a fifth where none does.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def keep_memory() -> None:
    """Let the C library keep what a training step frees for the next one: to get it anew, page by page, costs more."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # names of malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25)  # older ones take no more
        mallopt(arena_max, 1)  # what a thread of its own draws is kept too


def _run(command, name: str, arguments: list[str]) -> int:
    try:
        return command(name, arguments) or 0
    except UserError as error:
        print(f"adop: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141


if __name__ == "__main__":
    main()
