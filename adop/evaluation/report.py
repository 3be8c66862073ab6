"""The page of held-out photos: photo, render and error side by side."""

from __future__ import annotations

import html
import re
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from adop.files import write_atomically
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
STRIPS = 3  # photos in overview.jpg


def error_picture(render: Tensor, photo: Tensor) -> np.ndarray:
    """Return [H, W, 3] uint8: mean absolute error, black at 0 through red and yellow to white at 0.25."""
    error = ((render - photo).abs().mean(0) * 4).clamp(0, 1).cpu().numpy()
    channels = [np.clip(3 * error - i, 0, 1) for i in range(3)]
    return (np.stack(channels, axis=-1) * 255).astype(np.uint8)


class Report:
    """Collect the views of an evaluation in `folder`, then write `index.html` and `overview.jpg`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.names: dict[str, str] = {}
        self.strips: list[np.ndarray] = []
        (folder / "photos").mkdir(parents=True, exist_ok=True)

    def add(self, score: Any, view: Any) -> None:
        """Write the three pictures of one photo."""
        stem = f"{len(self.names):03d}_" + re.sub(r"[^A-Za-z0-9._-]", "_", Path(score.photo).stem)
        self.names[score.photo] = stem
        pictures = {
            "photo": to_uint8(view.photo),
            "render": to_uint8(view.fitted),
            "error": error_picture(view.fitted, view.photo),
        }
        for kind, pixels in pictures.items():
            Image.fromarray(pixels).save(self.folder / "photos" / f"{stem}_{kind}.jpg", quality=92)
        if len(self.strips) < STRIPS:
            height, width = pictures["photo"].shape[:2]
            size = (480, round(480 * height / width))
            row = [
                np.asarray(Image.fromarray(p).resize(size, Image.Resampling.LANCZOS))
                for p in pictures.values()
            ]
            self.strips.append(np.concatenate(row, axis=1))

    def write(self, result: dict[str, Any]) -> None:
        """Write the page: the means against the untrained points, then every photo."""
        columns = ("psnr", "psnr_exif", "psnr_fitted", "ssim", "ssim_fitted")
        titles = ("PSNR", "PSNR EXIF", "PSNR fitted", "SSIM", "SSIM fitted")

        def row(name: str, values: dict[str, Any]) -> str:
            cells = "".join(f"<td>{values[c]:.{2 if 'psnr' in c else 4}f}</td>" for c in columns)
            return f"<tr><td>{html.escape(name)}</td>{cells}</tr>"

        head = "<tr><th></th>" + "".join(f"<th>{t}</th>" for t in titles) + "</tr>"
        rows = row("trained", result["mean"]) + row("points, untrained", result["baseline_points"])
        if "poses_refined" in result:
            rows += row("trained, poses of these photos refined", result["poses_refined"]["mean"])
        parts = [f"<table>{head}{rows}</table>"]
        for plot in ("camera.png", "moves.png"):
            if (self.folder / plot).is_file():
                parts.append(f'<img class="plot" src="{plot}">')
        for score in result["photos"]:
            stem = self.names[score["photo"]]
            figures = "".join(
                f'<figure><img src="photos/{stem}_{kind}.jpg" loading="lazy"><figcaption>{caption}</figcaption></figure>'
                for kind, caption in (
                    ("photo", "photo, never trained on"),
                    ("render", "render, exposure fitted on the left half"),
                    ("error", "error: black 0, red .08, yellow .17, white .25"),
                )
            )
            title = f"{html.escape(score['photo'])}: {score['psnr_fitted']:.2f} dB"
            parts.append(f'<h2>{title}</h2><div class="row">{figures}</div>')
        note = (
            "Photos held out of training. PSNR and SSIM use the exposure that EXIF and the trained photos taken before "
            "and after suggest, PSNR EXIF that of EXIF alone; the fitted scores fit exposure and white balance on the "
            "left half of the photo and count its right half."
        )
        page = (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>adop: held-out photos</title>'
            f"<style>{STYLE}</style><h1>Held-out photos</h1><p class=note>{note}</p>{''.join(parts)}</html>\n"
        )
        Image.fromarray(np.concatenate(self.strips)).save(self.folder / "overview.jpg", quality=88)
        write_atomically(self.folder / "index.html", lambda path: path.write_text(page))
