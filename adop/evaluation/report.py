"""The page of an evaluation: scores, settings, curves, and of each held-out photo the photo, its render and the error."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from matplotlib import colormaps
from PIL import Image
from torch import Tensor

from adop.evaluation.pages.curves import run_curves
from adop.evaluation.pages.document import card, facts, fold, text, write_page
from adop.evaluation.pages.evaluated_run import KINDS, EvaluatedPhoto, EvaluatedRun, read_evaluation
from adop.evaluation.pages.pictures import (
    ERROR_SCALE,
    Picture,
    new_pictures_folder,
    picture_stem,
    remove_older_pictures,
    slider,
    thumbnails,
    write_jpeg,
)
from adop.evaluation.pages.plot_files import plot_figure, write_plot
from adop.evaluation.pages.score_tables import mean_table, option_table, photo_table
from adop.evaluation.pages.settings import changed, options
from adop.evaluation.run_plots import CAPTIONS
from adop.evaluation.tables import covered_text, few_photos_text, flicker_text
from adop.images.writers import to_uint8

MAX_SHOWN_ERROR = 0.25  # absolute error that error images show white
OVERVIEW_PHOTOS, OVERVIEW_WIDTH = 3, 480  # rows of overview.jpg, and pixels of each of its images
PICTURES_FOLDER = "photos"
PLOTS_FOLDER = "plots"


def error_picture(render: Tensor, photo: Tensor) -> np.ndarray:
    """Return [H, W, 3] uint8 of the mean absolute error of images [3, H, W]: black at 0, red, yellow, white at 0.25."""
    error = (render - photo).abs().mean(0) / MAX_SHOWN_ERROR
    return colormaps["hot"](error.cpu().numpy(), bytes=True)[..., :3]


class Report:
    """Collect the images of a run's evaluation, then write `index.html` and `overview.jpg` into the folder `eval`.

    Until then the page of an earlier evaluation stays as it is; after that nothing of it is left.
    """

    def __init__(self, run: Path) -> None:
        self.run = run
        self.pictures: dict[
            str, dict[str, str]
        ] = {}  # name of a photo -> paths of its pictures from the page
        self._folder = new_pictures_folder(run / "eval", PICTURES_FOLDER)
        self._strips: list[np.ndarray] = []  # [h, w, 3] uint8, the first photos' images side by side

    def add(self, name: str, photo: Tensor, render: Tensor) -> None:
        """Write photo, render and error of the photo of that name, from images [3, H, W] in [0, 1]."""
        stem = picture_stem(len(self.pictures), name)
        pixels = {
            "photo": to_uint8(photo),
            "render": to_uint8(render),
            "error": error_picture(render, photo),
        }
        for kind, image in pixels.items():
            write_jpeg(self._folder / f"{stem}_{kind}.jpg", image)
        self.pictures[name] = {kind: f"{self._folder.name}/{stem}_{kind}.jpg" for kind in pixels}
        if len(self._strips) < OVERVIEW_PHOTOS:
            height, width = pixels["photo"].shape[:2]
            size = (OVERVIEW_WIDTH, max(1, round(OVERVIEW_WIDTH * height / width)))
            row = [Image.fromarray(image).resize(size, Image.Resampling.LANCZOS) for image in pixels.values()]
            self._strips.append(np.concatenate([np.asarray(image) for image in row], axis=1))

    def write(self) -> None:
        """Write the page of what `eval.json` and the run's folder hold now."""
        write_jpeg(self.run / "eval" / "overview.jpg", np.concatenate(self._strips), quality=88)
        write_run_page(self.run)
        remove_older_pictures(self._folder, PICTURES_FOLDER)


def write_run_page(folder: Path) -> None:
    """Write `eval/index.html` of a run that was evaluated."""
    run = read_evaluation(folder)
    plots = folder / "eval" / PLOTS_FOLDER
    plots.mkdir(exist_ok=True)
    captions = {plot.name: plot.caption for plot in run_curves(run.curves)}
    for plot in run_curves(run.curves):
        write_plot(plot, plots)
    captions |= {name: caption for name, caption in CAPTIONS.items() if (plots / f"{name}.svg").is_file()}
    figures = "".join(plot_figure(f"{PLOTS_FOLDER}/{name}", caption) for name, caption in captions.items())
    count = f"{len(run.photos)} held-out photo{'s' if len(run.photos) != 1 else ''}"
    body = [
        f"<h1>{text(run.name)}</h1>",
        f'<p class="muted">{count} of {text(run.scene)}, rendered after {run.step:,} training steps</p>',
        '<div class="columns scores">',
        card(f"Scores: mean of {count}", mean_table(run.means) + _notes(run)),
        card("Settings", facts(run.facts()) + _options(run)),
        "</div>",
        f'<h2>Training</h2><div class="plots">{figures}</div>' if figures else "",
        "<h2>Held-out photos</h2>",
        "<p>Move the divider by mouse, finger or arrow keys. Click a small picture to enlarge it; there the arrow keys "
        "change between photo, render and error.</p>",
        *(_photo_section(photo) for photo in run.photos),
    ]
    write_page(folder / "eval" / "index.html", f"adop: {run.name}", "\n".join(body))


def _notes(run: EvaluatedRun) -> str:
    """Return the sentences below the scores: how much they say, how exposure was predicted, flicker."""
    few = few_photos_text(len(run.photos))
    warning = f'<p class="warning">{text(few)}</p>' if few else ""
    sentences = [f"{note}." for note in run.notes]
    if run.flicker is not None:
        sentences.append(f"{flicker_text(run.flicker)}; 0 is none, lower is better.")
    return warning + "".join(
        f'<p class="muted">{text(sentence[:1].upper() + sentence[1:])}</p>' for sentence in sentences
    )


def _options(run: EvaluatedRun) -> str:
    """Return the options that differ from the preset's, and all others in a fold."""
    own = changed(run.config)
    rows = [(option.name, (option.value, option.default)) for option in own]
    shown = option_table(("here", f"preset {run.config.preset}"), rows) if rows else ""
    others = [(option.name, (option.value,)) for option in options(run.config) if option not in own]
    title = "Options that differ from the preset:" if rows else "All options are the preset's."
    folded = fold(f"{'the other' if rows else 'all'} {len(others)} options", option_table(("value",), others))
    return f"<p><small>{text(title)}</small></p>{shown}{folded}"


def _photo_section(photo: EvaluatedPhoto) -> str:
    """Return the slider, the pictures and the scores of one photo."""
    pictures = {kind: Picture(photo.pictures[kind], kind, photo.size) for kind in KINDS}
    captions = ("photo", "render, exposure fitted", "error")
    small = thumbnails(list(zip(pictures.values(), captions, strict=True)), photo.name, columns=3)
    covered = "" if photo.covered is None else f"<p><small>{text(covered_text(photo.covered))}</small></p>"
    content = (
        f'<div class="columns pair">{slider(pictures["photo"], pictures["render"], photo.name)}'
        f"<div>{small}{ERROR_SCALE}{photo_table(photo.scores)}{covered}</div></div>"
    )
    return card(photo.name, content, "photo")
