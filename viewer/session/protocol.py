"""What a browser may say: every value of a message is checked here, once, before anything uses it."""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any

from adop.errors import UserError

MAX_MESSAGE = 256 * 1024  # bytes from a browser
MAX_SIDE = 2048  # pixels of a picture's longer side
SLUG = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")


def parse(text: str | bytes) -> dict[str, Any]:
    """Return a message: a JSON object with a word as its `type`. Raises: UserError."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError("a message should be JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise UserError("a message should be an object with a type")
    return message


def number(message: dict[str, Any], name: str, low: float, high: float) -> float:
    """Return a finite number of a message, brought into [low, high]. Raises: UserError where it is none."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name}: expected a number")
    return min(high, max(low, float(value)))


def numbers(message: dict[str, Any], name: str, count: int, limit: float) -> list[float]:
    """Return `count` finite numbers of a message, each brought into [-limit, limit]."""
    values = message.get(name)
    if not isinstance(values, list) or len(values) != count:
        raise UserError(f"{name}: expected {count} numbers")
    return [number({name: value}, name, -limit, limit) for value in values]


def index(message: dict[str, Any], name: str, count: int) -> int:
    """Return a whole number in [0, count). Raises: UserError."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise UserError(f"{name}: expected a number from 0 to {count - 1}")
    return value


def flag(message: dict[str, Any], name: str) -> bool:
    """Return true or false. Raises: UserError."""
    value = message.get(name)
    if not isinstance(value, bool):
        raise UserError(f"{name}: expected true or false")
    return value


def choice(message: dict[str, Any], name: str, among: tuple[str, ...]) -> str:
    """Return one of the words. Raises: UserError."""
    value = message.get(name)
    if value not in among:
        raise UserError(f"{name}: expected one of {', '.join(among)}")
    return str(value)


def slug(message: dict[str, Any], name: str = "name") -> str:
    """Return a name that is safe as a file's: small letters, digits, - and _, at most 64. Raises: UserError."""
    value = message.get(name)
    if not isinstance(value, str) or not SLUG.fullmatch(value):
        raise UserError(
            "a name has small letters, digits, - and _ only, at most 64, and begins with none of - _"
        )
    return value


def pack(header: dict[str, Any], body: bytes) -> bytes:
    """Return a binary message: the length of a JSON header (4 bytes, little-endian), the header, the body."""
    text = json.dumps(header, allow_nan=False).encode()
    return struct.pack("<I", len(text)) + text + body


def unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Return header and body of a binary message."""
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length]), message[4 + length :]
