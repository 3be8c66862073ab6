"""The depth of a view is that of the surface that its image shows."""

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from adop.images.writers import save_depth_png
from adop.render.camera_path import Frame, pinhole
from adop.render.views import render_views
from support.point_pipeline import point_pipeline

SIDE = 32  # px of the image
NEAR, FAR = 2.0, 6.0  # depth of the surface with gaps, and of the wall behind it
RED, BLUE = (200, 20, 20), (20, 20, 200)


def plane(depth: float, step: int, half_width: float) -> np.ndarray:
    """Return points [N, 3] at a depth, one in every `step`-th column and row of pixels of a square in the centre.

    Args: half_width: of the square, in shares of the image's half width.
    """
    pixels = np.arange(0, SIDE, step) + 0.5
    pixels = pixels[np.abs(pixels - SIDE / 2) < half_width * SIDE / 2]
    u, v = np.meshgrid(pixels, pixels)
    x, y = ((u.ravel() - SIDE / 2) / SIDE * depth, (v.ravel() - SIDE / 2) / SIDE * depth)
    return np.stack([x, y, np.full(x.shape, depth)], axis=1).astype(np.float32)


def test_depth_in_the_gaps_of_a_near_surface_is_that_of_the_surface(tmp_path: Path):
    """A point in every other column and row leaves gaps through which single points of the wall behind are drawn."""
    surface, wall = plane(NEAR, step=2, half_width=0.6), plane(FAR, step=1, half_width=1.0)
    colours = np.array([RED] * len(surface) + [BLUE] * len(wall), np.uint8)
    pipeline = point_pipeline(np.concatenate([surface, wall]), colours, tmp_path)
    camera = pinhole(Frame(np.eye(4), 1.0), SIDE, SIDE, torch.device("cpu"))
    with torch.no_grad():
        finest = pipeline.draw(camera, pipeline.points.features, pipeline.raster).depth[0][0, 0]
    view = render_views(pipeline, camera)[0]
    inner = slice(SIDE // 2 - 6, SIDE // 2 + 6)  # of the surface, away from its outline
    assert float((finest[inner, inner] == FAR).float().mean()) > 0.7  # the gaps
    red, _, blue = view.radiance[:, inner, inner]
    assert bool((red > 4 * blue).all())
    assert bool((view.depth[inner, inner] == NEAR).all())
    assert bool((view.depth[:3] == FAR).all())  # beside the surface, the wall


def test_a_depth_png_has_sixteen_bits_and_says_how_they_become_depth(tmp_path: Path):
    depth = np.random.default_rng(0).uniform(2.5, 40, (20, 30)).astype(np.float32)
    depth[3, 4:9] = np.inf
    save_depth_png(tmp_path / "d.png", depth)
    with Image.open(tmp_path / "d.png") as image:
        assert image.mode == "I;16"
        values, text = np.asarray(image).astype(np.float64), image.text  # type: ignore[attr-defined]
    assert text["unit"] == "scene units" and {"depth", "meaning"} < text.keys()
    near, far = float(text["near"]), float(text["far"])
    known = np.isfinite(depth)
    assert (near, far) == pytest.approx((depth.min(), depth[known].max()))
    assert np.array_equal(values == float(text["no surface"]), ~known)
    decoded = near + (values - 1) / 65534 * (far - near)
    assert np.abs(decoded - depth)[known].max() < 0.51 * (far - near) / 65534
    save_depth_png(tmp_path / "none.png", np.full((4, 5), np.inf, np.float32))
    save_depth_png(tmp_path / "flat.png", np.full((4, 5), 7.0, np.float32))
    with Image.open(tmp_path / "none.png") as none, Image.open(tmp_path / "flat.png") as flat:
        assert not np.asarray(none).any()
        assert (np.asarray(flat) == 1).all() and flat.text["near"] == flat.text["far"] == "7.0"  # type: ignore[attr-defined]
