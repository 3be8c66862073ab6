"""Exporting a run: check what is asked for, write it whole or not at all, and say what was written."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from adop.errors import UserError
from adop.export.cameras import camera_notes
from adop.export.colmap import check_colmap, write_colmap
from adop.export.export_config import ExportConfig, Kind, check_export
from adop.export.gaussians import gaussian_columns
from adop.export.mesh import check_mesh, poisson_mesh, write_mesh
from adop.export.nerfstudio import PLY_FILE, check_nerfstudio, write_nerfstudio
from adop.export.physical_camera import photometry_table, response_cube
from adop.export.points import (
    ExportedPoints,
    exported_points,
    feature_columns,
    surface_columns,
    write_ply_columns,
    xyz_columns,
)
from adop.files import write_atomically, write_text
from adop.run.checkpoint import save_network
from adop.run.run import Run
from adop.scene.prepare import Report
from adop.scene.write import replace_folder


def export_run(
    run: Run,
    kind: Kind,
    output: Path | str,
    config: ExportConfig | None = None,
    report: Report = print,
) -> None:
    """Write a run, or a part of it, as a file or folder that other programs read.

    Colours are image values at the mean exposure of the trained photos. Positions and cameras are in the coordinates of
    the source that the scene was imported from, unless the config says otherwise. Those of 3dgs and .glb are the scene's
    own: these hold float32, which lacks the digits for large ones.

    Args:
        kind: ply: coloured points with normals. colmap: refined cameras and points, a COLMAP model. nerfstudio: refined
            cameras, points and photos, a folder with transforms.json. 3dgs: the points as small Gaussians, for splat
            viewers; what the network does is lost. mesh: a surface through the points. lut: the learned response of a
            lens, see `adop.export.physical_camera.response_cube`. csv: how the photos were exposed, see
            `photometry_table` there. network: the network alone, from which other runs can start.
        output: a file whose ending fits the kind; for colmap and nerfstudio a folder that is new or empty.
        report: called with a sentence for each thing that the user may want to know, at last with what was written.

    Raises: UserError for an output or an option that does not fit, a lens that the other program lacks, or a missing
        package. Nothing is written then.
    """
    config = config or ExportConfig()
    output = Path(os.path.realpath(output))
    check_export(kind, output, config)
    output.parent.mkdir(parents=True, exist_ok=True)
    write = {
        "ply": _export_ply,
        "colmap": _export_colmap,
        "nerfstudio": _export_nerfstudio,
        "3dgs": _export_gaussians,
        "mesh": _export_mesh,
        "lut": _export_response,
        "csv": _export_photometry,
        "network": _export_network,
    }[kind]
    content = write(run, output, config, report)
    report(f"{output}: {content}, {_size_text(output)}")


def _export_ply(run: Run, output: Path, config: ExportConfig, report: Report) -> str:
    offset = _offset(run, config)
    points = _points(run, config, offset, report)
    columns = [*xyz_columns(points.xyz, offset), *surface_columns(points)]
    learned = feature_columns(run, points.kept) if config.features else []
    write_atomically(output, lambda file: write_ply_columns(file, [*columns, *learned]))
    return _point_text(points) + (f" and {len(learned)} learned features" if learned else "")


def _points(run: Run, config: ExportConfig, offset: np.ndarray, report: Report) -> ExportedPoints:
    """Return the points to export, and report how many are left out."""
    points = exported_points(run, config.lens, offset)
    left_out = len(points.kept) - len(points.xyz)
    if left_out:
        report(
            f"{left_out:,} points outside the crop box, or far outside the scene's own points, are left out."
        )
    return points


def _export_colmap(run: Run, output: Path, config: ExportConfig, report: Report) -> str:
    check_colmap(run)
    offset = _offset(run, config)
    points = _points(run, config, offset, report)
    _write_folder(output, lambda folder: write_colmap(run, points, offset, folder, config.text))
    for sentence in camera_notes(run, "COLMAP"):
        report(sentence)
    return f"{_camera_text(run)}, {len(points.xyz):,} points"


def _export_nerfstudio(run: Run, output: Path, config: ExportConfig, report: Report) -> str:
    check_nerfstudio(run)
    if any(Path(os.path.realpath(photo.file)).is_relative_to(output) for photo in run.scene.photos):
        raise UserError(f"{output}: holds the photos of the scene; choose another output.")
    offset = _offset(run, config)
    points = _points(run, config, offset, report)

    def fill(folder: Path) -> None:
        write_nerfstudio(run, offset, folder, config.link)
        write_ply_columns(folder / PLY_FILE, [*xyz_columns(points.xyz, offset), *surface_columns(points)])

    _write_folder(output, fill)
    for sentence in camera_notes(run, "nerfstudio"):
        report(sentence)
    if offset.any():
        report(
            "nerfstudio computes in float32, too coarse for coordinates that large; --coordinates scene avoids them"
        )
    return f"{_camera_text(run)}, {len(points.xyz):,} points"


def _export_gaussians(run: Run, output: Path, config: ExportConfig, report: Report) -> str:
    points = _points(run, config, np.zeros(3), report)
    columns = gaussian_columns(points, config.gaussian_size)
    comments = [f"world_offset {_numbers(run.scene.world_offset)}"] if run.scene.world_offset.any() else []
    write_atomically(output, lambda file: write_ply_columns(file, columns, comments))
    report("3dgs: these are the points without the network, which fills holes and sharpens what adop renders")
    _report_offset(run, report)
    return f"{len(points.xyz):,} Gaussians"


def _export_mesh(run: Run, output: Path, config: ExportConfig, report: Report) -> str:
    check_mesh(run)
    ending, offset = output.suffix.lower(), _offset(run, config)
    if ending == ".glb":
        offset = np.zeros(3)
        _report_offset(run, report)
    points = _points(run, config, offset, report)
    mesh = poisson_mesh(points, config.mesh_depth, config.mesh_trim)
    write_atomically(output, lambda file: write_mesh(mesh, file, ending, run.scene.up_vector))
    return f"{len(mesh.vertices):,} coloured vertices, {len(mesh.triangles):,} triangles"


def _export_response(run: Run, output: Path, config: ExportConfig, report: Report) -> str:
    write_text(output, response_cube(run, config.lens, config.lut_samples))
    return f"{config.lut_samples:,} samples from linear light in [0, 1] to values of lens {config.lens or 0} in [0, 1]"


def _export_photometry(run: Run, output: Path, config: ExportConfig, report: Report) -> str:
    write_text(output, photometry_table(run))
    return f"{len(run.scene.photos)} photos; exposures in EV (stops), white balance as factors"


def _export_network(run: Run, output: Path, config: ExportConfig, report: Report) -> str:
    network = run.pipeline.network
    if network.kind == "none":
        raise UserError(f"{run.folder}: has no network to export, as it was trained with --network.kind none")
    save_network(output, network, run.progress)
    return f"a network of kind {network.kind}; `adop train SCENE --network.start {output}` starts from it"


def _offset(run: Run, config: ExportConfig) -> np.ndarray:
    """Return [3] f64, what is added to the scene's coordinates."""
    return run.scene.world_offset if config.coordinates == "source" else np.zeros(3)


def _report_offset(run: Run, report: Report) -> None:
    offset = run.scene.world_offset
    if offset.any():
        report(
            f"coordinates: the scene's own, as float32 is too coarse for the source's, which are {_numbers(offset)} more"
        )


def _write_folder(folder: Path, fill: Callable[[Path], None]) -> None:
    """Call `fill(new folder)` and move the result to `folder`, in place of what is there."""
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        new = Path(temporary) / folder.name
        new.mkdir()
        fill(new)
        replace_folder(new, folder)


def _point_text(points: ExportedPoints) -> str:
    with_normals = "colours" if points.normals is None else "normals, colours"
    return f"{len(points.xyz):,} points with {with_normals}"


def _camera_text(run: Run) -> str:
    photos, held_out = len(run.scene.photos), len(run.split["held_out"])
    lenses = len({photo.lens for photo in run.scene.photos})
    return f"{photos} photos ({held_out} held out), {lenses} lens{'es' if lenses > 1 else ''}"


def _numbers(values: np.ndarray) -> str:
    return " ".join(f"{value:.12g}" for value in values)


def _size_text(output: Path) -> str:
    """Return how large a file is, or the files of a folder without what their links lead to."""
    files = [file for file in output.rglob("*") if not file.is_dir()] if output.is_dir() else [output]
    size = sum(file.lstat().st_size for file in files)
    return f"{size / 1e6:,.1f} MB" if size >= 1e5 else f"{size / 1e3:,.1f} kB"
