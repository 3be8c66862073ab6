"""Reading the points of an import: PLY files, and the LAS and LAZ files of laser scanners and surveyors."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from adop.errors import UserError, one_line
from adop.files import check_readable
from adop.scene.ply import RawPoints, read_ply

if TYPE_CHECKING:
    import laspy

LAS_ENDINGS = (".las", ".laz")
_CHUNK_BYTES = 1 << 24  # of points that are decoded at a time
_LAYERS = {
    6: 9,
    7: 10,
    8: 11,
    9: 10,
    10: 12,
}  # of a chunk of LAZ by the point format, without those of extra bytes
_RECORD_BYTES = 54  # of a variable length record, at least
_CHUNK_LEAST = 20  # bytes of a chunk of LAZ, which begins with a point as it is
_HEADER_BYTES = 227  # of LAS 1.0 to 1.2; later ones are longer
_MAX_PER_BYTE = 16  # points that LAZ stores in a byte at best; real scans need some bytes for one


def read_points(path: Path) -> RawPoints:
    """Read the points of a PLY, LAS or LAZ file, which its ending tells.

    Raises: UserError naming the file and what is wrong in it, or that a package is missing.
    """
    return read_las(path) if path.suffix.lower() in LAS_ENDINGS else read_ply(path)


def read_las(path: Path) -> RawPoints:
    """Read the positions and colours of a LAS or LAZ file.

    Positions are whole numbers times the header's scale, plus its offset, in float64. Colours have 16 bits; where none is
    above 255, their writer used 8. Colours that are all zero are none. Source: the LAS specification 1.4 R15.

    Raises: UserError naming the file and what is wrong in it, or that laspy is missing.
    """
    check_readable(path)
    try:
        import laspy
    except ImportError:
        raise UserError(f"{path}: LAS and LAZ files need another package: pip install 'adop[las]'.") from None
    _check_header(path)
    try:
        with laspy.open(path, read_evlrs=False, laz_backend=laspy.LazBackend.Lazrs) as reader:
            count = reader.header.point_count
            if any(vlr.record_data[12:16] == bytes(4) for vlr in reader.header.vlrs.get("LasZipVlr")):
                raise ValueError("its chunks of points are empty")
            if reader.header.are_points_compressed and reader.header.point_format.id in _LAYERS:
                _check_layers(path, reader.header)
            with_colors = "red" in reader.header.point_format.dimension_names
            xyz, colors = [np.empty((0, 3))], [np.empty((0, 3), np.uint16)]
            chunk = max(1, _CHUNK_BYTES // reader.header.point_format.size)
            while reader.points_read < count:
                points = reader.read_points(chunk)
                xyz.append(
                    np.stack([np.asarray(points.x), np.asarray(points.y), np.asarray(points.z)], axis=1)
                )
                if with_colors:
                    colors.append(np.stack([points[name] for name in ("red", "green", "blue")], axis=1))
    except (KeyboardInterrupt, SystemExit, MemoryError):
        raise
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or one_line(error)}).") from error
    except (
        BaseException
    ) as error:  # laspy raises whatever it stumbles over; its decoder's panics are no Exception
        raise UserError(f"{path}: is cut off or damaged ({one_line(error)}).") from error
    positions = np.concatenate(xyz)
    if len(positions) != count:
        raise UserError(f"{path}: is cut off: it promises {count} points, but has {len(positions)}.")
    return RawPoints(positions, None, _to_bytes(np.concatenate(colors)), str(path))


def _check_header(path: Path) -> None:
    """Raise UserError for a header whose sizes do not fit the file, or whose scale is no number."""
    size = os.path.getsize(path)
    with open(path, "rb") as file:
        head = file.read(375)
    if head[:4] != b"LASF":
        raise UserError(f"{path}: is not a LAS file (it does not begin with 'LASF').")
    minor = head[25] if len(head) > 25 else 0
    if len(head) < (375 if minor >= 4 else _HEADER_BYTES):
        raise UserError(f"{path}: is cut off within its header.")
    own, first, records, kind, length, count = struct.unpack_from("<HIIBHI", head, 94)
    if minor >= 4:
        (count,) = struct.unpack_from("<Q", head, 247)
    compressed = bool(kind & 0x80)
    needed = count // _MAX_PER_BYTE if compressed else count * length
    if first > size or needed > size - first or length == 0 or records * _RECORD_BYTES > first - own:
        raise UserError(
            f"{path}: is cut off or its header is wrong: {count} points and {records} records before them do not "
            f"fit into its {size} bytes."
        )
    if compressed:
        _check_chunks(path, first, size)
    numbers = np.array(struct.unpack_from("<6d", head, 131))
    if not np.isfinite(numbers).all() or not numbers[:3].all() or np.abs(numbers).max() > 1e15:
        raise UserError(
            f"{path}: its scale or offset is zero, huge or not a number; export the points again."
        )


def _check_chunks(path: Path, first: int, size: int) -> None:
    """Raise UserError where the table of a LAZ file's chunks is longer than the file: its rows would be allocated."""
    with open(path, "rb") as file:
        file.seek(first)
        (place,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
        if place == -1:  # a writer that could not go back put it at the end
            file.seek(max(0, size - 8))
            (place,) = struct.unpack("<q", file.read(8).ljust(8, b"\0"))
        file.seek(place if first < place <= size else size)
        _, chunks = struct.unpack("<2I", file.read(8).ljust(8, b"\xff"))
    if chunks * _CHUNK_LEAST > size:
        raise UserError(
            f"{path}: is cut off or damaged (the table of its chunks does not fit into {size} bytes)."
        )


def _check_layers(path: Path, header: laspy.LasHeader) -> None:
    """Raise ValueError where the layers of a chunk of LAZ are longer than the chunk; they would be allocated."""
    import lazrs

    kind = header.point_format
    count = _LAYERS[kind.id] + kind.num_extra_bytes
    with open(path, "rb") as file:
        file.seek(header.offset_to_point_data)
        table = lazrs.read_chunk_table(file, lazrs.LazVlr(header.vlrs.get("LasZipVlr")[0].record_data))
        if sum(points for points, _ in table) < header.point_count:
            raise ValueError("the chunks do not hold all of its points")
        start = header.offset_to_point_data + 8
        for _, length in table:
            file.seek(start + kind.size + 4)  # the first point, and the number of points
            layers = file.read(4 * count)
            if (
                length > os.path.getsize(path) - start
                or len(layers) < 4 * count
                or sum(struct.unpack(f"<{count}I", layers)) > length
            ):
                raise ValueError(f"the layers of the chunk at byte {start} are longer than the chunk")
            start += length


def _to_bytes(colors: np.ndarray) -> np.ndarray | None:
    """Return colours [N,3] u16 as bytes, or None where there are none."""
    if not colors.any():
        return None
    if colors.max() <= 255:
        return colors.astype(np.uint8)
    return np.rint(colors / 257.0).astype(np.uint8)
