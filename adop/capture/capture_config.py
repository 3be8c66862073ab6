"""The options of a capture. The command line reads them for its help texts, so this module must not import torch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from adop.ranges import MAX_SIDE_PX, SMALLEST_PHOTO_PX, Count, Positive, Range

PhotoSide = Annotated[int, Range(SMALLEST_PHOTO_PX, MAX_SIDE_PX)]


@dataclass(frozen=True)
class CaptureConfig:
    """How photos are chosen, matched and placed."""

    camera: Literal["auto", "shared", "folder", "photo"] = "auto"
    """Which photos share a lens. auto: those of the same camera, lens, focal length and size; shared: all;
    folder: those in one folder; photo: none."""
    matcher: Literal["auto", "exhaustive", "sequential", "retrieval"] = "auto"
    """Which photos are compared. exhaustive: all with all; sequential: each with the next ones, and similar ones;
    retrieval: each with the most similar ones. auto: sequential for more than 30 frames of a video, exhaustive
    for up to 60 photos, else retrieval."""
    frames: Annotated[int, Range(2)] = 120
    """Number of frames to take from a video: the sharpest ones, evenly spread over its motion."""
    sfm_longest_side: PhotoSide = 3200
    """Photos are shrunk to this many pixels along the longer side while features are sought in them."""
    longest_side: PhotoSide = 1600
    """Longer side of the photos in the scene, in pixels: larger ones are reduced, and their lens with them."""
    features: Annotated[int, Range(8)] = 6000
    """Number of features of a photo that are compared, the largest ones first."""
    partners: Count = 30
    """Number of photos with which retrieval compares a photo."""
    masks: Path | None = None
    """Folder with the masks: named like the photo, with .png added or in place of its ending; black is ignored.
    None: masks beside the photos, or in a folder `masks`, if there are any."""
    panoramas: Literal["auto", "yes", "no"] = "auto"
    """Whether the photos are panoramas of 360 degrees (equirectangular), which are cut into views. auto: if they are
    twice as wide as high and their XMP tags say so, or their left and right edges meet."""
    input_linear: bool = False
    """The photos' values are linear light, as raw converters write them: encode them as sRGB. EXR photos always are."""
    focal_length_px: Positive | None = None
    """Focal length in pixels of the photos as stored; by default it is read from the EXIF tags, else estimated."""
    force: bool = False
    """Replace a scene that is already there."""
