"""The options of an import. The command line reads them for its help texts, so this module must not import torch."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

from adop.ranges import MAX_SIDE_PX, SMALLEST_PHOTO_PX, Range
from adop.scene.point_cloud import PrepareConfig


@dataclass(frozen=True)
class ImportConfig:
    """What an import does besides converting numbers."""

    masks: Path | None = None
    """Folder with the masks: named like the photo, with .png added or in place of its ending."""
    exif: Path | None = None
    """CSV file for photos without EXIF tags: name, exposure_time, f_number, iso (or name, ev)."""
    link: bool = False
    """Link to the photos instead of copying them into the scene."""
    longest_side: Annotated[int, Range(SMALLEST_PHOTO_PX, MAX_SIDE_PX)] | None = None
    """Shrink larger photos and their masks to this many pixels along the longer side; their lens is scaled too."""
    skip_missing: bool = False
    """Leave out photos that are listed but not there, and say how many; otherwise they are an error."""
    force: bool = False
    """Replace a scene that is already there."""
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
