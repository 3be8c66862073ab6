"""Messages between page and server: reading values from a browser's message, and packing binary messages.

Every value of a message is checked here before it is used.
"""

from __future__ import annotations

import json
import math
import re
import struct
from typing import Any

from adop.errors import UserError

MAX_MESSAGE = 256 * 1024  # bytes of a message from a browser
MAX_SIDE, MAX_CPU_SIDE = 2048, 1280  # pixels of an image's longer side: rendered by a GPU, and by a CPU
NAME = re.compile(r"[a-z0-9][a-z0-9_-]{0,63}")  # names that are safe as file names


def parse(text: str | bytes) -> dict[str, Any]:
    """Return a message: a JSON object with a string as its `type`. Raises: UserError."""
    try:
        message = json.loads(text)
    except (ValueError, RecursionError):
        raise UserError("a message must be JSON") from None
    if not isinstance(message, dict) or not isinstance(message.get("type"), str):
        raise UserError("a message must be an object with a type")
    return message


def number(message: dict[str, Any], name: str, low: float, high: float) -> float:
    """Return a finite number of a message, clamped to [low, high]. Raises: UserError where it is not a number."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise UserError(f"{name}: expected a number")
    return min(high, max(low, float(value)))


def numbers(message: dict[str, Any], name: str, count: int, limit: float) -> list[float]:
    """Return `count` finite numbers of a message, each clamped to [-limit, limit]. Raises: UserError."""
    values = message.get(name)
    if not isinstance(values, list) or len(values) != count:
        raise UserError(f"{name}: expected {count} numbers")
    return [number({name: value}, name, -limit, limit) for value in values]


def index(message: dict[str, Any], name: str, count: int) -> int:
    """Return an integer of a message in [0, count). Raises: UserError."""
    value = message.get(name)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < count:
        raise UserError(f"{name}: expected an integer from 0 to {count - 1}")
    return value


def flag(message: dict[str, Any], name: str) -> bool:
    """Return a boolean of a message. Raises: UserError."""
    value = message.get(name)
    if not isinstance(value, bool):
        raise UserError(f"{name}: expected true or false")
    return value


def choice(message: dict[str, Any], name: str, options: tuple[str, ...]) -> str:
    """Return a string of a message that is one of `options`. Raises: UserError."""
    value = message.get(name)
    if value not in options:
        raise UserError(f"{name}: expected one of {', '.join(options)}")
    return str(value)


def text(message: dict[str, Any], name: str, limit: int) -> str:
    """Return a string of a message, of 1 to `limit` printable characters. Raises: UserError."""
    value = message.get(name)
    if not isinstance(value, str) or not 0 < len(value.strip()) <= limit or not value.strip().isprintable():
        raise UserError(f"{name}: expected a text of 1 to {limit} printable characters")
    return value.strip()


def file_name(message: dict[str, Any], name: str = "name") -> str:
    """Return a string of a message that is safe as a file name. Raises: UserError."""
    value = message.get(name)
    if not isinstance(value, str) or not NAME.fullmatch(value):
        raise UserError(
            "a name has at most 64 characters, only lower-case letters, digits, - and _, "
            "and starts with a letter or digit"
        )
    return value


def to_json(message: dict[str, Any]) -> str:
    """Return a message as JSON, which knows neither NaN nor infinity."""
    return json.dumps(message, allow_nan=False)


def pack(header: dict[str, Any], body: bytes) -> bytes:
    """Return a binary message: the length of a JSON header (4 bytes, little-endian), the header, the body."""
    text = to_json(header).encode()
    return struct.pack("<I", len(text)) + text + body


def unpack(message: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the header and the body of a binary message."""
    (length,) = struct.unpack_from("<I", message)
    return json.loads(message[4 : 4 + length]), message[4 + length :]
