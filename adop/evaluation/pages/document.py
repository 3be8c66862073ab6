"""What the pages of results share: the document around them, escaped texts, tables, and lists of facts."""

from __future__ import annotations

import base64
import hashlib
import html
from collections.abc import Iterable
from pathlib import Path

from adop.errors import printable
from adop.files import write_text

ASSETS = Path(__file__).parent
ENLARGED = (
    '<dialog aria-label="enlarged picture"><div class="view"><img alt=""></div><div class="bar">'
    '<button class="previous" aria-label="previous picture">←</button><span></span>'
    '<button class="next" aria-label="next picture">→</button><button class="close">Close</button></div></dialog>'
)


def text(value: object) -> str:
    """Return a text for HTML, in an element or in quotes: nothing in it is markup, whatever file or folder it is from."""
    return html.escape(printable(value))


def write_page(file: Path, title: str, body: str) -> None:
    """Write a page with its style and script in it, whole or not at all.

    The page's own rules forbid any other script, and everything that is not an image beside it.

    Args:
        title: plain text; it is escaped here.
        body: HTML.
    """
    style = (ASSETS / "style.css").read_text(encoding="utf-8")
    script = (ASSETS / "page.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    rules = (
        f"default-src 'none'; img-src 'self' file:; style-src 'unsafe-inline'; script-src 'sha256-{digest}'"
    )
    write_text(
        file,
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{rules}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{text(title)}</title>\n<style>\n{style}</style>\n</head>\n"
        f"<body>\n{body}\n{ENLARGED}\n<script>{script}</script>\n</body>\n</html>\n",
    )


def table(head: str, rows: Iterable[str]) -> str:
    """Return a table of HTML rows, which scrolls sideways where it is wider than the page."""
    return f'<div class="scroll"><table><thead>{head}</thead><tbody>{"".join(rows)}</tbody></table></div>'


def facts(pairs: Iterable[tuple[str, str]]) -> str:
    """Return a list of names and values, both plain text."""
    return "<dl>" + "".join(f"<dt>{text(name)}</dt><dd>{text(value)}</dd>" for name, value in pairs) + "</dl>"


def terms(pairs: Iterable[tuple[str, str]]) -> str:
    """Return words with a sentence that explains each, both plain text."""
    items = (f"<div><dt>{text(term)}:</dt> <dd>{text(sentence)}</dd></div>" for term, sentence in pairs)
    return f'<dl class="terms">{"".join(items)}</dl>'


def fold(summary: str, content: str) -> str:
    """Return content (HTML) that opens by a click on its summary (plain text)."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def card(title: str, content: str, kind: str = "") -> str:
    """Return a box with a heading (plain text) around content (HTML)."""
    heading = f"<h3>{text(title)}</h3>" if title else ""
    return f'<section class="card {kind}">{heading}{content}</section>'
