"""Damage to valid files: bytes, numbers, lines and JSON, what stands in the place of a file; and what must follow."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import random
import re
import struct
import unicodedata
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

MAX_SENTENCE = 1500  # characters, most of them the paths of files
NUMBERS = (
    "0", "-1", "1", "2", "255", "65536", "1048577", "2147483648", "-2147483649", "4294967296", "9223372036854775807",
    "18446744073709551616", "1e18", "1e30", "1e200", "-1e308", "1e-320", "1e999", "nan", "NaN", "inf", "-inf",
    "Infinity", "1" * 400, "9" * 5000, "0.5", "1_0", "0x10", "1e", "", "true", "null", "--1",
)  # fmt: skip
WORDS = (
    "../../etc/passwd", "/etc/passwd", "..\\x", "C:/x", ".", "./", "..", "a/../..", "\x00", "\x1b[2J", "\u2028",
    "x" * 300, "y/" * 3000, "%s%n", "🙂", "\u202e", "con", "-", "#", ";", "=", "[", "]", '"', "'", ",",
)  # fmt: skip
ENCODINGS = ("utf-16", "utf-32", "utf-8-sig", "cp1252", "shift_jis", "utf-7")
VALUES: tuple[Any, ...] = (
    None, True, False, 0, -1, 1e308, -1e308, 1e-320, 2**31, 2**63, 2**64, 10**200, 10**400, float("nan"), float("inf"),
    "", "x", "1", "x" * 5000, "../../etc/passwd", "/etc/passwd", ".", "\x00", "\ud800", [], {}, [[]], [1, 2, 3],
    [[1, 2], [3]], {"a": 1}, ["a"], [None] * 16, [1e308] * 16, [10**400] * 16, [[0.0] * 4] * 4,
)  # fmt: skip
NUMBER = re.compile(rb"-?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")


class Mark:
    """Unpickling it makes the file whose name it holds."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Callable, tuple]:
        return Path.touch, (self.marker,)


def pickled(marker: Path) -> bytes:
    """Return a pickle that makes a file when something loads it."""
    return pickle.dumps(Mark(marker))


def _flip(content: bytes, rng: random.Random) -> bytes:
    data = bytearray(content or b"\0")
    for _ in range(rng.choice((1, 1, 2, 4, 16))):
        place = rng.randrange(len(data))
        data[place] ^= 1 << rng.randrange(8)
    return bytes(data)


def _truncate(content: bytes, rng: random.Random) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _insert(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    new = rng.choice((b"\0", b"\0" * 64, b"\xff" * 8, b"\n", b" ", rng.randbytes(rng.choice((1, 4, 32)))))
    return content[:place] + new + content[place:]


def _remove(content: bytes, rng: random.Random) -> bytes:
    place = rng.randrange(len(content) + 1)
    return content[:place] + content[place + rng.choice((1, 2, 4, 8, 64)) :]


def _extreme(content: bytes, rng: random.Random) -> bytes:
    """Overwrite bytes with a number at the end of its range."""
    layout = rng.choice("BHIQhiqfd")
    order = rng.choice("<>")
    if layout in "fd":
        value: float = rng.choice((float("nan"), float("inf"), -1.0, 3e38, 1e-40))
    else:
        bits = 8 * struct.calcsize(layout)
        signed = layout.islower()
        high = 2 ** (bits - signed) - 1
        value = rng.choice((0, 1, high, high - 1, high // 2, high // 8, -high if signed else high))
    new = struct.pack(order + layout, value)
    place = rng.randrange(len(content) + 1)
    return content[:place] + new + content[place + len(new) :]


def _number(content: bytes, rng: random.Random) -> bytes:
    """Replace a number that is written in digits."""
    found = list(NUMBER.finditer(content))
    if not found:
        return _extreme(content, rng)
    for match in sorted(rng.sample(found, min(len(found), rng.choice((1, 1, 2)))), key=lambda m: -m.start()):
        content = content[: match.start()] + rng.choice(NUMBERS).encode() + content[match.end() :]
    return content


def _lines(content: bytes, rng: random.Random) -> bytes:
    """Delete, double, swap, cut or empty a line."""
    lines = content.split(b"\n")
    place = rng.randrange(len(lines))
    other = rng.randrange(len(lines))
    action = rng.randrange(6)
    if action == 0:
        del lines[place]
    elif action == 1:
        lines.insert(place, lines[other])
    elif action == 2:
        lines[place], lines[other] = lines[other], lines[place]
    elif action == 3:
        lines[place] = lines[place][: rng.randrange(len(lines[place]) + 1)]
    elif action == 4:
        lines[place] = b""
    else:
        lines[place] = lines[place] * 40
    return b"\n".join(lines)


def _word(content: bytes, rng: random.Random) -> bytes:
    """Replace a word."""
    found = list(re.finditer(rb"[^\s\",:=\[\]{}]+", content))
    if not found:
        return _insert(content, rng)
    match = rng.choice(found)
    new = rng.choice(WORDS).encode()
    return content[: match.start()] + new + content[match.end() :]


def _recode(content: bytes, rng: random.Random) -> bytes:
    text = content.decode("utf-8", "replace")
    return rng.choice((text, "ü" + text, text + "\n€")).encode(rng.choice(ENCODINGS), "replace")


def _deep(content: bytes, rng: random.Random) -> bytes:
    depth = rng.choice((30, 500, 900, 5000, 100_000))
    whole = rng.random() < 0.5
    nest = b"[" * depth + (b"]" * depth if whole else b"")
    found = list(NUMBER.finditer(content))
    if found and rng.random() < 0.7:
        match = rng.choice(found)
        return content[: match.start()] + nest + content[match.end() :]
    return nest


def _places(value: Any, found: list[tuple[Any, Any]]) -> list[tuple[Any, Any]]:
    """Return every (container, key) of a JSON value."""
    keys = value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ()
    for key in keys:
        found.append((value, key))
        _places(value[key], found)
    return found


def _json(content: bytes, rng: random.Random) -> bytes:
    """Replace, remove, double or rename values of JSON."""
    try:
        return _changed_json(json.loads(content), rng)
    except (ValueError, RecursionError):  # earlier damage
        return _word(content, rng)


def _changed_json(value: Any, rng: random.Random) -> bytes:
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        places = _places(value, [])
        if not places:
            return json.dumps(rng.choice(VALUES)).encode()
        container, key = rng.choice(places)
        action = rng.random()
        if action < 0.7:
            container[key] = rng.choice(VALUES)
        elif action < 0.85:
            del container[key]
        elif isinstance(container, list):
            container += [container[key]] * rng.choice((1, 30))
        else:
            container[rng.choice(("x", "x" * 3000, str(key) + "_", ""))] = container[key]
    return json.dumps(value).encode()


def _safetensors(content: bytes, rng: random.Random) -> bytes:
    """Change the header of a safetensors file and leave its length right, or nearly."""
    if len(content) < 8:
        return _insert(content, rng)
    (length,) = struct.unpack_from("<Q", content)
    length = min(length, len(content) - 8)
    change = rng.choice((_json, _json, _number, _word, _flip))
    header = change(content[8 : 8 + length], rng)
    size = len(header) + rng.choice((0, 0, 0, 0, 1, -1, 2**40))
    return struct.pack("<Q", max(0, size)) + header + content[8 + length :]


def _png(content: bytes, rng: random.Random) -> bytes:
    """Change the data of a chunk of a PNG file and make its length and checksum right again."""
    chunks, place = [], 8
    while place + 12 <= len(content):
        (length,) = struct.unpack_from(">I", content, place)
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    if not chunks:
        return _flip(content, rng)
    which = rng.randrange(len(chunks))
    kind, data = chunks[which]
    if kind == b"IDAT" and rng.random() < 0.5:
        with contextlib.suppress(zlib.error):
            data = zlib.compress(rng.choice(BYTES)(zlib.decompress(data), rng))
    else:
        data = rng.choice(BYTES)(data, rng)
    chunks[which] = kind, data
    if rng.random() < 0.2:
        chunks.insert(rng.randrange(len(chunks)), rng.choice(chunks))
    parts = [struct.pack(">I", len(d)) + k + d + struct.pack(">I", zlib.crc32(k + d)) for k, d in chunks]
    return content[:8] + b"".join(parts)


BYTES = (_flip, _flip, _truncate, _insert, _remove, _extreme)
TEXT = (_number, _number, _lines, _word, _recode, *BYTES)
KINDS: dict[str, tuple[Callable[[bytes, random.Random], bytes], ...]] = {
    "bytes": (*BYTES, _extreme, _extreme),
    "text": TEXT,
    "json": (*(_json,) * 8, _deep, *TEXT),
    "safetensors": (*(_safetensors,) * 4, *BYTES),
    "png": (*(_png,) * 8, *BYTES),
    "ply": (_number, _lines, _word, *BYTES),
}


def mutated(content: bytes, kind: str, rng: random.Random) -> bytes:
    """Return a file's content with one to three kinds of damage."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        content = rng.choice(KINDS[kind])(content, rng)
    return content


def replaced(path: Path, rng: random.Random) -> str:
    """Put something else in the place of a file, and return what."""
    path.unlink(missing_ok=True)
    what = rng.choice(("nothing", "empty", "folder", "loop", "dangling", "device", "pipe", "pickle", "zip"))
    put(path, what)
    return what


def put(path: Path, what: str) -> None:
    """Put something there that is no valid file."""
    if what == "folder":
        path.mkdir()
    elif what in ("loop", "dangling", "device"):
        path.symlink_to({"loop": path, "dangling": path.with_name("none"), "device": Path("/dev/zero")}[what])
    elif what == "pipe":
        os.mkfifo(path)
    elif what != "nothing":
        contents = {
            "empty": b"",
            "pickle": pickled(path.with_name("marker")),
            "zip": b"PK\x03\x04" + b"\0" * 60,
        }
        path.write_bytes(contents[what])


def is_one_sentence(text: str, folder: Path) -> bool:
    """Return whether an error is one line of bearable length, without control characters, that names the file."""
    shown = all(unicodedata.category(character) not in ("Cc", "Cf", "Cs", "Zl", "Zp") for character in text)
    named = str(folder) in text or text.startswith("Open3D is needed")  # then nothing is wrong with the file
    return shown and named and len(text) < MAX_SENTENCE
