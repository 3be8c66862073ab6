"""Plots of pages: files for light and for dark pages that differ in their colours alone."""

import re
from functools import partial
from pathlib import Path
from xml.etree import ElementTree

import numpy as np

from adop.evaluation.pages.plot_files import DARK, Plot, remove_plot, write_plot
from adop.evaluation.plots import draw_camera_moves, draw_exposures, draw_point_moves

COLOUR = re.compile("#[0-9a-f]{6}")


def test_a_dark_plot_differs_in_its_colours_alone(tmp_path: Path):
    write_plot(Plot("moves", "x", partial(draw_camera_moves, pixels=[1.0, 2.0, 0.0])), tmp_path)
    light, dark = (tmp_path / "moves.svg").read_text(), (tmp_path / "moves_dark.svg").read_text()
    assert light != dark and COLOUR.sub("", light) == COLOUR.sub("", dark)
    assert set(DARK) & set(COLOUR.findall(light)) and not set(DARK) & set(COLOUR.findall(dark))
    for text in (light, dark):
        assert ElementTree.fromstring(text).tag.endswith("svg")
        assert "#ffffff" not in COLOUR.findall(text)  # no ground of its own
    write_plot(Plot("moves", "x", partial(draw_camera_moves, pixels=[1.0, 2.0, 0.0])), tmp_path)
    assert (tmp_path / "moves.svg").read_text() == light  # the same every time
    remove_plot("moves", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_many_points_and_photos_without_exif_are_drawn(tmp_path: Path):
    learned = np.linspace(-1, 1, 300)
    write_plot(Plot("exposures", "x", partial(draw_exposures, learned=learned, reference=None)), tmp_path)
    write_plot(Plot("points", "x", partial(draw_point_moves, shifts=np.linspace(0, 1, 50_000))), tmp_path)
    assert all(file.stat().st_size < 200_000 for file in tmp_path.iterdir())
