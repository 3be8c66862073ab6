"""HTML report on the held-out photos: mean scores; photo, render and error side by side."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from adop.evaluation.tables import PICTURES, SCORES, groups, score_text
from adop.files import write_text
from adop.images.writers import to_uint8

STYLE = """
body { font: 15px/1.45 system-ui, sans-serif; margin: 2rem auto; max-width: 1500px; padding: 0 1rem; color: #222 }
table { border-collapse: collapse; margin: 1rem 0 } td, th { padding: .25rem .8rem; text-align: right }
th { border-bottom: 1px solid #999 } td:first-child, th:first-child { text-align: left }
.row { display: grid; grid-template-columns: repeat(3, 1fr); gap: 6px; margin: .3rem 0 1.6rem }
.row img { width: 100%; display: block } figure { margin: 0 } figcaption { color: #666; font-size: 13px }
.plot { width: 100%; max-width: 1200px; display: block }
h2 { font-size: 16px; margin: 1.4rem 0 .2rem } .note { color: #555; max-width: 60rem }
"""
NOTE = (
    "These photos were held out of training. The plain picture has the exposure and white balance that are "
    "predicted without the photo. For the fitted one, exposure and white balance are fitted on the left half "
    "of the photo, and its right half is scored. The colour-corrected one is the plain one after the affine map of its "
    "colours that fits the whole photo best. FLIP is 0 where no difference is visible. Edge contrast is the render's "
    "contrast at the photo's edges, relative to the photo's: 1 is as sharp, less is blurred."
)
CAPTIONS = {
    "photo": "photo, held out of training",
    "render": "render, exposure fitted on the left half",
    "error": "absolute error: black 0, red .09, yellow .19, white .25 or more",
}
MAX_SHOWN_ERROR = 0.25  # absolute error that error images show white
OVERVIEW_PHOTOS, OVERVIEW_WIDTH = 3, 480  # rows of overview.jpg, and pixels of each of its images


def error_picture(render: Tensor, photo: Tensor) -> np.ndarray:
    """Return [H, W, 3] uint8 of the mean absolute error of images [3, H, W]: black at 0, red, yellow, white at 0.25."""
    error = (render - photo).abs().mean(0) / MAX_SHOWN_ERROR
    return colormaps["hot"](error.cpu().numpy(), bytes=True)[..., :3]


class Report:
    """Collect the images of an evaluation in `folder`, then write `index.html` and `overview.jpg`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.stems: dict[str, str] = {}  # name of a photo -> start of its images' file names
        self.strips: list[np.ndarray] = []  # [h, w, 3] uint8, the first photos' images side by side
        (folder / "photos").mkdir(parents=True, exist_ok=True)

    def add(self, name: str, photo: Tensor, render: Tensor) -> None:
        """Write photo, render and error of the photo of that name, from images [3, H, W] in [0, 1]."""
        stem = f"{len(self.stems):03d}_" + re.sub(r"[^A-Za-z0-9._-]", "_", Path(name).stem)
        self.stems[name] = stem
        pixels = {
            "photo": to_uint8(photo),
            "render": to_uint8(render),
            "error": error_picture(render, photo),
        }
        for kind, image in pixels.items():
            Image.fromarray(image).save(self.folder / "photos" / f"{stem}_{kind}.jpg", quality=92)
        if len(self.strips) < OVERVIEW_PHOTOS:
            height, width = pixels["photo"].shape[:2]
            size = (OVERVIEW_WIDTH, round(OVERVIEW_WIDTH * height / width))
            row = [Image.fromarray(image).resize(size, Image.Resampling.LANCZOS) for image in pixels.values()]
            self.strips.append(np.concatenate([np.asarray(image) for image in row], axis=1))

    def write(self, result: dict[str, Any]) -> None:
        """Write the page: a table of mean scores, the plots of the run, then every photo.

        Args:
            result: the contents of `eval.json`.
        """
        plots = [name for name in ("camera.png", "moves.png") if (self.folder / name).is_file()]
        body = [
            "<h1>Held-out photos</h1>",
            f'<p class="note">{NOTE}</p>',
            *_exposure_note(result),
            _table(result),
            *(f'<img class="plot" src="{name}" alt="">' for name in plots),
            *(_photo_section(self.stems[score["photo"]], score) for score in result["photos"]),
        ]
        page = (
            '<!doctype html><html lang="en"><meta charset="utf-8"><title>adop: held-out photos</title>'
            f"<style>{STYLE}</style>{''.join(body)}</html>\n"
        )
        Image.fromarray(np.concatenate(self.strips)).save(self.folder / "overview.jpg", quality=88)
        write_text(self.folder / "index.html", page)


def _exposure_note(result: dict[str, Any]) -> list[str]:
    """Return the paragraph on how exposure was predicted, if the result says so."""
    description = result.get("exposure", {}).get("description")
    return [] if description is None else [f'<p class="note">{html.escape(description)}.</p>']


def _table(result: dict[str, Any]) -> str:
    """Return the table of mean scores: a row for each picture, of what was trained and what not."""
    lines = ["<tr><th></th>" + "".join(f"<th>{title}</th>" for title in SCORES.values()) + "</tr>"]
    for label, scores in groups(result).items():
        for picture, title in PICTURES.items():
            cells = "".join(f"<td>{score_text(scores, name, picture)}</td>" for name in SCORES)
            lines.append(f"<tr><td>{label}, {title}</td>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _photo_section(stem: str, score: dict[str, Any]) -> str:
    """Return the heading and the images of one photo."""
    figures = "".join(
        f'<figure><img src="photos/{stem}_{kind}.jpg" alt="" loading="lazy"><figcaption>{caption}</figcaption></figure>'
        for kind, caption in CAPTIONS.items()
    )
    title = f"{html.escape(score['photo'])}: {score['psnr_fitted']:.2f} dB"
    return f'<h2>{title}</h2><div class="row">{figures}</div>'
