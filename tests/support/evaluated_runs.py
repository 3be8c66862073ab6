"""Runs that were evaluated, made of coloured pictures without any training, and a parser of pages of results."""

from __future__ import annotations

import json
import zlib
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import torch

from adop.config import TrainConfig, save_config
from adop.evaluation.report import Report
from adop.evaluation.tables import DECIMALS, PICTURES

WIDTH, HEIGHT = 160, 120  # px of the pictures
PHOTO, RENDER = (0.8, 0.2, 0.2), (0.2, 0.7, 0.2)  # their colours
VOID = {"meta", "img", "input", "br", "source"}  # elements without an end


def scores_of(name: str) -> dict[str, float]:
    """Return scores as in eval.json, other ones for every name."""
    start = {"psnr": 20.0, "ssim": 0.7, "flip": 0.2, "edge_contrast": 0.8}
    rng = np.random.default_rng(zlib.crc32(name.encode("utf-8", "replace")))
    return {f"{score}{end}": start[score] * rng.uniform(0.9, 1.1) for score in DECIMALS for end in PICTURES}


def flat(colour: tuple[float, float, float], size: tuple[int, int] = (WIDTH, HEIGHT)) -> torch.Tensor:
    """Return an image [3, H, W] of one colour."""
    return torch.tensor(colour)[:, None, None].expand(3, size[1], size[0]).contiguous()


def metric_lines(steps: int, seconds_per_step: float | None = 0.5) -> str:
    """Return the lines of a metrics.jsonl, with a held-out score at step 100."""
    lines = []
    for step in range(50, steps + 1, 50):
        row: dict[str, Any] = {"step": step, "kind": "train", "loss": 10 / step, "psnr": 15 + step / 100}
        lines.append(json.dumps(row | ({"seconds": seconds_per_step * step} if seconds_per_step else {})))
    return "\n".join([*lines, json.dumps({"step": 100, "kind": "held_out", "psnr_fitted": 17.5})]) + "\n"


def write_run(folder: Path, names: list[str], trained: tuple[str, ...] = ("t0", "t1"), **more: Any) -> Path:
    """Write a run folder with its evaluation and its page.

    Args:
        names, trained: of its held-out photos, and of those that it was trained on.
        more: "size" of the photos, "photo" their colour, "metrics" the text of metrics.jsonl, "result" what eval.json
            has beside or instead of what it would have; else options of the configuration.
    """
    size, photo = more.pop("size", (WIDTH, HEIGHT)), more.pop("photo", PHOTO)
    metrics, others = more.pop("metrics", ""), more.pop("result", {})
    folder.mkdir(parents=True, exist_ok=True)
    save_config(TrainConfig(**{"scene": "/somewhere/square"} | more), folder / "config.json")
    (folder / "metrics.jsonl").write_text(metrics)
    report = Report(folder)
    for name in names:
        report.add(name, flat(photo, size), flat(RENDER, size))
    photos = [
        {"photo": name, **scores_of(f"{folder.name} {name}"), "pictures": report.pictures[name]}
        for name in names
    ]
    result = {
        "mean": scores_of("mean"),
        "baseline_points": scores_of("points") | {"photos": []},
        "photos": photos,
        "protocol": {"held_out": names, "trained": list(trained)},
        "exposure": {"description": "exposure of new views: as the photos before and after"},
        "step": 1200,
        "seconds": 600.0,
        "points": 1_234_567,
        "trained_on": "one large machine",
        "evaluated_on": "another machine",
    }
    (folder / "eval" / "eval.json").write_text(json.dumps(result | others))
    report.write()
    return folder


class ParsedPage(HTMLParser):
    """A page, parsed as a browser does: its elements, its texts and the files that it names."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []  # the tag, and its attributes
        self.texts: list[str] = []
        self.rows: list[list[str]] = []  # of all tables: the text of each cell
        self._open: list[str] = []
        self.feed(file.read_text(encoding="utf-8"))
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        """Note an element."""
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")

    def handle_endtag(self, tag: str) -> None:
        """Check that elements end in the order in which they began."""
        assert self._open.pop() == tag

    def handle_data(self, data: str) -> None:
        """Note a text."""
        if self._open and self._open[-1] not in ("style", "script"):
            self.texts.append(data)
            if {"td", "th"} & set(self._open):
                self.rows[-1][-1] += data

    @property
    def text(self) -> str:
        """All that a reader sees."""
        return " ".join(" ".join(self.texts).split())

    def tags(self) -> list[str]:
        """Return the kind of each element."""
        return [tag for tag, _ in self.elements]

    def attribute_names(self) -> set[str]:
        """Return the names of all attributes."""
        return {name for _, values in self.elements for name in values}

    def files(self) -> set[str]:
        """Return every file that the page names."""
        names = ("src", "href", "srcset")
        found = {values[name] for _, values in self.elements for name in names if name in values}
        found |= {values["value"] for tag, values in self.elements if tag == "option"}
        return {file for file in found if file}
