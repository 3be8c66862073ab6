"""Pictures of a page: where they are written, the slider between two of them, and small ones that a click enlarges."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from adop.evaluation.pages.document import text
from adop.files import write_atomically

ERROR_SCALE = (  # of the colours of error pictures, see `adop.evaluation.report.error_picture`
    '<div class="scale"></div>'
    '<div class="ends"><span>0</span><span>absolute error</span><span>0.25 or more</span></div>'
)
MAX_STEM = 60  # characters of a photo's name that are kept in a file's


@dataclass(frozen=True)
class Picture:
    """A picture of a page."""

    source: str  # path from the page, as `picture_stem` makes them
    label: str  # plain text
    size: tuple[int, int]  # width, height, px


def new_pictures_folder(page: Path, name: str) -> Path:
    """Make and return a folder for the pictures of a page that is written anew; the old page keeps its own until then.

    Args:
        page: the folder of the page.
        name: of the pictures' folder, to which a number is added.
    """
    numbers = [int(old.name.rpartition("-")[2]) for old in page.glob(f"{name}-*") if _is_numbered(old, name)]
    folder = page / f"{name}-{max(numbers, default=0) + 1}"
    folder.mkdir(parents=True)
    return folder


def remove_older_pictures(kept: Path, name: str) -> None:
    """Remove the folders that `new_pictures_folder` has made beside the one that is kept."""
    for folder in kept.parent.glob(f"{name}-*"):
        if folder != kept and _is_numbered(folder, name) and not folder.is_symlink():
            shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def replaced_pictures(page: Path, name: str) -> Iterator[Path]:
    """Yield a new folder for the pictures of a page that is written meanwhile; then older ones are removed.

    After an error the new folder is removed instead. Args: see `new_pictures_folder`.
    """
    folder = new_pictures_folder(page, name)
    try:
        yield folder
    except BaseException:
        shutil.rmtree(folder, ignore_errors=True)
        raise
    remove_older_pictures(folder, name)


def _is_numbered(folder: Path, name: str) -> bool:
    return re.fullmatch(rf"{name}-\d{{1,9}}", folder.name) is not None and folder.is_dir()


def picture_stem(number: int, name: str) -> str:
    """Return the start of the file names of a photo's pictures: only characters that need no escape in an address."""
    return f"{number:03d}_" + re.sub(r"[^A-Za-z0-9._-]", "_", Path(name).stem)[:MAX_STEM]


def write_jpeg(file: Path, pixels: np.ndarray, quality: int = 92) -> None:
    """Write pixels [H, W, 3] uint8 as a JPEG file."""
    write_atomically(
        file,
        lambda temporary: Image.fromarray(pixels).save(temporary, format="JPEG", quality=quality),
    )


def slider(left: Picture, right: Picture, about: str) -> str:
    """Return two pictures of one view, the left one shown left of a divider that pointer and arrow keys move.

    Args: about: what the pictures show, plain text.
    """
    images = "".join(_image(picture, side) for picture, side in ((right, "right"), (left, "left")))
    tags = f'<span class="left">{text(left.label)}</span><span class="right">{text(right.label)}</span>'
    label = f"divider between two pictures of {about}"
    return (
        f'<div class="slider">{images}{tags}'
        f'<input type="range" min="0" max="100" step="any" value="50" aria-label="{text(label)}"></div>'
    )


def chooser(pictures: Sequence[Picture], left: int, right: int) -> str:
    """Return two lists that choose the pictures of the slider in the same section."""

    def picks(side: str, chosen: int) -> str:
        options = "".join(
            f'<option value="{text(picture.source)}"{" selected" if i == chosen else ""}>{text(picture.label)}</option>'
            for i, picture in enumerate(pictures)
        )
        return f'<label>{side}: <select data-side="{side}" autocomplete="off">{options}</select></label>'

    return f'<div class="picks">{picks("left", left)}{picks("right", right)}</div>'


def thumbnails(pictures: Sequence[tuple[Picture, str]], about: str, columns: int) -> str:
    """Return small pictures with captions (plain text), which a click enlarges.

    Args:
        about: what the pictures show, plain text.
        columns: how many stand beside each other.
    """
    figures = "".join(
        f'<figure><a class="enlarge" href="{text(picture.source)}" title="{text(f"{about}: {picture.label}")}">'
        f"{_image(picture)}</a><figcaption>{text(caption)}</figcaption></figure>"
        for picture, caption in pictures
    )
    return f'<div class="thumbs" style="--columns: {columns}">{figures}</div>'


def _image(picture: Picture, kind: str = "") -> str:
    width, height = picture.size
    named = f' class="{kind}"' if kind else ""
    return (
        f'<img{named} src="{text(picture.source)}" alt="{text(picture.label)}" width="{width}" height="{height}" '
        'loading="lazy">'
    )
