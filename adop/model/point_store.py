"""Points in a file that is mapped into memory, in an order in which a view reads only what it draws.

The file is a safetensors file. Its points lie in layers of falling level-of-detail radius, each with four times as many
points as the one before. In a layer they are in Morton order, cut into blocks with bounding boxes. A view from afar reads
the first layers; one from nearby reads a few blocks of each. What is read is a page of the file, which the system drops
again when memory is short.

Source: layered point clouds (Gobbetti and Marton 2004), with the random level of detail of ADOP.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from adop.errors import UserError, one_line, quoted
from adop.files import check_readable, write_atomically
from adop.ops import Blocks, make_blocks
from adop.ops.types import BLOCK_STEPS, block_size_for
from adop.progress import Bar
from adop.scene.point_cloud import sorted_blocks

FORMAT = "adop-points-1"
DIGEST = "sha256"  # name of the tensor with the hash of all others but the points
LAYER_RATIO = 4  # points of a layer over those of the one before
FIRST_LAYER = 1 << 15  # points, at least, of the first layer
BINS_PER_OCTAVE, BINS = 8, 2048  # of the histogram of radii that the layers are cut from
CHUNK = 1 << 20  # points that are sorted and bounded at a time
DTYPE_NAMES = {  # in the header of a safetensors file
    torch.uint8: "U8",
    torch.float64: "F64",
    torch.float32: "F32",
    torch.int64: "I64",
    torch.int32: "I32",
    torch.bool: "BOOL",
}


@dataclass(frozen=True)
class StoredPoints:
    """Points and features on a device; on the CPU they are mapped from a file."""

    xyz: Tensor  # [N, 3] world
    radius: Tensor  # [N] level-of-detail radius, scene units
    normals: Tensor | None  # [N, 3] unit
    features: Tensor  # [N, C]
    blocks: Blocks

    @property
    def spread(self) -> int:
        """How many leading points lie all over the scene: about those of the first layer."""
        return max(1, len(self.radius) // LAYER_RATIO ** _finer_layers(len(self.radius)))

    @property
    def bytes_per_point(self) -> int:
        """Bytes that a point takes, with its features."""
        floats = 4 + self.features.shape[1] + (0 if self.normals is None else 3)
        return floats * self.features.element_size()

    def to(self, device: torch.device) -> StoredPoints:
        """Return the points on a device; on a CPU they stay in the file."""
        normals = None if self.normals is None else self.normals.to(device)
        parts = (self.xyz.to(device), self.radius.to(device), normals, self.features.to(device))
        return StoredPoints(*parts, self.blocks.to(device))


@dataclass(frozen=True)
class Tile:
    """Some of the points, in Morton order, float32 on the CPU."""

    xyz: Tensor  # [M, 3]
    radius: Tensor  # [M]
    normals: Tensor | None  # [M, 3]
    features: Tensor  # [M, C]

    def parts(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        found = {"xyz": self.xyz, "radius": self.radius, "normals": self.normals, "features": self.features}
        return {name: tensor for name, tensor in found.items() if tensor is not None}


def write_point_store(
    path: Path,
    tiles: Sequence[Callable[[], Tile]],
    others: Mapping[str, Tensor],
    metadata: Mapping[str, str],
) -> None:
    """Write points that need not fit into memory, and a few other tensors beside them.

    Args:
        tiles: each returns some of the points, and the same when it is called again; one follows the other in Morton
            order.
        others: tensors on the CPU, written as they are.
        metadata: texts that are read back.
    """
    histogram, first = _count_radii(tiles)
    count = int(histogram.sum())
    size = block_size_for(count)
    shapes = {name: (count, *tensor.shape[1:]) for name, tensor in first.parts().items()}
    blocks = -(-count // size)
    tables = {
        "blocks.lower": torch.zeros(blocks, 3),
        "blocks.upper": torch.zeros(blocks, 3),
        "blocks.radius": torch.zeros(blocks, BLOCK_STEPS),
        "blocks.falling": torch.zeros(blocks, dtype=torch.bool),
    }
    entries = {f"points.{name}": (torch.float32, shape) for name, shape in shapes.items()}
    small = {**tables, **others, DIGEST: torch.zeros(32, dtype=torch.uint8)}
    entries |= {name: (tensor.dtype, tuple(tensor.shape)) for name, tensor in small.items()}
    texts = {**metadata, "format": FORMAT, "block_size": str(size)}

    def write(temporary: Path) -> None:
        places = _make_file(temporary, entries, texts)
        arrays = {
            name: np.memmap(temporary, np.float32, "r+", places[f"points.{name}"], shape)
            for name, shape in shapes.items()
        }
        _write_layers(tiles, histogram, arrays)
        _bound_blocks(arrays, size, tables)
        for array in arrays.values():
            array.flush()
        small[DIGEST] = _digest(small, texts)
        with open(temporary, "r+b") as file:
            for name, tensor in small.items():
                file.seek(places[name])
                file.write(tensor.contiguous().numpy().tobytes())

    for unfinished in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed
        unfinished.unlink()
    write_atomically(path, write)


def _digest(small: Mapping[str, Tensor], texts: Mapping[str, str]) -> Tensor:
    """Return the SHA-256 [32] of the small tensors and of the texts; the points themselves are not part of it."""
    result = hashlib.sha256(repr(sorted(texts.items())).encode())
    for name in sorted(small):
        if name != DIGEST:
            result.update(f"{name} {small[name].dtype} {list(small[name].shape)}\n".encode())
            result.update(small[name].contiguous().numpy().tobytes())
    return torch.frombuffer(bytearray(result.digest()), dtype=torch.uint8)


def _count_radii(tiles: Sequence[Callable[[], Tile]]) -> tuple[np.ndarray, Tile]:
    """Return how many radii of each tile lie in each bin [T, BINS], and the first tile."""
    histogram = np.zeros((len(tiles), BINS), np.int64)
    first = None
    for number, tile in enumerate(Bar(tiles, "counting points", len(tiles))):
        made = tile()
        first = made if first is None else first
        histogram[number] = np.bincount(_bins(made.radius), minlength=BINS)
    assert first is not None
    return histogram, first


def _bins(radius: Tensor) -> np.ndarray:
    """Return the bins of radii [M]; larger radii have larger numbers."""
    octave = radius.double().clamp_min(1e-30).log2().nan_to_num(nan=-100.0)
    return (BINS // 2 + octave * BINS_PER_OCTAVE).long().clamp(0, BINS - 1).numpy()


def _finer_layers(total: int) -> int:
    """Return how many layers follow the first one."""
    return max(0, math.ceil(math.log(max(total / FIRST_LAYER, 1), LAYER_RATIO)))


def _layers_of_bins(histogram: np.ndarray) -> np.ndarray:
    """Return the layer [BINS] of each bin: 0 for the largest radii, the last one for the smallest."""
    total = int(histogram.sum())
    larger = histogram.sum(0)[::-1].cumsum()[::-1]  # points of a bin or of those above it
    limits = [total / LAYER_RATIO**k for k in range(_finer_layers(total), 0, -1)]
    return np.searchsorted(np.array(limits), larger, side="left")


def _write_layers(
    tiles: Sequence[Callable[[], Tile]], histogram: np.ndarray, arrays: Mapping[str, np.ndarray]
) -> None:
    """Write the points layer by layer, in a layer tile by tile."""
    layer_of_bin = _layers_of_bins(histogram)
    layers = int(layer_of_bin.max()) + 1
    counts = np.stack([histogram[:, layer_of_bin == layer].sum(1) for layer in range(layers)])  # [L, T]
    starts = np.concatenate(([0], counts.reshape(-1).cumsum()[:-1])).reshape(counts.shape)
    for number, make in enumerate(Bar(tiles, "writing points", len(tiles))):
        tile = make()
        layer_of_point = layer_of_bin[_bins(tile.radius)]
        for layer in range(layers):
            chosen = torch.from_numpy(np.flatnonzero(layer_of_point == layer))
            part = slice(starts[layer, number], starts[layer, number] + len(chosen))
            for name, values in tile.parts().items():
                arrays[name][part] = values[chosen].numpy()


def _bound_blocks(arrays: Mapping[str, np.ndarray], size: int, tables: Mapping[str, Tensor]) -> None:
    """Sort the points of each block by falling radius, and fill the tables of the blocks."""
    step = max(CHUNK // size, 1) * size
    count = len(arrays["radius"])
    for first in Bar(range(0, count, step), "bounding blocks", -(-count // step)):
        part = slice(first, min(first + step, count))
        index = sorted_blocks(arrays["radius"][part], size)
        for array in arrays.values():
            array[part] = array[part][index]
        xyz, radius = (torch.from_numpy(arrays[name][part].copy()) for name in ("xyz", "radius"))
        bounds = make_blocks(xyz, radius, size)
        rows = slice(first // size, first // size + len(bounds.lower))
        for name in ("lower", "upper", "radius", "falling"):
            tables[f"blocks.{name}"][rows] = getattr(bounds, name)


def _make_file(
    path: Path, entries: Mapping[str, tuple[torch.dtype, tuple[int, ...]]], texts: Mapping[str, str]
) -> dict[str, int]:
    """Write the header of a safetensors file and make room for its tensors; return where each begins."""
    # The larger numbers come first, so that each tensor begins at a multiple of its numbers' size.
    ordered = sorted(entries.items(), key=lambda entry: -entry[1][0].itemsize)
    header: dict[str, object] = {"__metadata__": dict(texts)}
    begins, end = {}, 0
    for name, (dtype, shape) in ordered:
        begins[name], end = end, end + dtype.itemsize * math.prod(shape)
        header[name] = {
            "dtype": DTYPE_NAMES[dtype],
            "shape": list(shape),
            "data_offsets": [begins[name], end],
        }
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    with open(path, "wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        file.flush()
        allocate(file.fileno(), 8 + len(text) + end)
    return {name: 8 + len(text) + begin for name, begin in begins.items()}


def allocate(descriptor: int, size: int) -> None:
    """Make a file as long as that. A full disk raises OSError now, instead of ending the program while it is mapped."""
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(descriptor, 0, size)
    else:
        os.truncate(descriptor, size)


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    """Yield an open file of points; what is wrong with it is a UserError."""
    check_readable(path)
    try:
        with safe_open(path, framework="numpy") as file:
            yield file
    except (OSError, SafetensorError, ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise UserError(f"{path}: is no readable file of points ({one_line(error)}); delete it") from None


def read_texts(path: Path) -> dict[str, str]:
    """Return the texts of a file of points. Raises: UserError where it is none."""
    with _opened(path) as file:
        metadata = file.metadata() or {}
    if metadata.get("format") != FORMAT:
        raise UserError(
            f"{path}: is no file of points of this version of adop, whose format is {FORMAT}; delete it"
        )
    return metadata


def read_point_store(path: Path) -> tuple[StoredPoints, dict[str, Tensor], dict[str, str]]:
    """Return the points of a file, mapped from it for reading only, and its other tensors and texts.

    Raises: UserError where the file is damaged; of the points themselves only the number is checked.
    """
    texts = read_texts(path)
    with _opened(path) as file:
        names = [name for name in file.keys() if not name.startswith("points.")]  # noqa: SIM118
        small = {name: torch.from_numpy(file.get_tensor(name)) for name in names}
        points = _map_points(path)
    digest = small.get(DIGEST)
    if digest is None or not torch.equal(digest, _digest(small, texts)):
        raise UserError(f"{path}: is damaged, as its hash is not that of its content; delete it")
    del small[DIGEST]
    text = texts.get("block_size", "")
    size = int(text) if text.isdecimal() and len(text) < 10 else 0
    if size < 1 or size % BLOCK_STEPS:
        raise UserError(f"{path}: {quoted(text)} is no size of its blocks; delete it")
    tables = {name: small.pop(f"blocks.{name}", None) for name in ("lower", "upper", "radius", "falling")}
    _check_shapes(path, points, tables, size)
    parts = (points["xyz"], points["radius"], points.get("normals"), points["features"])
    return StoredPoints(*parts, Blocks(**tables, size=size)), small, texts  # type: ignore[arg-type]


def _map_points(path: Path) -> dict[str, Tensor]:
    """Return the points' tensors by name, mapped for reading only: a file may be larger than the memory.

    The header has been checked by the library before.
    """
    with open(path, "rb") as file:
        length = int.from_bytes(file.read(8), "little")
        header = json.loads(file.read(length))
    points = {}
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable")
        for name, entry in header.items():
            if name.startswith("points."):
                begin = 8 + length + entry["data_offsets"][0]
                dtype = {"F32": np.float32}[entry["dtype"]]
                array = np.memmap(path, dtype, "r", begin, tuple(entry["shape"]))
                points[name.removeprefix("points.")] = torch.from_numpy(array)
    return points


def _check_shapes(
    path: Path, points: Mapping[str, Tensor], tables: Mapping[str, Tensor | None], size: int
) -> None:
    """Raise UserError unless all tensors are there, in shapes that fit."""
    count, width = _shape_of(points, path)
    blocks = -(-count // size)
    shapes = {"xyz": (count, 3), "radius": (count,), "normals": (count, 3), "features": (count, width)}
    table_shapes = {
        "lower": (blocks, 3),
        "upper": (blocks, 3),
        "radius": (blocks, BLOCK_STEPS),
        "falling": (blocks,),
    }
    for found, expected in ((points, shapes), (tables, table_shapes)):
        for name, shape in expected.items():
            tensor = found.get(name)
            dtype = torch.bool if name == "falling" else torch.float32
            if tensor is None and name == "normals":
                continue
            if tensor is None or tuple(tensor.shape) != shape or tensor.dtype != dtype:
                raise UserError(f"{path}: {name} is missing, or not {list(shape)} of {dtype}; delete it")


def _shape_of(points: Mapping[str, Tensor], path: Path) -> tuple[int, int]:
    """Return the number of points and the width of their features."""
    features = points.get("features")
    if features is None or features.dim() != 2 or not len(features):
        raise UserError(f"{path}: has no points with features; delete it")
    return len(features), features.shape[1]
