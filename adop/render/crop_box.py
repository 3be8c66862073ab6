"""The crop box of a run: the part of the scene that is drawn, kept in the run folder as `crop_box.json`."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adop.errors import UserError, one_line
from adop.files import read_json, write_text
from adop.model.pipeline import Pipeline
from adop.ops import Points

FORMAT = "adop-crop-box-1"
FILE = "crop_box.json"
MAX_COORDINATE = 1e9  # scene units


@dataclass(frozen=True, eq=False)
class CropBox:
    """A box in any orientation; what lies outside is not drawn.

    Raises: ValueError where the numbers are no box.
    """

    centre: np.ndarray  # [3] f64, world
    axes: np.ndarray  # [3, 3] f64, one unit axis a row, world
    half_size: np.ndarray  # [3] f64 > 0, along each axis, scene units

    def __post_init__(self) -> None:
        """Check the shapes and the numbers."""
        for name, shape in (("centre", (3,)), ("axes", (3, 3)), ("half_size", (3,))):
            array = np.asarray(getattr(self, name), np.float64)
            if array.shape != shape or not (np.abs(array) < MAX_COORDINATE).all():
                raise ValueError(f"{name}: expected {'x'.join(map(str, shape))} finite numbers")
            object.__setattr__(self, name, array)
        if not np.allclose(self.axes @ self.axes.T, np.eye(3), atol=1e-3):
            raise ValueError("axes: expected three unit vectors at right angles, one a row")
        if not (self.half_size > 0).all():
            raise ValueError("half_size: expected three numbers above 0")

    def contains(self, xyz: np.ndarray) -> np.ndarray:
        """Return [...] bool, whether world points [..., 3] lie in the box."""
        return (np.abs((xyz - self.centre) @ self.axes.T) <= self.half_size).all(-1)


@contextmanager
def cropped(pipeline: Pipeline, box: CropBox | None) -> Iterator[None]:
    """Draw only the points in the box while the context lasts; None draws all. The environment stays as it is."""
    if box is None:
        yield
        return
    device = pipeline.device
    centre, axes, half = (
        torch.from_numpy(values).to(device, torch.float32) for values in (box.centre, box.axes, box.half_size)
    )

    def hide(_module: Any, _inputs: Any, points: Points) -> Points:
        inside = (((points.xyz - centre) @ axes.T).abs() <= half).all(1)
        # Points with a coordinate that is not finite are never drawn, and the blocks that bound the others still do.
        return replace(points, xyz=torch.where(inside[:, None], points.xyz, torch.nan))

    hook = pipeline.points.register_forward_hook(hide)
    try:
        with pipeline.every_operation():
            yield
    finally:
        hook.remove()


def save_crop_box(folder: Path, box: CropBox | None) -> None:
    """Write the box into a run folder, whole or not at all; None removes it."""
    path = folder / FILE
    if box is None:
        path.unlink(missing_ok=True)
        return
    folder.mkdir(parents=True, exist_ok=True)
    values = {
        "format": FORMAT,
        "centre": box.centre.tolist(),
        "axes": box.axes.tolist(),
        "half_size": box.half_size.tolist(),
    }
    write_text(path, json.dumps(values, indent=2, allow_nan=False) + "\n")


def load_crop_box(folder: Path) -> CropBox | None:
    """Return the box of a run folder, or None where it has none. Raises: UserError where the file is damaged."""
    path = folder / FILE
    if not os.path.lexists(path):
        return None
    try:
        values = read_json(path)
        if values["format"] != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        return CropBox(*(np.array(values[name], np.float64) for name in ("centre", "axes", "half_size")))
    except (ValueError, KeyError, TypeError, OverflowError) as error:
        reason = one_line(error).removeprefix(f"{path}: ").rstrip(".")
        raise UserError(f"{path}: is not a crop box ({reason}); delete it to draw the whole scene.") from None
