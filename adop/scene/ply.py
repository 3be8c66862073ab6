"""Reading the vertices of untrusted PLY files, and writing them."""

from __future__ import annotations

import os
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from adop.errors import UserError, one_line, quoted
from adop.files import check_readable

MAX_HEADER_BYTES = 1 << 16
MAX_PROPERTIES = 256
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1", "short": "i2", "int16": "i2",
    "ushort": "u2", "uint16": "u2", "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_COLOUR_NAMES = (
    ("red", "green", "blue"),
    ("r", "g", "b"),
    ("diffuse_red", "diffuse_green", "diffuse_blue"),
)


_SPLAT_COLOUR_NAMES = ("f_dc_0", "f_dc_1", "f_dc_2")  # of 3D Gaussian splatting: colour = 0.5 + SH_C0 f_dc
SH_C0 = 0.28209479177387814  # the constant spherical harmonic, sqrt(1 / (4 pi))


@dataclass(frozen=True, eq=False)
class RawPoints:
    """Points as a file holds them, before anything is removed."""

    xyz: np.ndarray  # [N,3] f64, scene units; may hold NaN and inf
    normals: np.ndarray | None  # [N,3] f32, any length
    colors: np.ndarray | None  # [N,3] u8
    source: str = "the point cloud"  # its name in errors
    confidence: np.ndarray | None = None  # [N] f32, as stereo defines it, or as the file holds it


@dataclass(frozen=True)
class _Element:
    name: str
    count: int
    properties: tuple[tuple[str, str], ...]  # (name, numpy type); type "list" for lists

    @property
    def has_list(self) -> bool:
        return any(kind == "list" for _, kind in self.properties)

    def dtype(self, order: str) -> np.dtype:
        return np.dtype([(name, order + kind) for name, kind in self.properties])


@dataclass(frozen=True)
class _Header:
    encoding: str  # "ascii" | "binary_little_endian" | "binary_big_endian"
    elements: tuple[_Element, ...]  # in the order of the file
    size: int  # bytes of the header, where the data begin
    data_size: int  # bytes that follow the header


def read_ply(path: Path) -> RawPoints:
    """Read positions, normals, colours and confidence of the vertices of an ascii or binary PLY file.

    Every count in the header is checked against the file's length before memory is allocated, so that no file can
    claim more than about 30 times its size. Faces and everything else after the vertices are ignored. Files of 3D
    Gaussian splatting are read too: their colours are those seen from everywhere, and normals that are all zero are none.

    Raises: UserError naming the file and what is wrong in it.
    """
    path = Path(path)
    check_readable(path)
    try:
        with open(path, "rb") as file:
            columns = _read_vertices(path, file, _read_header(path, file))
    except OSError as error:
        raise UserError(f"{path}: cannot be read ({error.strerror or error}).") from error
    return _to_points(path, columns)


def write_ply(
    path: Path,
    xyz: np.ndarray,
    normals: np.ndarray | None,
    colors: np.ndarray | None,
    confidence: np.ndarray | None = None,
) -> None:
    """Write a binary little-endian PLY file: float32 positions, normals and confidence, uint8 colours."""
    fields = [("x", "<f4"), ("y", "<f4"), ("z", "<f4")]
    if normals is not None:
        fields += [("nx", "<f4"), ("ny", "<f4"), ("nz", "<f4")]
    if colors is not None:
        fields += [("red", "u1"), ("green", "u1"), ("blue", "u1")]
    if confidence is not None:
        fields += [("confidence", "<f4")]
    rows = np.empty(len(xyz), dtype=fields)
    for source, names in ((xyz, "x y z"), (normals, "nx ny nz"), (colors, "red green blue")):
        if source is not None:
            for column, name in enumerate(names.split()):
                rows[name] = source[:, column]
    if confidence is not None:
        rows["confidence"] = confidence
    lines = ["ply", "format binary_little_endian 1.0", f"element vertex {len(rows)}"]
    lines += [f"property {'uchar' if kind == 'u1' else 'float'} {name}" for name, kind in fields]
    with open(path, "wb") as file:
        file.write(("\n".join([*lines, "end_header"]) + "\n").encode("ascii"))
        file.write(rows.tobytes())


def _read_header(path: Path, file: BinaryIO) -> _Header:
    head = file.read(MAX_HEADER_BYTES)
    if not head.startswith((b"ply\n", b"ply\r\n", b"ply\r")):
        raise UserError(f"{path}: not a PLY file (its first line is not 'ply').")
    where, encoding = 0, ""
    elements: list[_Element] = []
    newline = b"\r" if head[3:4] == b"\r" and head[4:5] != b"\n" else b"\n"
    for number in range(1, MAX_HEADER_BYTES):
        end = head.find(newline, where)
        if end < 0:
            raise UserError(f"{path}: the PLY header has no 'end_header' in its first {len(head)} bytes.")
        words = head[where:end].decode("latin-1").split()
        where = end + 1
        if words == ["end_header"]:
            break
        if words[:1] == ["format"]:
            encoding = words[1] if len(words) > 1 else ""
        elif words[:1] == ["element"]:
            elements.append(_parse_element(path, number, words))
        elif words[:1] == ["property"]:
            elements[-1:] = [_add_property(path, number, words, elements)]
        elif words and words[0] not in ("ply", "comment", "obj_info"):
            raise UserError(
                f"{path}: line {number} of the PLY header has an unknown keyword: {quoted(words[0])}."
            )
    if encoding not in ("ascii", "binary_little_endian", "binary_big_endian"):
        raise UserError(f"{path}: unknown PLY format {quoted(encoding)}; use ascii or binary.")
    return _Header(encoding, tuple(elements), where, os.fstat(file.fileno()).st_size - where)


def _parse_element(path: Path, number: int, words: list[str]) -> _Element:
    if len(words) != 3 or not (words[2].isascii() and words[2].isdigit()) or len(words[2]) > 18:
        raise UserError(f"{path}: line {number} of the PLY header should read 'element NAME COUNT'.")
    return _Element(words[1], int(words[2]), ())


def _add_property(path: Path, number: int, words: list[str], elements: list[_Element]) -> _Element:
    if not elements:
        raise UserError(f"{path}: line {number} of the PLY header has a property before any element.")
    last = elements[-1]
    is_list = len(words) == 5 and words[1] == "list" and words[2] in _TYPES and words[3] in _TYPES
    if not is_list and not (len(words) == 3 and words[1] in _TYPES):
        raise UserError(f"{path}: line {number} of the PLY header is not a property of a known type.")
    if len(last.properties) >= MAX_PROPERTIES or words[-1] in dict(last.properties):
        raise UserError(
            f"{path}: line {number} of the PLY header repeats a property or has too many of them."
        )
    kind = "list" if is_list else _TYPES[words[1]]
    return _Element(last.name, last.count, (*last.properties, (words[-1], kind)))


def _read_vertices(path: Path, file: BinaryIO, header: _Header) -> dict[str, np.ndarray]:
    """Return the columns of the vertex element by name."""
    names = [element.name for element in header.elements]
    if "vertex" not in names:
        raise UserError(f"{path}: has no 'vertex' element, so no points.")
    index = names.index("vertex")
    vertex, before = header.elements[index], header.elements[:index]
    missing = [name for name in "xyz" if name not in dict(vertex.properties)]
    if missing:
        raise UserError(f"{path}: its vertices have no property {missing[0]!r}.")
    if vertex.has_list:
        raise UserError(
            f"{path}: its vertices have a list property, which adop cannot read; export plain points."
        )
    if header.encoding == "ascii":
        return _read_ascii(path, file, header, index)
    if any(element.has_list for element in before):
        raise UserError(f"{path}: lists precede the vertices, which adop cannot read; export plain points.")
    order = "<" if header.encoding == "binary_little_endian" else ">"
    skipped = sum(element.count * element.dtype(order).itemsize for element in before if element.properties)
    dtype = vertex.dtype(order)
    needed = skipped + vertex.count * dtype.itemsize
    if needed > header.data_size:
        raise UserError(
            f"{path}: is cut off or its header is wrong: {vertex.count} vertices need {needed} bytes, "
            f"but {header.data_size} follow the header."
        )
    file.seek(header.size + skipped)
    rows = np.fromfile(file, dtype=dtype, count=vertex.count)
    return {name: rows[name] for name, _ in vertex.properties}


def _read_ascii(path: Path, file: BinaryIO, header: _Header, index: int) -> dict[str, np.ndarray]:
    """Return the columns of the element at `index`, the vertices, of an ascii file."""
    vertex = header.elements[index]
    lines = sum(element.count for element in header.elements[:index])
    width = len(vertex.properties)
    if lines + 2 * vertex.count * width > header.data_size + 1:
        raise UserError(
            f"{path}: is cut off or its header is wrong: {vertex.count} vertices of {width} numbers do not fit "
            f"into {header.data_size} bytes."
        )
    rows = np.empty((0, width))
    if vertex.count:
        file.seek(header.size)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore", UserWarning)  # "input contained no data", reported below
                rows = np.loadtxt(
                    file, skiprows=lines, max_rows=vertex.count, comments=None, ndmin=2, encoding="latin-1"
                )
        except ValueError as error:
            raise UserError(f"{path}: a vertex line is not {width} numbers ({one_line(error)}).") from error
    if rows.shape != (vertex.count, width):
        raise UserError(
            f"{path}: the header promises {vertex.count} vertices of {width} numbers, "
            f"but the file has {rows.shape[0]} of {rows.shape[1]}."
        )
    return {
        name: _as_declared(rows[:, i], np.dtype(kind)) for i, (name, kind) in enumerate(vertex.properties)
    }


def _as_declared(values: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return a column of text as the integers that the header says it holds; others keep all of their digits."""
    if dtype.kind == "f" or not np.isfinite(values).all():
        return values
    limits = np.iinfo(dtype)
    return values.clip(limits.min, limits.max).astype(dtype)


def _to_points(path: Path, columns: dict[str, np.ndarray]) -> RawPoints:
    def stack(names: tuple[str, ...], dtype: type) -> np.ndarray:
        with np.errstate(over="ignore", invalid="ignore"):
            return np.stack([columns[name].astype(dtype) for name in names], axis=1)

    xyz = stack(("x", "y", "z"), np.float64)
    has_normals = all(name in columns for name in ("nx", "ny", "nz"))
    normals = stack(("nx", "ny", "nz"), np.float32) if has_normals else None
    if normals is not None and len(normals) and (normals == 0).all():
        normals = None
    colors = None
    for names in (*_COLOUR_NAMES, _SPLAT_COLOUR_NAMES):
        if all(name in columns for name in names):
            values = stack(names, np.float64)
            if names == _SPLAT_COLOUR_NAMES:
                colors = _clip_to_bytes((0.5 + SH_C0 * values) * 255.0)
            else:
                colors = _to_bytes(values, columns[names[0]].dtype)
            break
    confidence = stack(("confidence",), np.float32)[:, 0] if "confidence" in columns else None
    return RawPoints(xyz, normals, colors, str(path), confidence)


def _to_bytes(colors: np.ndarray, dtype: np.dtype) -> np.ndarray:
    """Return colours as bytes: integers above 255 have 16 bits, floats that are nearly all in [0, 1] end there."""
    colors = np.nan_to_num(colors, nan=0.0, posinf=255.0, neginf=0.0)
    if dtype.kind != "f" and colors.max(initial=0) > 255:
        colors = colors / 257.0
    elif dtype.kind == "f" and colors.size and np.quantile(colors, 0.99) <= 1.0:  # some are overexposed
        colors = colors * 255.0
    return _clip_to_bytes(colors)


def _clip_to_bytes(colors: np.ndarray) -> np.ndarray:
    return np.clip(np.rint(np.nan_to_num(colors)), 0, 255).astype(np.uint8)
