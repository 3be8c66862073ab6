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
    """Folder with the masks: named like the photo, with .png added or in place of its ending. None: see find-masks."""
    find_masks: bool = True
    """Use masks beside the photos: `x_mask.png`, `x.mask.png` or `x.jpg.png` of `x.jpg`, or those in a folder `masks`."""
    split: Path | None = None
    """Folder with test.txt, and perhaps val.txt and train.txt, or a list of photos to hold out from training. None: as
    the imported file says."""
    exif: Path | None = None
    """CSV file for photos without EXIF tags: name, exposure_time, f_number, iso (or name, ev)."""
    input_linear: bool = False
    """The photos' values are linear light, as raw converters write them: encode them as sRGB. EXR photos always are."""
    link: bool = False
    """Link to the photos instead of copying them into the scene."""
    longest_side: Annotated[int, Range(SMALLEST_PHOTO_PX, MAX_SIDE_PX)] | None = None
    """Shrink larger photos and their masks to this many pixels along the longer side; their lens is scaled too."""
    skip_missing: bool = False
    """Leave out photos that are listed but not there, and say how many; otherwise they are an error."""
    force: bool = False
    """Replace a scene that is already there."""
    prepare: PrepareConfig = field(default_factory=PrepareConfig)
