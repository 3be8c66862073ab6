"""The page of an evaluation: its files, numbers and settings, hostile names, and the colours of error images."""

import dataclasses
import json
import shutil
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from adop.config import NetworkConfig, TrainConfig
from adop.evaluation.pages.evaluated_run import read_evaluation
from adop.evaluation.pages.settings import changed, options
from adop.evaluation.report import Report, error_picture
from support.evaluated_runs import (
    HEIGHT,
    PHOTO,
    RENDER,
    WIDTH,
    ParsedPage,
    flat,
    metric_lines,
    scores_of,
    write_run,
)

HOSTILE = (
    '"><script>alert(1)</script>',
    "<img src=x onerror=alert(1)>.jpg",
    "' onmouseover='alert(1)",
    "a&amp;b&lt;c&#60;.jpg",
    "../../etc/passwd",
    "x" * 300 + ".jpg",
    "umlaut ü 🙂 \u202egpj.exe",
    "line\nbreak\x00 \udcff byte",
    "$\\frac{1}{$.jpg",
    "%2e%2e%2f?query#part.jpg",
)


def page_of(run: Path) -> ParsedPage:
    return ParsedPage(run / "eval" / "index.html")


def test_every_image_that_the_page_shows_is_there(tmp_path: Path):
    run = write_run(tmp_path / "run", ["left/a b.jpg", "right/a b.jpg", "c.png"], metrics=metric_lines(200))
    files = page_of(run).files()
    pictures = {file for file in files if file.endswith(".jpg")}
    assert len(pictures) == 9 and len(files - pictures) == 2 * 2  # loss and PSNR, light and dark
    for file in pictures:
        assert imageio.imread(run / "eval" / file).shape == (HEIGHT, WIDTH, 3)
    assert all((run / "eval" / file).is_file() for file in files)
    assert imageio.imread(run / "eval" / "overview.jpg").shape == (3 * 360, 3 * 480, 3)


def test_the_tables_hold_every_score_with_its_unit(tmp_path: Path):
    run = write_run(tmp_path / "run", ["a", "b"], result={"poses_refined": {"mean": scores_of("refined")}})
    rows = page_of(run).rows
    head = [row for row in rows if row[:2] == ["", "PSNRdB, higher is better"]]
    assert head == [
        ["", "PSNRdB, higher is better", "SSIM0 to 1, higher is better", "FLIP0 to 1, lower is better",
         "edge contrast1 is as sharp as the photo"]
    ]  # fmt: skip
    assert sum(row[1:4] == ["PSNR↑ better, dB", "SSIM↑ better", "FLIP↓ better"] for row in rows) == 2
    scored = [scores_of(name) for name in ("mean", "points", "refined", "run a", "run b")]
    fitted = [row for row in rows if row[0] == "fitted"]
    assert fitted == [
        ["fitted", f"{s['psnr_fitted']:.2f}", f"{s['ssim_fitted']:.3f}", f"{s['flip_fitted']:.3f}",
         f"{s['edge_contrast_fitted']:.2f}"]
        for s in scored
    ]  # fmt: skip
    for label in ("trained", "untrained points", "trained, poses of these photos refined"):
        assert [label] in rows


def test_names_from_files_are_shown_but_are_no_markup(tmp_path: Path):
    """The page has the same elements, with the same attributes, as one with harmless names."""
    few = {"size": (8, 6)}
    harmless = write_run(tmp_path / "run", [f"photo {i}" for i in range(len(HOSTILE))], device="cuda", **few)
    hostile = write_run(
        tmp_path / "<img src=x onerror=alert(2)>",
        list(HOSTILE),
        result={"exposure": {"description": "<b>bold</b>"}, "trained_on": "<i>machine</i>"},
        scene='/x/<svg onload="alert(3)">',
        device="<u>cuda</u>",
        **few,
    )
    pages = [page_of(harmless), page_of(hostile)]
    assert pages[1].tags() == pages[0].tags() and pages[1].attribute_names() == pages[0].attribute_names()
    assert pages[1].tags().count("script") == 1
    assert all((hostile / "eval" / file).is_file() for file in pages[1].files())
    titles = ("<img src=x onerror=alert(2)>", '<svg onload="alert(3)">')
    for shown in (*titles, *HOSTILE[:5], "<b>bold</b>", "<i>machine</i>", "<u>cuda</u>"):
        assert shown in pages[1].text
    assert "line\\nbreak\\x00 \\udcff byte" in pages[1].text and "\\u202egpj.exe" in pages[1].text


def test_the_settings_are_few_and_all_others_are_folded(tmp_path: Path):
    run = write_run(tmp_path / "run", ["a"], batch=8, network=NetworkConfig(width=32), bf16=True)
    page = page_of(run)
    for fact in (
        "1,234,567",
        "8 of 256 × 256 px per step",
        "light decoder, 32 channels wide",
        "10.0 min",
        "one large machine",
    ):
        assert fact in page.text
    assert ["batch", "8", "4"] in page.rows and ["network.width", "32", "24"] in page.rows
    assert ["learn.rolling-shutter", "off"] in page.rows and ["bf16", "on"] in page.rows
    listed = [row[0] for row in page.rows if row[0] in {option.name for option in options(TrainConfig())}]
    assert len(listed) == len(set(listed)) == len(options(TrainConfig())) > 90


def test_a_preset_by_itself_changes_nothing():
    from adop.config import preset

    for name in ("quick", "gpu", "large"):
        assert changed(preset(name)) == []
    assert [o.name for o in changed(dataclasses.replace(preset("gpu"), crop=128))] == ["crop"]


@pytest.mark.parametrize(("count", "warned"), [(1, True), (9, True), (10, False)])
def test_few_held_out_photos_are_said(tmp_path: Path, count: int, warned: bool):
    run = write_run(tmp_path / "run", [f"p{i}" for i in range(count)], size=(8, 6))
    assert ("say little" in page_of(run).text) == warned


def test_empty_plots_are_left_out(tmp_path: Path):
    run = write_run(tmp_path / "run", ["a"], metrics=metric_lines(50))
    assert "Training" not in page_of(run).texts and not any(f.endswith(".svg") for f in page_of(run).files())


def test_a_page_is_valid_while_the_next_is_made_and_then_replaced_whole(tmp_path: Path):
    run = write_run(tmp_path / "run", ["old a", "old b"])
    before, old = (run / "eval" / "index.html").read_text(), page_of(run).files()
    report = Report(run)
    report.add("new", flat(PHOTO), flat(RENDER))
    assert (run / "eval" / "index.html").read_text() == before
    assert all((run / "eval" / file).is_file() for file in old)
    write_run(run, ["new"])
    page = page_of(run)
    assert "new" in page.text and "old a" not in page.text
    pictures = {p.relative_to(run / "eval").as_posix() for p in (run / "eval").rglob("*.jpg")}
    assert pictures == {file for file in page.files() if file.endswith(".jpg")} | {"overview.jpg"}


def test_a_folder_of_a_page_may_be_moved(tmp_path: Path):
    run = write_run(tmp_path / "run", ["a"], metrics=metric_lines(100))
    shutil.move(run / "eval", tmp_path / "elsewhere")
    page = ParsedPage(tmp_path / "elsewhere" / "index.html")
    assert page.files() and all((tmp_path / "elsewhere" / file).is_file() for file in page.files())


def test_a_trained_run_has_its_page(trained_folder: Path):
    run = read_evaluation(trained_folder)
    result = json.loads((trained_folder / "eval" / "eval.json").read_text())
    page = page_of(trained_folder)
    assert f"{run.means['trained']['psnr_fitted']:.2f}" == f"{result['mean']['psnr_fitted']:.2f}"
    assert run.photos[0].name in page.text and f"{result['points']:,}" in page.text
    shares = [photo.covered for photo in run.photos]
    assert all(0.5 < share < 0.99 for share in shares)  # the sky has no points
    assert all(f"Points are drawn in {share:.0%} of this photo." in page.text for share in shares)
    assert {f"plots/{name}.svg" for name in ("exposures", "response", "vignette")} <= page.files()
    assert not any("moves" in file for file in page.files())  # neither cameras nor points are refined there


@pytest.mark.parametrize(
    ("error", "low", "high"),
    [
        (0.0, (0, 0, 0), (20, 0, 0)),
        (0.09, (240, 0, 0), (255, 10, 0)),
        (0.19, (255, 240, 0), (255, 255, 20)),
        (0.25, (255, 255, 255), (255, 255, 255)),
        (0.9, (255, 255, 255), (255, 255, 255)),
    ],
)
def test_error_images_have_the_colours_that_the_scale_shows(error: float, low: Any, high: Any):
    pixels = error_picture(torch.full((3, 2, 4), error), torch.zeros(3, 2, 4))
    assert pixels.shape == (2, 4, 3) and pixels.dtype == np.uint8
    assert (pixels >= low).all() and (pixels <= high).all()
