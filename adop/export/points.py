"""The points of a run as others see them: source coordinates, image colours; and the PLY files that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from adop.errors import UserError
from adop.ops import HARMONIC_COEFFICIENTS
from adop.render.camera_settings import CameraSettings, develop
from adop.render.crop_box import load_crop_box
from adop.run.render import refined_scene
from adop.run.run import Run
from adop.scene.visibility import PointVisibility

_PLY_TYPES = {"float32": "float", "float64": "double", "uint8": "uchar"}
MARGIN = 0.05  # of the size of the box around the scene's own points
_ROWS = 1 << 18  # vertices that are written at a time
TOGETHER = 1 << 20  # points whose colours are computed at a time


@dataclass(frozen=True, eq=False)
class ExportedPoints:
    """The points of a run as its camera shows them at the mean exposure of the trained photos."""

    xyz: np.ndarray  # [N,3] f64
    normals: np.ndarray | None  # [N,3] f32, unit
    colours: np.ndarray  # [N,3] f32, values of an image, in [0,1]
    # [N,3,3] f32: how much each channel of the colour changes with each coordinate of the unit direction from the
    # camera to the point, beside the mean of the directions in which photos see it; None: it does not change.
    slopes: np.ndarray | None
    directions: np.ndarray | None  # [N,3] f32, that mean
    kept: np.ndarray  # bool, which of the run's points these are

    @property
    def colour_bytes(self) -> np.ndarray:
        """[N,3] u8 colours."""
        return np.rint(255 * self.colours).astype(np.uint8)


def exported_points(run: Run, lens: int | None, offset: np.ndarray) -> ExportedPoints:
    """Return the points of a run, those in its crop box if it has one.

    A colour that depends on the direction is that of the mean, over the trained photos that see the point, of the
    logarithms of its light.

    Args:
        lens: the scene's lens whose response turns light into colours; None: the first.
        offset: [3] f64, added to the positions.

    Raises: UserError where the scene has no such lens.
    """
    settings = CameraSettings(lens=checked_lens(run, lens or 0))
    with torch.no_grad():
        xyz = run.pipeline.points.positions().cpu().numpy()
    features = run.pipeline.points.features.detach()
    harmonics = _harmonics(run)
    directions = None if harmonics is None else _mean_directions(run, xyz)
    parts = []
    for first in range(0, len(xyz), TOGETHER):
        part = slice(first, first + TOGETHER)
        light, own = features[part, :3].to(run.device, copy=True), None
        if harmonics is not None and directions is not None:
            own = harmonics[part].to(light)
            light += torch.einsum("nca,na->nc", own, torch.from_numpy(directions[part]).to(light))
        parts.append(_colours(run, light, own, settings))
    colours = np.concatenate([colour for colour, _ in parts])
    slopes = None if harmonics is None else np.concatenate([slope for _, slope in parts])
    normals, kept = run.pipeline.points.normals, exported(run)
    return ExportedPoints(
        xyz[kept].astype(np.float64) + offset,
        None if normals is None else normals.cpu().numpy()[kept],
        colours[kept],
        None if slopes is None else slopes[kept],
        None if directions is None else directions[kept],
        kept,
    )


def _colours(
    run: Run, light: Tensor, harmonics: Tensor | None, settings: CameraSettings
) -> tuple[np.ndarray, np.ndarray]:
    """Return the colours [M, 3] of log light [M, 3], and their slopes [M, 3, 3] by direction; [0] without harmonics."""
    light.requires_grad_(harmonics is not None)
    with torch.set_grad_enabled(harmonics is not None):
        colours = develop(run.pipeline.tonemapper, light.exp().T[None, :, :, None], settings)[0, :, :, 0].T
    slopes = light.new_empty(0)
    if harmonics is not None:
        (gradient,) = torch.autograd.grad(colours.sum(), light)
        slopes = gradient[:, :, None] * harmonics
    return colours.detach().cpu().numpy(), slopes.detach().cpu().numpy()


@torch.no_grad()
def exported(run: Run) -> np.ndarray:
    """Return [N] bool, the points that are exported: those in the run's crop box, if it has one, and near the scene.

    Points that training added may stand for the sky, far behind all that was measured: those that lie outside the box
    around the scene's own points, a little enlarged, would be in the way of other programs.

    Raises: UserError where there is no such point.
    """
    box, xyz = load_crop_box(run.folder), run.pipeline.points.positions().cpu().numpy()
    low, high = run.scene.points.xyz.min(0), run.scene.points.xyz.max(0)
    margin = MARGIN * (high - low)
    inside = ((xyz >= low - margin) & (xyz <= high + margin)).all(1)
    if box is not None:
        inside &= box.contains(xyz)
    if not inside.any():
        where = (
            "near the scene's own points" if box is None else "in its crop box; remove the box in the viewer"
        )
        raise UserError(f"{run.folder}: no point lies {where}.")
    return inside


def _harmonics(run: Run) -> Tensor | None:
    """Return [N, 3, 3], the harmonics of the points' log light by channel and axis; None where none were learned."""
    if not run.pipeline.config.harmonics:
        return None
    harmonics = run.pipeline.points.features.detach()[:, -HARMONIC_COEFFICIENTS:]
    return harmonics.reshape(-1, 3, 3) if harmonics.any() else None


def checked_lens(run: Run, lens: int) -> int:
    """Return the number of a lens. Raises: UserError where the scene has fewer lenses."""
    count = len(run.scene.lenses)
    if lens >= count:
        raise UserError(f"{run.folder}: there is no lens {lens}; the scene's are numbered 0 to {count - 1}")
    return lens


def _mean_directions(run: Run, xyz: np.ndarray) -> np.ndarray:
    """Return [N,3] f32, the mean unit direction from the trained photos that see a point to the point."""
    views = refined_scene(run).views
    visibility = PointVisibility(xyz, [views[photo] for photo in run.split["train"]])
    return -visibility.direction_sum / np.maximum(visibility.photo_count, 1)[:, None]


def xyz_columns(xyz: np.ndarray, offset: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the columns of positions: in double precision where an offset needs it, in single precision elsewhere."""
    kind = np.float64 if offset.any() else np.float32
    return [(name, xyz[:, axis].astype(kind)) for axis, name in enumerate("xyz")]


def surface_columns(points: ExportedPoints) -> list[tuple[str, np.ndarray]]:
    """Return the columns of normals, where there are any, and of colours."""
    columns = []
    if points.normals is not None:
        columns += [(f"n{name}", points.normals[:, axis]) for axis, name in enumerate("xyz")]
    colours = points.colour_bytes
    return columns + [(name, colours[:, channel]) for channel, name in enumerate(("red", "green", "blue"))]


def feature_columns(run: Run, kept: np.ndarray) -> list[tuple[str, np.ndarray]]:
    """Return the columns of the learned features, see `adop.ops.RasterConfig`, of the points that are kept.

    feature_0 to feature_2 are the logarithm of linear light; harmonic_0 to harmonic_8 are [channel, axis].
    """
    features = run.pipeline.points.features.detach().cpu().numpy()[kept]
    channels = features.shape[1] - (HARMONIC_COEFFICIENTS if run.pipeline.config.harmonics else 0)
    names = [f"feature_{index}" for index in range(channels)]
    names += [f"harmonic_{index}" for index in range(features.shape[1] - channels)]
    return [(name, features[:, index]) for index, name in enumerate(names)]


def write_ply_columns(
    path: Path,
    columns: Sequence[tuple[str, np.ndarray]],
    comments: Sequence[str] = (),
    triangles: np.ndarray | None = None,
) -> None:
    """Write a binary little-endian PLY file of vertices, and of triangles [F,3] where there are some.

    Args:
        columns: name and values [N] of each property, of type f32, f64 or u8.
        comments: lines of the header.
    """
    count, layout = len(columns[0][1]), [(name, values.dtype.newbyteorder("<")) for name, values in columns]
    lines = ["ply", "format binary_little_endian 1.0", *(f"comment {text}" for text in comments)]
    lines += [f"element vertex {count}"]
    lines += [f"property {_PLY_TYPES[values.dtype.name]} {name}" for name, values in columns]
    if triangles is not None:
        lines += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
    with open(path, "wb") as file:
        file.write(("\n".join([*lines, "end_header"]) + "\n").encode("ascii"))
        for start in range(0, count, _ROWS):
            part = slice(start, start + _ROWS)
            rows = np.empty(len(columns[0][1][part]), layout)
            for name, values in columns:
                rows[name] = values[part]
            file.write(rows.view(np.uint8).data)
        if triangles is not None:
            faces = np.empty(len(triangles), [("count", "u1"), ("vertices", "<i4", 3)])
            faces["count"], faces["vertices"] = 3, triangles
            file.write(faces.view(np.uint8).data)
