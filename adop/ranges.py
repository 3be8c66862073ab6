"""The values that an option may have, noted beside its type, and checked wherever options come from."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from adop.errors import UserError

MAX_SIDE_PX = 65_536  # of an image
SMALLEST_PHOTO_PX = 128  # shorter side of a photo, below which nothing can be learned from it


@dataclass(frozen=True)
class Range:
    """The finite numbers from `low` to `high`, both included, or those above `above`."""

    low: float = -math.inf
    high: float = math.inf
    above: float = -math.inf

    def holds(self, value: float) -> bool:
        """Return whether a number is in the range."""
        return math.isfinite(value) and self.low <= value <= self.high and value > self.above

    def __str__(self) -> str:
        """Return what an error says that it expected."""
        if self.above > -math.inf:
            return f"a number above {self.above:g}" + (
                f", at most {self.high:g}" if self.high < math.inf else ""
            )
        if self.high < math.inf:
            return f"{self.low:.12g} to {self.high:.12g}"
        return f"{self.low:g} or more" if self.low > -math.inf else "a finite number"


Count = Annotated[int, Range(1)]
Natural = Annotated[int, Range(0)]
Side = Annotated[int, Range(1, MAX_SIDE_PX)]  # pixels
Seed = Annotated[int, Range(0, 2**63 - 1)]
Port = Annotated[int, Range(0, 65_535)]
Positive = Annotated[float, Range(above=0)]
NotNegative = Annotated[float, Range(0)]
Fraction = Annotated[float, Range(0, 1)]


def check_ranges(options: Any, label: Callable[[str], str] = str) -> None:
    """Check every number in a dataclass of options, those of the stages in it included.

    Args:
        label: what an option is called in the error, given its field's name; those in a stage are `stage.name`.

    Raises: UserError for the first number outside its range; without one noted, a number must be finite.
    """
    for name, hint in get_type_hints(type(options), include_extras=True).items():
        value = getattr(options, name)
        if dataclasses.is_dataclass(value):
            # An option group that the command line shows without a prefix has none here either.
            bare = any(getattr(mark, "name", None) == "" for mark in notes(hint))
            check_ranges(value, label if bare else _inside(label, name))
        else:
            _check(value, hint, label(name))


def notes(hint: Any) -> list[Any]:
    """Return what is noted beside a type, and beside the types that it joins, as in `Count | None`."""
    return [mark for part in (hint, *get_args(hint)) for mark in getattr(part, "__metadata__", ())]


def _inside(label: Callable[[str], str], stage: str) -> Callable[[str], str]:
    return lambda name: label(f"{stage}.{name}")


def _tuple_of(hint: Any) -> Any:
    """Return the tuple type in a type that notes or other types, as None, surround."""
    parts = (hint, *get_args(hint))
    return next((part for part in parts if get_origin(part) is tuple), hint)


def _check(value: Any, hint: Any, label: str) -> None:
    """Check a value, or each of several, against the range in its type's notes."""
    if isinstance(value, tuple):
        inner = get_args(_tuple_of(hint))
        for place, item in enumerate(value):
            _check(item, inner[0] if inner[-1] is ... else inner[place], label)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        allowed = next((mark for mark in notes(hint) if isinstance(mark, Range)), Range())
        if not allowed.holds(value):
            raise UserError(f"{label}: expected {allowed}, got {value!r}")
