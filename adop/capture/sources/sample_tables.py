"""A check of the tables in MP4 and QuickTime videos, for whose entries FFmpeg allocates memory before it reads them.

The format: ISO/IEC 14496-12, ISO base media file format.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from adop.errors import UserError

_CONTAINERS = {b"moov", b"trak", b"mdia", b"minf", b"stbl", b"moof", b"traf"}
# Bytes of an entry; the number of entries follows version and flags.
_ENTRY_BYTES = {b"stts": 8, b"ctts": 8, b"stss": 4, b"stps": 4, b"stsc": 12, b"stco": 4, b"co64": 8}
_MAX_DEPTH = 8


def check_sample_tables(video: Path) -> None:
    """Raise UserError for a video whose tables claim more entries than they hold, or more samples than it has bytes.

    Files of other formats pass.
    """
    size = video.stat().st_size
    samples = 0
    with open(video, "rb") as file:
        for kind, body, data in _boxes(file, 0, size, 0):
            _, first, second = struct.unpack(">III", data.ljust(12, b"\0"))
            if kind == b"stsz":  # size of all samples or 0, number of samples
                samples += max(1, first) * second
                holds = first > 0 or 12 + 4 * second <= body
            elif kind == b"trun":
                samples += first
                holds = True
            else:
                holds = 8 + _ENTRY_BYTES[kind] * first <= body
            if not holds or samples > size:
                name = kind.decode()
                raise UserError(
                    f"{video}: is damaged, as its table {name!r} claims more than the file holds; use another video."
                )


def _boxes(file: BinaryIO, start: int, end: int, depth: int) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield kind, length and the first 12 bytes of the body of each box with a table, from byte `start` to `end`."""
    while start + 8 <= end:
        file.seek(start)
        head = file.read(16).ljust(16, b"\0")
        size, kind, large = struct.unpack(">I4sQ", head)
        header = 16 if size == 1 else 8
        size = large if size == 1 else size or end - start
        if size < header:
            return
        body, stop = start + header, min(start + size, end)
        if kind in _CONTAINERS and depth < _MAX_DEPTH:
            yield from _boxes(file, body, stop, depth + 1)
        elif kind in _ENTRY_BYTES or kind in (b"stsz", b"trun"):
            file.seek(body)
            yield kind, stop - body, file.read(12)
        start += size
