"""The page of a capture: each photo with the points that were found in it, its figures, and advice."""

from __future__ import annotations

import html
import re
from pathlib import Path

import numpy as np
from PIL import Image

from adop.capture.report import CaptureReport, PhotoReport, fact_lines, oddities
from adop.files import write_text
from adop.images.photo_files import read_photo
from adop.progress import Bar
from adop.scene.scene import Scene
from adop.scene.visibility import visible

WIDTH_PX = 480  # of a picture
STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1200px; padding: 0 1rem; color: #222 }
.photos { display: grid; grid-template-columns: repeat(auto-fill, minmax(24rem, 1fr)); gap: 1rem }
figure { margin: 0 } .pair { display: grid; grid-template-columns: 1fr 1fr; gap: 4px } img { width: 100%; display: block }
figcaption { color: #555; font-size: 13px } .odd { color: #a33 } li { margin: .2rem 0 }
"""


def write_page(report: CaptureReport, scene: Scene, photos: Path, folder: Path) -> None:
    """Write `index.html` and its pictures into a folder.

    Args:
        photos: folder of all photos, those included that were not placed.
    """
    pictures = folder / "photos"
    pictures.mkdir(parents=True, exist_ok=True)
    placed = {photo.name: index for index, photo in enumerate(scene.photos)}
    figures = []
    for number, photo in enumerate(Bar(report.photos, desc="pictures of the report")):
        stem = f"{number:04d}_" + re.sub(r"[^A-Za-z0-9._-]", "_", Path(photo.name).stem)
        _save(_reduced(photos / photo.name), pictures / f"{stem}.jpg")
        names = [f"{stem}.jpg"]
        if photo.name in placed:
            _save(_points(scene, placed[photo.name]), pictures / f"{stem}_points.jpg")
            names.append(f"{stem}_points.jpg")
        figures.append(_figure(photo, names))
    facts = "".join(f"<li>{html.escape(line)}</li>" for line in fact_lines(report))
    advice = "".join(f"<li>{html.escape(line)}</li>" for line in report.advice)
    todo = f"<h2>What to do</h2><ul>{advice}</ul>" if advice else ""
    page = (
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>adop: capture of {html.escape(scene.name)}</title>'
        f"<style>{STYLE}</style><h1>Capture of {html.escape(scene.name)}</h1><ul>{facts}</ul>{todo}"
        f'<h2>Photos, and the points found in them</h2><div class="photos">{"".join(figures)}</div></html>\n'
    )
    write_text(folder / "index.html", page)


def _figure(photo: PhotoReport, names: list[str]) -> str:
    images = "".join(f'<img src="photos/{name}" alt="" loading="lazy">' for name in names)
    facts = [f"{photo.keypoints} features, overlaps with {photo.overlapping_photos} photos"]
    if photo.coverage is not None:
        facts.append(f"points cover {100 * photo.coverage:.0f} %")
    if photo.reprojection_error_px is not None:
        facts.append(f"error {photo.reprojection_error_px:.2f} px")
    if photo.exposure is not None:
        facts.append(f"EV {photo.exposure:.1f}")
    odd = oddities(photo)
    marked = f' <span class="odd">{html.escape(odd)}</span>' if odd else ""
    caption = f"<b>{html.escape(photo.name)}</b>: {html.escape(', '.join(facts))}.{marked}"
    return f'<figure><div class="pair">{images}</div><figcaption>{caption}</figcaption></figure>'


def _reduced(file: Path) -> np.ndarray:
    pixels, _ = read_photo(file)
    image = Image.fromarray(pixels)
    height = max(1, round(WIDTH_PX * image.height / image.width))
    return np.asarray(image.resize((WIDTH_PX, height), Image.Resampling.LANCZOS))


def _points(scene: Scene, index: int) -> np.ndarray:
    """Return a picture of the points that a photo sees, in their colours on grey, the nearest ones in front."""
    lens, pose = scene.views[index]
    width, height = WIDTH_PX, max(1, round(WIDTH_PX * lens.height / lens.width))
    small = lens.scaled(width, height)
    points, depth = visible(scene.points.xyz, small, pose)
    points = points[np.argsort(-depth, kind="stable")]
    uv, _, _ = small.project(scene.points.xyz[points].astype(np.float64) @ pose[:3, :3].T + pose[:3, 3])
    picture = np.full((height, width, 3), 128, np.uint8)
    column, row = uv.astype(int).T
    colours = scene.points.colors
    shown = np.full((len(points), 3), 255, np.uint8) if colours is None else colours[points]
    picture[row.clip(0, height - 1), column.clip(0, width - 1)] = shown
    return picture


def _save(picture: np.ndarray, file: Path) -> None:
    Image.fromarray(picture).save(file, quality=85)
