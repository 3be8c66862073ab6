"""The HTML report: its files, its table, and the colours of error images."""

import re
from pathlib import Path
from typing import Any

import imageio.v3 as imageio
import numpy as np
import pytest
import torch

from adop.evaluation.report import Report, error_picture

SCORES = {
    f"{name}{picture}": value + 0.01 * step
    for name, value in {"psnr": 20.0, "ssim": 0.7, "flip": 0.2, "edge_contrast": 0.8}.items()
    for step, picture in enumerate(("", "_fitted", "_corrected"))
}


def write_report(folder: Path, names: list[str], **more: Any) -> str:
    """Write a report of grey photos and white renders; return the page."""
    report = Report(folder)
    for name in names:
        report.add(name, torch.full((3, 12, 16), 0.5), torch.ones(3, 12, 16))
    photos = [{"photo": name, **SCORES} for name in names]
    report.write({"mean": SCORES, "baseline_points": SCORES, "photos": photos, **more})
    return (folder / "index.html").read_text()


def test_every_image_that_the_page_shows_is_there(tmp_path: Path):
    names = ["left/a b.jpg", "right/a b.jpg", "<c>.png"]
    page = write_report(tmp_path, names)
    sources = re.findall(r'src="([^"]+)"', page)
    assert len(set(sources)) == 9
    for source in sources:
        assert imageio.imread(tmp_path / source).shape == (12, 16, 3)
    assert "&lt;c&gt;.png: 20.01 dB" in page and "<c>" not in page
    assert imageio.imread(tmp_path / "overview.jpg").shape == (3 * 360, 3 * 480, 3)


def test_the_table_has_a_row_for_each_kind_of_score(tmp_path: Path):
    def rows(page: str) -> list[str]:
        return re.findall(r"<tr><td>([^<]+)</td>", page)

    pictures = ("plain", "fitted", "colour-corrected")
    labels = [f"{name}, {picture}" for name in ("trained", "untrained points") for picture in pictures]
    assert rows(write_report(tmp_path / "plain", ["a"])) == labels
    refined = write_report(tmp_path / "refined", ["a"], poses_refined={"mean": SCORES})
    assert rows(refined)[6:] == [f"trained, poses of these photos refined, {picture}" for picture in pictures]
    assert refined.count("<td>20.00</td>") == 3 and refined.count("<td>0.710</td>") == 3


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
def test_error_images_have_the_colours_that_the_caption_names(error: float, low: Any, high: Any):
    pixels = error_picture(torch.full((3, 2, 4), error), torch.zeros(3, 2, 4))
    assert pixels.shape == (2, 4, 3) and pixels.dtype == np.uint8
    assert (pixels >= low).all() and (pixels <= high).all()
