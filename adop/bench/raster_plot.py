"""A picture of how the cost grows with the number of points."""

import math
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw, ImageFont

SIZE = (760, 460)
FRAME = (90, 40, 730, 400)  # left, top, right, bottom
INK, GRID, OURS, LINEAR = (30, 30, 30), (222, 222, 222), (20, 90, 170), (200, 90, 40)


def plot_growth(rows: list[dict[str, Any]], file: Path) -> None:
    """Write milliseconds over points, both logarithmic, beside growth in proportion to the points."""
    image = Image.new("RGB", SIZE, "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(14)
    points, times = [row["points"] for row in rows], [row["forward_ms"] for row in rows]
    linear = [times[0] * count / points[0] for count in points]
    x_range, y_range = _decades(points), _decades(times + linear)

    def place(count: float, ms: float) -> tuple[float, float]:
        x = (math.log10(count) - x_range[0]) / (x_range[1] - x_range[0])
        y = (math.log10(ms) - y_range[0]) / (y_range[1] - y_range[0])
        return FRAME[0] + x * (FRAME[2] - FRAME[0]), FRAME[3] - y * (FRAME[3] - FRAME[1])

    for decade in range(x_range[0], x_range[1] + 1):
        x, _ = place(10.0**decade, 10.0 ** y_range[0])
        pen.line((x, FRAME[1], x, FRAME[3]), GRID)
        pen.text((x, FRAME[3] + 6), f"{10**decade:.0e}", INK, font, "ma")
    for decade in range(y_range[0], y_range[1] + 1):
        _, y = place(10.0 ** x_range[0], 10.0**decade)
        pen.line((FRAME[0], y, FRAME[2], y), GRID)
        pen.text((FRAME[0] - 8, y), f"{10.0**decade:g} ms", INK, font, "rm")
    for values, colour, label in ((linear, LINEAR, "in proportion to points"), (times, OURS, "measured")):
        line = [place(*pair) for pair in zip(points, values, strict=True)]
        pen.line(line, colour, 3)
        for x, y in line:
            pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour)
        pen.text((line[-1][0] - 6, line[-1][1] - 20), label, colour, font, "ra")
    pen.text((SIZE[0] / 2, 14), "forward, 960 x 640, level of detail: time over points", INK, font, "mm")
    image.save(file)


def _decades(values: list[float]) -> tuple[int, int]:
    low, high = math.floor(math.log10(min(values)) - 1e-9), math.ceil(math.log10(max(values)) + 1e-9)
    return low, max(high, low + 1)
