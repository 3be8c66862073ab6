"""What a capture found: figures of every photo, what is odd about them, and what to do."""

from __future__ import annotations

import dataclasses
import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from adop.capture.mapping import Mapping
from adop.capture.sources.photo_files import CapturedPhotos
from adop.files import write_text
from adop.images.photo_files import read_photo
from adop.progress import Bar
from adop.scene.scene import Scene
from adop.scene.visibility import visible

CELL_PX = 8  # a photo is covered where a point lies in the cell of so many pixels a side
SMALL_PX = 640  # longer side of the photos that sharpness and brightness are measured in
BLURRED = 0.35  # sharpness relative to the median of all photos, below which a photo is called blurred
EXTREME = 0.4  # share of a photo's pixels that are black or white, above which it is called badly exposed
POORLY_COVERED = 0.25  # share of a photo with points, below which it is named
MAX_EXPOSURE_DIFFERENCE = 2.5  # EV from the median of all photos, beyond which a photo is named
# Mean reprojection error, for photos of 1000 pixels, above which lens or photos are suspected.
LARGE_ERROR_PX = 1.0


@dataclass(frozen=True)
class PhotoReport:
    """What became of a photo, and what it looks like."""

    name: str
    placed: bool
    reason: str  # why it is not placed; empty if it is
    keypoints: int
    overlapping_photos: int
    observations: int
    reprojection_error_px: float | None
    coverage: float | None  # share of the photo in which points lie; None if it is not placed
    sharpness: float  # relative to the median of all photos
    exposure: float | None  # EV at ISO 100, from EXIF
    clipped: float  # share of the pixels that are black or white
    remarks: tuple[str, ...] = ()


@dataclass(frozen=True)
class CaptureReport:
    """What a capture found."""

    photos: tuple[PhotoReport, ...]
    groups: tuple[int, ...]  # photos in each group that has points in common, largest first
    sparse_points: int
    points: int
    reprojection_error_px: float
    track_length: float
    lenses: tuple[dict[str, Any], ...]
    advice: tuple[str, ...]


def make_report(photos: CapturedPhotos, mapping: Mapping, scene: Scene) -> CaptureReport:
    """Return the report on a finished capture.

    Args:
        photos: all photos, placed or not.
        scene: the finished scene, with dense points.
    """
    looks = [_look(file) for file in Bar(photos.files, desc="looking at the photos")]
    median = float(np.median([sharpness for sharpness, _ in looks])) or 1.0
    placed = enumerate(Bar(scene.photos, desc="coverage of the photos"))
    coverage = {photo.name: _coverage(scene, index) for index, photo in placed}
    exposure = {photo.name: photo.exposure for photo in scene.photos}
    known = [value for value in exposure.values() if value is not None]
    middle = float(np.median(known)) if known else None
    reports = []
    for fact, (sharpness, clipped) in zip(mapping.photos, looks, strict=True):
        photo = PhotoReport(
            name=fact.name,
            placed=fact.group == 0,
            reason=fact.reason,
            keypoints=fact.keypoints,
            overlapping_photos=fact.pairs,
            observations=fact.observations,
            reprojection_error_px=None if math.isnan(fact.error_px) else fact.error_px,
            coverage=coverage.get(fact.name),
            sharpness=sharpness / median,
            exposure=exposure.get(fact.name),
            clipped=clipped,
        )
        reports.append(dataclasses.replace(photo, remarks=tuple(_remarks(photo, middle))))
    return CaptureReport(
        photos=tuple(reports),
        groups=mapping.group_sizes,
        sparse_points=mapping.points,
        points=len(scene.points),
        reprojection_error_px=mapping.error_px,
        track_length=mapping.track_length,
        lenses=tuple(dataclasses.asdict(lens) for lens in mapping.lenses),
        advice=tuple(_advice(reports, mapping, max(max(size) for size in photos.sizes))),
    )


def save_report(report: CaptureReport, folder: Path) -> None:
    """Write a report as `report.json` and `report.txt`."""
    folder.mkdir(parents=True, exist_ok=True)
    data = json.dumps(dataclasses.asdict(report), indent=1) + "\n"
    write_text(folder / "report.json", data)
    text = "\n".join(report_lines(report)) + "\n"
    write_text(folder / "report.txt", text)


def report_lines(report: CaptureReport) -> list[str]:
    """Return a report as lines of text: the facts, what is odd about single photos, and advice."""
    odd = ((photo.name, oddities(photo)) for photo in report.photos)
    return [*fact_lines(report), *(f"{name}: {said}" for name, said in odd if said), *report.advice]


def oddities(photo: PhotoReport) -> str:
    """Return what is odd about a photo, empty if nothing is."""
    return "; ".join([*([f"left out: {photo.reason}"] if photo.reason else []), *photo.remarks])


def fact_lines(report: CaptureReport) -> list[str]:
    """Return what was found in all photos together, as lines of text."""
    placed = [photo for photo in report.photos if photo.placed]
    covered = [photo.coverage for photo in placed if photo.coverage is not None]
    groups = f", in groups of {', '.join(map(str, report.groups))}" if len(report.groups) > 1 else ""
    lines = [
        f"{len(placed)} of {len(report.photos)} photos placed{groups}",
        f"{report.sparse_points:,} points of structure from motion, seen by {report.track_length:.1f} photos each; "
        f"mean reprojection error {report.reprojection_error_px:.2f} px",
        f"{report.points:,} points in the scene; they cover {100 * np.mean(covered):.0f} % of the photos",
    ]
    for lens in report.lenses:
        source = "from EXIF or given" if lens["known"] else "guessed"
        lines.append(
            f"lens of {lens['photos']} photos ({lens['model']}): focal length {lens['focal_after_px']:.0f} px, "
            f"{source} as {lens['focal_before_px']:.0f} px"
        )
    values = [photo.exposure for photo in report.photos if photo.exposure is not None]
    if values:
        lines.append(f"exposure by EXIF: EV {min(values):.1f} to {max(values):.1f}")
    return lines


def _look(file: Path) -> tuple[float, float]:
    """Return how sharp a photo is, in any unit, and which share of its pixels is black or white."""
    from scipy import ndimage

    pixels, opaque = read_photo(file)
    grey = Image.fromarray(pixels).convert("L")
    scale = min(1.0, SMALL_PX / max(grey.size))
    size = (max(8, round(scale * grey.width)), max(8, round(scale * grey.height)))
    small = np.asarray(grey.resize(size, Image.Resampling.BOX), dtype=np.float32)
    coarse = ndimage.gaussian_filter(small, 2.0)
    contrast = float(np.std(coarse - ndimage.gaussian_filter(coarse, 4.0)))
    counted = np.ones(pixels.shape[:2], bool) if opaque is None else opaque
    clipped = (pixels.min(axis=2) >= 250) | (pixels.max(axis=2) <= 5)
    return float(np.std(ndimage.laplace(small))) / max(contrast, 1.0), float(clipped[counted].mean())


def _coverage(scene: Scene, index: int) -> float:
    """Return the share of the cells of a photo in which at least one of its visible points lies."""
    lens, pose = scene.views[index]
    points, _ = visible(scene.points.xyz, lens, pose)
    uv, _, _ = lens.project(scene.points.xyz[points].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3])
    columns, rows = -(-lens.width // CELL_PX), -(-lens.height // CELL_PX)
    covered = np.zeros((rows, columns), bool)
    column, row = (uv // CELL_PX).astype(int).T
    covered[row.clip(0, rows - 1), column.clip(0, columns - 1)] = True
    return float(covered.mean())


def _remarks(photo: PhotoReport, middle: float | None) -> list[str]:
    remarks = []
    if photo.sharpness < BLURRED:
        remarks.append("blurred")
    if photo.clipped > EXTREME:
        remarks.append(f"{100 * photo.clipped:.0f} % of it is black or white")
    if photo.exposure is not None and middle is not None:
        difference = photo.exposure - middle
        if abs(difference) > MAX_EXPOSURE_DIFFERENCE:
            remarks.append(f"its EXIF exposure is {difference:+.1f} EV from that of most photos")
    if photo.coverage is not None and photo.coverage < POORLY_COVERED:
        remarks.append(f"points cover only {100 * photo.coverage:.0f} % of it")
    return remarks


def _advice(photos: list[PhotoReport], mapping: Mapping, longest_side: int) -> list[str]:
    """Return sentences on what the user may do."""
    advice = []
    left = [photo for photo in photos if not photo.placed]
    if len(mapping.group_sizes) > 1:
        advice.append(
            f"The photos form {len(mapping.group_sizes)} groups that share no points; the largest is the scene. Take "
            "photos between the groups, or capture each group alone. The other groups are kept in capture/sparse."
        )
    elif left:
        advice.append(
            f"{len(left)} of {len(photos)} photos could not be placed: take more photos around what they show."
        )
    if any("blurred" in photo.remarks for photo in photos):
        advice.append("Leave blurred photos out, and hold the camera still or use a shorter exposure time.")
    if any(photo.clipped > EXTREME for photo in photos):
        advice.append("Photos that are largely black or white teach little: expose for the subject.")
    if any(photo.coverage is not None and photo.coverage < POORLY_COVERED for photo in photos):
        advice.append(
            "Where photos have few points, nothing with texture was seen by three photos from different places: "
            "take more photos there, closer to each other. Sky and water are no concern."
        )
    if mapping.error_px * 1000 / longest_side > LARGE_ERROR_PX:
        advice.append(
            "The reprojection error is large: zooming, image stabilisation or cropped photos may be why."
        )
    return advice
