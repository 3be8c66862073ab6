"""The readers of importers, other than those of COLMAP and nerfstudio, with a small valid input of each."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from adop.geometry.rigid_motion import invert_rigid
from adop.importers.programs.bundler import read_bundler
from adop.importers.programs.metashape import read_metashape
from adop.importers.programs.reality_capture import read_reality_capture
from adop.importers.read_points import read_points
from adop.importers.splits import held_out_photos, read_split
from support.imports import silent
from support.small_scene import ball, las_bytes, poses, write_photos

NAMES = ["photo0.png", "photo1.png", "photo2.png"]


@dataclass(frozen=True)
class Reader:
    """A reader, the files that it reads, and the kind of damage that each of them is made for."""

    make: Callable[[Path], object]  # writes a valid input into a folder
    read: Callable[[Path], object]  # reads that folder
    kinds: dict[str, str]  # kind of `mutations.KINDS` by file; others are left as they are


def _make_bundle(folder: Path) -> None:
    write_photos(folder / "images", 3)
    lines = ["# Bundle file v0.3", "3 2"]
    for pose in poses(3):
        matrix = np.diag([1.0, -1.0, -1.0, 1.0]) @ pose
        lines += ["50 -0.07 0.02", *(" ".join(map(repr, row)) for row in matrix[:3, :3].tolist())]
        lines.append(" ".join(map(repr, matrix[:3, 3].tolist())))
    for point in ball(2).tolist():
        lines += [" ".join(map(repr, point)), "10 20 30", "2 0 17 -3.5 4.25 3 5 1.0 -2.0"]
    (folder / "bundle.out").write_text("\n".join(lines) + "\n")
    (folder / "list.txt").write_text("".join(f"./images/{name} 0 532.5\n" for name in NAMES))


def _make_metashape(folder: Path) -> None:
    write_photos(folder / "images", 3)
    text = "<document version='2.0.0'><chunk label='a'><sensors><sensor id='0' type='frame'>"
    text += (
        "<resolution width='48' height='36'/><calibration type='frame' class='adjusted'><f>50</f><cx>0.5</cx>"
    )
    text += (
        "<b1>0.1</b1><k1>-0.05</k1><k4>0.001</k4><p1>1e-3</p1></calibration></sensor></sensors><components>"
    )
    text += (
        "<component id='0'><transform><rotation>1 0 0 0 1 0 0 0 1</rotation><translation>1 2 3</translation>"
    )
    text += "<scale>2</scale></transform></component></components><cameras>"
    for index, pose in enumerate(poses(3)):
        values = " ".join(map(repr, invert_rigid(pose).ravel().tolist()))
        text += f"<camera id='{index}' sensor_id='0' component_id='0' label='photo{index}'>"
        text += f"<transform>{values}</transform></camera>\n"
    (folder / "cameras.xml").write_text(text + "</cameras><reference>LOCAL_CS</reference></chunk></document>")


def _make_reality_capture(folder: Path) -> None:
    write_photos(folder / "images", 3)
    lines = ["#name,x,y,alt,heading,pitch,roll,f,px,py,k1,k2,k3,k4,t1,t2"]
    lines += [
        f"{name},1.5,2,3,{60 * i},80,5,37,0.01,0,-0.05,0.02,0,0.001,1e-3,0" for i, name in enumerate(NAMES)
    ]
    (folder / "cameras.csv").write_text("\n".join(lines) + "\n")


def _make_las(folder: Path) -> None:
    (folder / "a.las").write_bytes(las_bytes(ball(5), np.full((5, 3), 700, np.uint16)))


def _make_laz(folder: Path) -> None:
    import laspy

    data = laspy.LasData(laspy.LasHeader(version="1.4", point_format=7))
    data.x, data.y, data.z = ball(60).T
    data.red = np.arange(60)
    data.write(str(folder / "a.laz"))


def _make_lists(folder: Path) -> None:
    (folder / "train.txt").write_text("photo0.png\nimages/photo1.png\n")
    (folder / "val.txt").write_text("# one\n\n")
    (folder / "test.txt").write_text("C:\\images\\photo2.png\n")


def _read_lists(folder: Path) -> None:
    held_out_photos(read_split(folder), NAMES, str(folder), False)


def import_readers() -> dict[str, Reader]:
    """Return the readers by name; those of LAS files only where laspy is installed."""
    readers = {
        "bundler": Reader(
            _make_bundle,
            lambda d: read_bundler(d / "bundle.out", None, d / "images", False, silent),
            {"bundle.out": "text", "list.txt": "text"},
        ),
        "metashape": Reader(
            _make_metashape,
            lambda d: read_metashape(d / "cameras.xml", d / "images", False, silent),
            {"cameras.xml": "text"},
        ),
        "realityscan": Reader(
            _make_reality_capture,
            lambda d: read_reality_capture(d / "cameras.csv", d / "images", False, silent),
            {"cameras.csv": "text"},
        ),
        "split lists": Reader(
            _make_lists, _read_lists, {f"{part}.txt": "text" for part in ("train", "val", "test")}
        ),
    }
    if importlib.util.find_spec("laspy") is not None:
        readers["las"] = Reader(_make_las, lambda d: read_points(d / "a.las"), {"a.las": "bytes"})
        readers["laz"] = Reader(_make_laz, lambda d: read_points(d / "a.laz"), {"a.laz": "bytes"})
    return readers
