"""Tables of scores in HTML, with units and with what is better."""

from __future__ import annotations

from collections.abc import Sequence

from adop.evaluation.pages.document import table, terms, text
from adop.evaluation.pages.evaluated_run import Scores
from adop.evaluation.tables import EXPLANATIONS, PICTURES, SCORES, UNITS, score_text

SHORT_UNITS = {
    "psnr": "↑ better, dB",
    "ssim": "↑ better",
    "flip": "↓ better",
    "edge_contrast": "1: as sharp",
}
METRICS = (
    ("PSNR", "how small the squared error of the pixels is."),
    ("SSIM", "how alike the structure in small windows is."),
    ("FLIP", "how much a viewer sees of the difference, at 67 pixels per degree; 0 is nothing."),
    (
        "edge contrast",
        "the render's contrast at the photo's edges, over the photo's; less than 1 is blurred.",
    ),
)


def mean_table(groups: dict[str, Scores]) -> str:
    """Return the mean scores of the held-out photos, by what was scored, and what the words in it mean."""
    rows = []
    for label, scores in groups.items():
        rows.append(f'<tr class="group"><th colspan="{1 + len(SCORES)}">{text(label)}</th></tr>')
        rows += _rows(scores)
    return table(_head(UNITS), rows) + score_terms()


def photo_table(scores: Scores) -> str:
    """Return the scores of one photo."""
    return table(_head(SHORT_UNITS), _rows(scores))


def score_terms() -> str:
    """Return what the names of the pictures and of the scores mean, a sentence each."""
    return terms([*((title, EXPLANATIONS[picture]) for picture, title in PICTURES.items()), *METRICS])


def _head(units: dict[str, str]) -> str:
    cells = (f"<th>{text(title)}<small>{text(units[name])}</small></th>" for name, title in SCORES.items())
    return f"<tr><td></td>{''.join(cells)}</tr>"


def _rows(scores: Scores) -> list[str]:
    """Return a row for each picture."""
    return [
        f"<tr><th>{text(title)}</th>"
        + "".join(f"<td>{score_text(scores, name, picture)}</td>" for name in SCORES)
        + "</tr>"
        for picture, title in PICTURES.items()
    ]


def option_table(columns: Sequence[str], rows: Sequence[tuple[str, Sequence[str]]]) -> str:
    """Return a table of options: a row for each, with a value in each column; all plain text."""
    head = "<tr><th>option</th>" + "".join(f"<th>{text(name)}</th>" for name in columns) + "</tr>"
    lines = (
        f"<tr><th><code>{text(name)}</code></th>" + "".join(f"<td>{text(v)}</td>" for v in values) + "</tr>"
        for name, values in rows
    )
    return table(head, lines)
