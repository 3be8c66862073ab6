"""The one exception that the command line shows without a traceback."""

import reprlib

MAX_QUOTED = 200  # characters


class UserError(ValueError):
    """A mistake in the user's input, in one sentence: which file and line or photo, what is wrong, what to do."""

    def __str__(self) -> str:
        """Return the sentence; bytes of a file's name that are no UTF-8 are escaped, so that it can be printed."""
        return super().__str__().encode("utf-8", "backslashreplace").decode()


def printable(value: object) -> str:
    """Return a text such as a path with every character escaped that a line cannot show, or no file take."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in str(value))


def quoted(value: object) -> str:
    """Return how an error quotes a value from a file: short, on one line, whatever it holds."""
    return repr(value[:MAX_QUOTED]) if isinstance(value, str) else reprlib.repr(value)[:MAX_QUOTED]


def one_line(error: BaseException) -> str:
    """Return what an exception of a library says, as a short part of a sentence."""
    text = "".join(c if c.isprintable() else " " for c in str(error))
    return " ".join(text.split())[:MAX_QUOTED] or type(error).__name__
