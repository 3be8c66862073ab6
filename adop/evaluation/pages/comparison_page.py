"""The page that shows runs side by side."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from adop.errors import UserError
from adop.evaluation.pages.comparison import Comparison, ScoreRow, score_rows
from adop.evaluation.pages.curves import compared_curves
from adop.evaluation.pages.document import card, fold, table, text, write_page
from adop.evaluation.pages.evaluated_run import Scores
from adop.evaluation.pages.pictures import (
    ERROR_SCALE,
    Picture,
    chooser,
    picture_stem,
    replaced_pictures,
    slider,
    thumbnails,
)
from adop.evaluation.pages.plot_files import SERIES, plot_figure, write_plot
from adop.evaluation.pages.score_tables import option_table, score_terms
from adop.evaluation.tables import few_photos_text, score_text

TITLE = "adop: comparison of runs"
PICTURES_FOLDER = "pictures"
MAX_COLUMNS = 3  # of small pictures
HEAD_BYTES = 4096  # of a page, in which its title stands


def check_output(folder: Path) -> None:
    """Raise UserError where a folder has content that is not an earlier comparison."""
    if folder.exists() and any(folder.iterdir()) and not _is_comparison(folder / "index.html"):
        raise UserError(f"{folder}: is not empty and holds no comparison; choose another --output.")


def _is_comparison(page: Path) -> bool:
    if not page.is_file():
        return False
    with open(page, "rb") as file:
        return f"<title>{TITLE}</title>".encode() in file.read(HEAD_BYTES)


def write_comparison(comparison: Comparison, folder: Path) -> None:
    """Write `index.html` and its pictures into a folder; an earlier comparison there is replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    with replaced_pictures(folder, PICTURES_FOLDER) as pictures:
        write_page(folder / "index.html", TITLE, _body(comparison, pictures))


def _body(comparison: Comparison, pictures: Path) -> str:
    """Write the pictures of the page into their folder, and return what the page shows."""
    one_loss = len({run.config.loss for run in comparison.runs}) == 1
    plots = compared_curves([run.curves for run in comparison.runs], one_loss)
    for plot in plots:
        write_plot(plot, pictures)
    figures = "".join(plot_figure(f"{pictures.name}/{plot.name}", plot.caption) for plot in plots)
    count = len(comparison.photos)
    photos = "1 photo that every run held out" if count == 1 else f"{count} photos that every run held out"
    left_out = "".join(f'<p class="warning">{text(sentence)}</p>' for sentence in comparison.left_out)
    few = few_photos_text(count)
    warning = f'<p class="warning">{text(few)}</p>' if few else ""
    mean = _table(score_rows(comparison.means()), comparison.labels)
    differences = comparison.settings()
    settings = option_table(comparison.labels, differences) if differences else "<p>None differ.</p>"
    body = [
        f"<h1>{text(' · '.join(comparison.labels))}</h1>",
        f'<p class="muted">{len(comparison.runs)} runs, compared by {photos}</p>',
        card(
            f"Scores: mean of {photos}",
            mean + fold("what the words mean", score_terms()) + warning + left_out,
        ),
        "<h2>Settings that differ</h2>" + card("", settings),
        f'<h2>Training</h2>{_legend(comparison.labels)}<div class="plots large">{figures}</div>'
        if figures
        else "",
        "<h2>Photos</h2>",
        "<p>Choose what is left and right of the divider, and move it by mouse, finger or arrow keys. Click a small "
        "picture to enlarge it; there the arrow keys change between the pictures of a photo. The exposure of the renders "
        "is fitted on the photo's left half.</p>",
        *(_photo_section(comparison, number, pictures) for number in range(count)),
    ]
    return "\n".join(body)


def _table(rows: Sequence[ScoreRow], labels: Sequence[str]) -> str:
    """Return scores, a column for each run, the best of each row marked."""
    head = "<tr><th></th>" + "".join(f"<th>{text(label)}</th>" for label in labels) + "</tr>"
    lines, last = [], ""
    for row in rows:
        if row.score != last:
            lines.append(f'<tr class="group"><th colspan="{1 + len(labels)}">{text(row.score)}</th></tr>')
            last = row.score
        cells = (
            f'<td class="best" title="best">{text(cell)}</td>' if i in row.best else f"<td>{text(cell)}</td>"
            for i, cell in enumerate(row.cells)
        )
        lines.append(f"<tr><th>{text(row.picture)}</th>{''.join(cells)}</tr>")
    return table(head, lines)


def _legend(labels: Sequence[str]) -> str:
    """Return which colour of the plots is which run."""
    items = (
        f'<span><i style="background:{SERIES[i % len(SERIES)]}"></i>{text(label)}</span>'
        for i, label in enumerate(labels)
    )
    return f'<p class="legend">{"".join(items)}</p>'


def _photo_section(comparison: Comparison, number: int, folder: Path) -> str:
    """Copy the pictures of a photo, and return its slider, its pictures and its scores."""
    name = comparison.photos[number]
    shown = comparison.photo(name)
    stem = picture_stem(number, name)

    def copied(run: int, kind: str, label: str) -> Picture:
        source = comparison.runs[run].folder / "eval" / shown[run].pictures[kind]
        target = folder / (f"{stem}_photo.jpg" if kind == "photo" else f"{stem}_{kind}_{run}.jpg")
        shutil.copyfile(source, target)
        return Picture(f"{folder.name}/{target.name}", label, shown[run].size)

    photo = copied(0, "photo", "photo")
    renders = [copied(i, "render", label) for i, label in enumerate(comparison.labels)]
    errors = [copied(i, "error", f"error of {label}") for i, label in enumerate(comparison.labels)]
    small = [
        (render, f"{render.label}: {_caption(found.scores)}")
        for render, found in zip(renders, shown, strict=True)
    ]
    small += [(picture, picture.label) for picture in (*errors, photo)]
    choices = [photo, *renders]
    scores = _table(score_rows([found.scores for found in shown]), comparison.labels)
    thumbs = thumbnails(small, name, columns=min(len(shown), MAX_COLUMNS))
    content = (
        f'{chooser(choices, 1, 2)}<div class="columns pair">{slider(choices[1], choices[2], name)}'
        f"<div>{thumbs}{ERROR_SCALE}{fold('scores of this photo', scores)}</div></div>"
    )
    return card(name, content, "photo")


def _caption(scores: Scores) -> str:
    """Return the scores of a picture with fitted exposure, in a few words."""
    psnr, ssim, flip = (score_text(scores, name, "_fitted") for name in ("psnr", "ssim", "flip"))
    return f"PSNR {psnr} dB, SSIM {ssim}, FLIP {flip}"
