"""The command line: `adop train`, `eval`, `render`, `view`, `capture`, `import`, `export`, `info`, `doctor`, `bench`."""

from __future__ import annotations

import ctypes
import difflib
import errno
import io
import os
import sys
import threading
from collections.abc import Callable

from adop.errors import UserError, one_line, printable

ENVIRONMENT_ERRORS = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EROFS,
    errno.EACCES,
    errno.EPERM,
    errno.EIO,
    errno.ENAMETOOLONG,
    errno.ENOTDIR,
    errno.EISDIR,
    errno.EEXIST,
    errno.ELOOP,
}
OUT_OF_MEMORY = ("out of memory", "can't allocate memory", "not enough memory")  # in torch's errors
USAGE = """\
adop: point-based neural rendering, from photos to images from any viewpoint, at any exposure

  adop train [SCENE] --preset quick --output RUN   train a scene (without SCENE: the demo that ships with adop)
  adop eval RUN                                    score the held-out photos again, write the page of results
  adop compare RUN RUN --output FOLDER             show runs side by side: scores, settings, curves, renders
  adop render RUN --photo NAME | --path | --cameras FILE --output OUT    render PNG, EXR, depth or MP4
  adop view RUN                                    show a run in the browser, or a SCENE before training
  adop pack RUN                                    pack a run so that views read only the points that they draw
  adop export RUN --to KIND --output PATH          write points, cameras or a mesh for other programs
  adop capture PHOTOS|VIDEO --output SCENE         make a scene of photos: cameras and points
  adop import colmap SPARSE --images DIR --points PLY --output SCENE     make a scene of a COLMAP model
  adop import nerfstudio TRANSFORMS --output SCENE                       make a scene of a transforms.json
  adop import metashape CAMERAS.xml --images DIR --points PLY --output SCENE    make a scene of Metashape's cameras
  adop import realityscan CSV --images DIR --points PLY --output SCENE   make a scene of RealityScan's cameras
  adop import bundler BUNDLE.out --images DIR --output SCENE             make a scene of a Bundler reconstruction
  adop densify SCENE                               find dense points for a scene whose cameras are known
  adop info SCENE                                  show what is in a scene, and what is unusual about it
  adop doctor                                      show what runs on this machine, and what to install
  adop bench raster                                compare the rasterizer's speed with other programs
  adop bench frame RUN                             time new views of a run, part by part
  adop bench train RUN                             time training steps of a run, stage by stage
  adop bench gradients [SCENE]                     compare position gradients with a supersampled render
  adop bench refine [SCENE] --disturb poses        measure how well refinement undoes known errors
  adop bench quality [SCENE...] --presets quick    plot the held-out scores of presets over time, beside rivals
  adop bench stereo                                measure stereo's points against the demo's true surfaces

`adop COMMAND --help` lists the options with their defaults.
"""


def main() -> None:
    """Run the command that the arguments name; after a user's mistake print one sentence and exit with status 2."""
    limit_spinning()
    keep_memory()
    threading.excepthook = _on_thread_failure
    if isinstance(sys.stdout, io.TextIOWrapper):  # names of files may hold what the terminal cannot show
        sys.stdout.reconfigure(errors="backslashreplace")
    from adop.cli.commands import COMMANDS

    words = sys.argv[1:]
    if not words or words[0] in ("-h", "--help", "help"):
        print(USAGE, end="")
        return
    if words[0] == "--version":
        from adop import __version__

        print(__version__)
        return
    for length in (2, 1):
        name = " ".join(words[:length])
        if len(words) >= length and name in COMMANDS:
            sys.exit(_run(COMMANDS[name], f"adop {name}", words[length:]))
    sys.exit(_no_command(words, tuple(COMMANDS)))


def _no_command(words: list[str], known: tuple[str, ...]) -> int:
    """Say which commands there are instead of the one that was named, and return the exit status."""
    inner = [name for name in known if name.startswith(f"{words[0]} ")]
    if inner and (len(words) == 1 or words[1] in ("-h", "--help")):
        print(
            USAGE[: USAGE.index("\n")],
            *(line for line in USAGE.splitlines() if f"adop {words[0]} " in line),
            sep="\n",
        )
        print(f"\n`adop {inner[0]} --help` lists the options of the first one.")
        return 0
    name = " ".join(words[:2]) if inner else words[0]
    near = difflib.get_close_matches(name, inner or known, n=1)
    proposal = f"did you mean `adop {near[0]}`?" if near else f"there are {', '.join(inner or known)}."
    print(f"adop: there is no command {name!r}; {proposal} `adop --help` explains them.", file=sys.stderr)
    return 2


def limit_spinning() -> None:
    """Let OpenMP threads spin only for microseconds before they sleep, unless the user says otherwise.

    Call it before torch is imported. Longer spinning makes training many times slower where another program needs a
    core; shorter spinning makes it a fifth slower where none does.
    """
    if "OMP_WAIT_POLICY" not in os.environ:
        os.environ.setdefault("GOMP_SPINCOUNT", "2000")


def keep_memory() -> None:
    """Let the C library keep memory that a training step frees for the next step: new pages from the system cost more."""
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if sys.platform.startswith("linux") else None
    if mallopt is not None:
        trim_threshold, mmap_threshold, arena_max = -1, -3, -8  # constants of malloc.h
        mallopt(trim_threshold, 2**31 - 1)
        # Older C libraries accept no more than 2^25.
        mallopt(mmap_threshold, 2**30) or mallopt(mmap_threshold, 2**25)
        mallopt(arena_max, 1)  # one arena for all threads, so that what one frees serves the others


def _run(command: Callable[[str, list[str]], int], name: str, words: list[str]) -> int:
    try:
        return command(name, words)
    except UserError as error:
        print(f"adop: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        return 141
    except OSError as error:
        if error.errno not in ENVIRONMENT_ERRORS:
            raise
        print(_on_environment(error), file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not any(text in str(error) for text in OUT_OF_MEMORY):
            raise
        print(
            f"adop: memory ran out ({one_line(error)}); close other programs, or use fewer points, smaller photos or "
            "smaller crops (see --help), then go on.",
            file=sys.stderr,
        )
        return 2


def _on_environment(error: OSError) -> str:
    """Return a sentence on a full or write-protected disk, or a place where no file can be."""
    where = f"{printable(error.filename)}: " if error.filename else ""
    full = error.errno in (errno.ENOSPC, errno.EDQUOT)
    return (
        f"adop: {where}{error.strerror}; {'make room or ' if full else ''}choose another place, then go on."
    )


def _on_thread_failure(failure: threading.ExceptHookArgs) -> None:
    """Print a sentence instead of a traceback where a thread of a library finds the disk full."""
    if isinstance(failure.exc_value, OSError) and failure.exc_value.errno in ENVIRONMENT_ERRORS:
        print(_on_environment(failure.exc_value), file=sys.stderr)
    else:
        threading.__excepthook__(failure)


if __name__ == "__main__":
    main()
