"""What can be exported, under which names, and the options of each kind."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Literal

from adop.errors import UserError, quoted
from adop.files import check_writable
from adop.ranges import Fraction, Natural, Range, check_ranges

Kind = Literal["ply", "colmap", "nerfstudio", "3dgs", "mesh", "lut", "csv", "network"]

# How the output of each kind may end; without an ending it is a folder.
ENDINGS: dict[Kind, tuple[str, ...]] = {
    "ply": (".ply",),
    "colmap": (),
    "nerfstudio": (),
    "3dgs": (".ply",),
    "mesh": (".ply", ".obj", ".glb"),
    "lut": (".cube",),
    "csv": (".csv",),
    "network": (".safetensors",),
}
FILE_ENDINGS = {ending for endings in ENDINGS.values() for ending in endings} | {
    ".json",
    ".bin",
    ".txt",
    ".zip",
}
# What an export to a folder holds. A folder with anything else in it is not replaced.
COLMAP_FILES = {
    f"{name}.{end}" for name in ["cameras", "images", "points3D", "rigs", "frames"] for end in ("bin", "txt")
}
CONTENTS: dict[Kind, set[str]] = {
    "colmap": {*COLMAP_FILES, "test.txt"},
    "nerfstudio": {"transforms.json", "points.ply", "images", "masks"},
}
# The kinds that an option changes; the others refuse it.
USED_BY: dict[str, tuple[Kind, ...]] = {
    "lens": ("ply", "colmap", "nerfstudio", "3dgs", "mesh", "lut"),
    "coordinates": ("ply", "colmap", "nerfstudio", "mesh"),
    "features": ("ply",),
    "text": ("colmap",),
    "link": ("nerfstudio",),
    "force": ("colmap", "nerfstudio"),
    "gaussian_size": ("3dgs",),
    "mesh_depth": ("mesh",),
    "mesh_trim": ("mesh",),
    "lut_samples": ("lut",),
}


@dataclass(frozen=True)
class ExportConfig:
    """Options of an export. One that does not change the chosen kind is refused."""

    lens: Natural | None = None
    """Number of the lens whose response turns light into colours, or is written. None: the first, or the only one."""
    coordinates: Literal["source", "scene"] = "source"
    """source: the coordinates that the scene was imported from; scene: its own, which differ if they were far off."""
    features: bool = False
    """ply: write the learned features of the points too."""
    text: bool = False
    """colmap: write text files instead of binary ones."""
    link: bool = False
    """nerfstudio: make symbolic links to the photos and masks instead of copying them."""
    force: bool = False
    """colmap, nerfstudio: replace an earlier export in the output folder."""
    gaussian_size: Annotated[float, Range(0.01, 10)] = 0.4
    """3dgs: standard deviation of a Gaussian along the surface, in distances to the point's 4th neighbour."""
    mesh_depth: Annotated[int, Range(4, 14)] = 10
    """mesh: depth of the octree; each level halves the size of its finest cells."""
    mesh_trim: Fraction = 0.02
    """mesh: share of the vertices that is cut off where the fewest points are; those far from any point always are."""
    lut_samples: Annotated[int, Range(2, 65_536)] = 4096
    """lut: number of samples, evenly spaced in linear light."""


def check_export(kind: Kind, output: Path, config: ExportConfig, label: Callable[[str], str] = str) -> None:
    """Raise UserError where the output or an option does not fit the kind, or the output cannot be written.

    Args: label: what an option is called in the error, given its field's name.
    """
    if kind not in ENDINGS:
        raise UserError(f"kind: expected one of {', '.join(ENDINGS)}, got {quoted(kind)}")
    check_ranges(config, label)
    for field in fields(config):
        if getattr(config, field.name) != field.default and kind not in USED_BY[field.name]:
            raise UserError(f"{label(field.name)} changes nothing in an export to {kind}; leave it out")
    endings, ending = ENDINGS[kind], output.suffix.lower()
    if endings and ending not in endings:
        raise UserError(f"{output}: an export to {kind} is a file that ends in {' or '.join(endings)}.")
    if not endings and ending in FILE_ENDINGS:
        raise UserError(f"{output}: an export to {kind} is a folder; name one without {ending}.")
    check_writable(output, folder=not endings)
    if not endings:
        _check_folder(kind, output, config.force)


def _check_folder(kind: Kind, folder: Path, force: bool) -> None:
    """Raise UserError where a folder holds an earlier export that is not to be replaced, or something else."""
    held = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    other = sorted(held - CONTENTS[kind])
    if other:
        raise UserError(
            f"{folder}: holds something else ({quoted(other[0])}); name a new or an empty folder."
        )
    if held and not force:
        raise UserError(f"{folder}: is not empty; --force replaces an earlier export to {kind}.")
